"""AdaptFormer, LoRA and the multi-modal adapter against restatements, on towers by frame and joint ones."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain import plain_block
from tests.tolerance import assert_same_bits, assert_same_but_rounding
from vlbench.backbones import TinyCLIP, ViCLIP
from vlbench.backbones.base import Capabilities
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import MMA, MSTA, AdaptFormer, EfficientPrompt, LoRA
from vlbench.methods.lora.attention import LowRankAttention

NAMES = ("a red ball rising", "a blue box falling", "a green net standing still")


def small():
    torch.manual_seed(0)
    return ViCLIP("small", sizes=ViCLIPSizes(24, 32, 16, 32, 3, 2, 16, 3, 2, frames=4))


BOTH = pytest.mark.parametrize("make", [TinyCLIP, small], ids=["clip", "viclip"])


def clips():
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


def batch():
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (3, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ClipBatch(video, torch.tensor([0, 2, 1]), ["a", "b", "c"], {})


def begun(method):
    method.train_classes = ClassList(NAMES, (0, 1, 2), NAMES, None)
    method.on_fit_start()
    return method


def moved(method):
    """The method with other values of all that trains."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return method


@BOTH
@pytest.mark.parametrize("kind", [AdaptFormer, LoRA])
def test_a_training_begins_with_the_frozen_backbone(make, kind):
    method = kind(make()).double().eval()
    backbone = method.backbone
    with torch.no_grad():
        frozen = backbone.encode_frames(clips(), adapted=False)
        assert_same_but_rounding(backbone.encode_frames(clips()), frozen)
        texts = backbone.encode_texts(NAMES, adapted=False)
        assert_same_but_rounding(backbone.encode_texts(NAMES), texts)
        assert not torch.allclose(moved(method).backbone.encode_frames(clips()), frozen, atol=1e-3)


@BOTH
def test_an_adaptformer_block_is_its_equation(make):
    method = moved(AdaptFormer(make(), bottleneck=8, scale=0.3).double().eval())
    backbone, visual = method.backbone, method.backbone.visual
    adapters = [block.adapter for block in backbone.image.blocks]
    loaded = [plain_block_of(block) for block in backbone.image._loaded]
    with torch.no_grad():
        joint = not backbone.capabilities.frames_encoded_one_by_one
        x = visual.embed(clips() if joint else clips().flatten(0, 1))
        for block, adapter in zip(loaded, adapters, strict=True):
            z = x + block.attention(block.ln_1(x))
            h = torch.relu(z @ adapter.down.weight.T + adapter.down.bias)
            x = z + block.mlp(block.ln_2(z)) + 0.3 * (h @ adapter.up.weight.T + adapter.up.bias)
        features = visual.ln_post(x[:, 0]) @ visual.proj
        expected = features.view(2, 1 if joint else 4, -1)
        assert torch.allclose(backbone.encode_frames(clips()), expected, atol=1e-9)
        video = F.normalize(expected.mean(dim=1), dim=-1)
        assert torch.allclose(method.encode_video(clips()), video, atol=1e-9)


def plain_block_of(block):
    return plain_block(block).double()


@BOTH
@pytest.mark.parametrize(
    ("parts", "scaling", "scale"), [("qv", "rank", 0.5), ("qkvo", "sqrt_rank", 1.0), ("o", "rank", 0.5)]
)
def test_terms_are_products_added_to_the_weights(make, parts, scaling, scale):
    """Every projection by hand: of a whole backbone whose weights are W + s B A."""
    method = moved(LoRA(make(), rank=4, alpha=2.0, parts=parts, scaling=scaling).double().eval())
    merged = make().double().eval()
    for tower, own in ((merged.image, method.backbone.image), (merged.text, method.backbone.text)):
        for block, adapted in zip(tower.blocks, own.blocks, strict=True):
            attention, width = block.attention, tower.width
            with torch.no_grad():
                for part, term in adapted.attention.terms().items():
                    product = scale * term.up.weight @ term.down.weight
                    if part == "o":
                        attention.out_proj.weight += product
                    else:
                        first = "qkv".index(part) * width
                        attention.in_proj_weight[first : first + width] += product
    assert set(method.backbone.image.blocks[0].attention.terms()) == set(parts)
    with torch.no_grad():
        expected = merged.encode_frames(clips()), merged.encode_texts(NAMES)
        for inside in (False, True):
            if inside:
                with method.evaluation_weights():
                    found = method.backbone.encode_frames(clips()), method.backbone.encode_texts(NAMES)
            else:
                found = method.backbone.encode_frames(clips()), method.backbone.encode_texts(NAMES)
            for one, other in zip(found, expected, strict=True):
                assert torch.allclose(one, other, atol=1e-10)


def test_merging_leaves_nothing_behind_also_after_an_error():
    method = moved(LoRA(TinyCLIP(), parts="qkvo")).eval()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    weights = dict(method.named_parameters())
    terms = [term for attention in method.attentions() for term in attention.terms().values()]

    def broken_evaluation():
        with method.evaluation_weights():
            assert all(term.merged for term in terms)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        broken_evaluation()
    assert all(parameter is weights[name] for name, parameter in method.named_parameters())
    for key, value in method.state_dict().items():
        assert_same_bits(value, before[key])
    assert not any(term.merged for term in terms)


@pytest.mark.parametrize("towers", ["image", "text"])
def test_one_tower_alone_is_adapted(towers):
    method = moved(begun(LoRA(TinyCLIP(), towers=towers)))
    image, text = (
        {type(block.attention) for block in tower.blocks} for tower in (method.backbone.image, method.backbone.text)
    )
    assert ({LowRankAttention} == image, {LowRankAttention} == text) == (towers == "image", towers == "text")
    loss = method.training_loss(batch())["loss"]
    loss.backward()
    assert all(parameter.grad is not None for parameter in method.parameters() if parameter.requires_grad)


def test_dropout_is_of_trainings_alone():
    for kind in (LoRA, AdaptFormer):
        method = moved(begun(kind(TinyCLIP(), dropout=0.5)))
        pixels = clips().float()
        with torch.no_grad():
            method.eval()
            assert_same_bits(method.encode_video(pixels), method.encode_video(pixels))
            method.train()
            assert not torch.equal(method.encode_video(pixels), method.encode_video(pixels))


@pytest.mark.parametrize("make", [TinyCLIP, small], ids=["clip", "viclip"])
def test_msta_without_time_is_the_multimodal_adapter(make):
    """One λ, one d, the same blocks and weights, no descriptions: the same losses and gradients."""
    options = {"bottleneck": 16, "scale": 0.3, "prompts": "photo"}
    torch.manual_seed(0)
    # The image tower of the tiny CLIP has a block more: MSTA counts blocks from the end, MMA from the beginning.
    depth = min(len(tower.blocks) for tower in (make().image, make().text))
    backbones = [make() for _ in range(2)]
    for backbone in backbones:
        registered = backbone.image._registered
        del registered[depth:]
    msta = MSTA(backbones[0], blocks=2, consistency=0.0, **options).double()
    mma = MMA(backbones[1], first_block=depth - 1, last_block=depth, **options).double()
    with torch.no_grad():
        for adapter in msta.adapters:
            adapter.temporal_up.weight.zero_()
            adapter.temporal_up.bias.zero_()
    state = {key: value for key, value in msta.adapters.state_dict().items() if "temporal_up" not in key}
    mma.adapters.load_state_dict(state)
    losses = []
    for method in (begun(msta), begun(mma)):
        losses.append(method.training_loss(batch())["loss"])
        losses[-1].backward()
    assert_same_but_rounding(losses[1], losses[0])
    own = dict(msta.adapters.named_parameters())
    for name, parameter in mma.adapters.named_parameters():
        assert parameter.grad.abs().max() > 0
        torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_nothing_is_kept_of_the_blocks_below_the_first_adapted_one(first):
    method = begun(MMA(TinyCLIP(), first_block=first, last_block=3))
    towers = method.backbone.image, method.backbone.text
    calls, saved = [], []
    for tower in towers:
        for index, block in enumerate(tower.blocks):
            block.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    # None of a parameter: these are there anyway.
    weights = {parameter.untyped_storage().data_ptr() for parameter in method.parameters()}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights and calls:
            saved.append(calls[-1])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        method.encode_video(method.backbone.normalize(batch().video))
    assert min(saved) == first - 1
    calls.clear()
    method.train_text()
    assert min(calls) == first - 1  # the text blocks below are computed once a training


@pytest.mark.parametrize("kind", [AdaptFormer, LoRA, MMA])
def test_adapters_alone_train_and_travel(kind):
    method = kind(TinyCLIP(), **({"first_block": 2, "last_block": 3} if kind is MMA else {}))
    frozen = {f"backbone.{name}" for name, _ in TinyCLIP().named_parameters()}
    trained = method.trained_keys()
    assert trained
    assert not trained & frozen
    assert {id(p) for group in method.parameter_groups() for p in group["params"]} == {
        id(p) for p in method.parameters() if p.requires_grad
    }


def test_a_training_of_sgd_has_momentum():
    for optimizer, name in (("sgd", "SGD"), ("adamw", "AdamW")):
        method = AdaptFormer(TinyCLIP(), optimizer=optimizer)
        method.trainer = SimpleNamespace(precision="32-true", gradient_clip_val=None)
        built = method.build_optimizer(method.parameter_groups())
        assert type(built).__name__ == name
        assert built.param_groups[0].get("momentum") == (0.9 if optimizer == "sgd" else None)


WITHOUT_BLOCKS = Capabilities(blocks=False, class_token=False, causal_text=False, frames_encoded_one_by_one=True)


def test_texts_in_the_place_of_a_released_linear_head_are_a_deviation_in_training_and_test():
    method = AdaptFormer(TinyCLIP(pretrained=False))
    for side in (None, "training", "test"):
        assert method.deviations(side) == {"classifier": "text"}


@pytest.mark.parametrize("kind", [AdaptFormer, LoRA, MMA, EfficientPrompt])
def test_a_backbone_without_blocks_is_refused_in_one_sentence(kind):
    backbone = SimpleNamespace(capabilities=WITHOUT_BLOCKS, without_roles=None)
    refusal = kind.refusal("a-model", backbone)
    assert "a-model has none that can be reached" in refusal
    assert "\n" not in refusal
    assert kind.refusal("a-model", TinyCLIP(pretrained=False)) is None


def test_joint_towers_are_refused_where_frames_are_needed():
    assert "gives one feature a clip" in EfficientPrompt.refusal("small", small())
    assert all(kind.refusal("small", small()) is None for kind in (AdaptFormer, LoRA, MMA))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (LoRA, {"rank": 65}, "rank is 65; allowed: 1 to 64"),
        (LoRA, {"parts": "qx"}, "parts is 'qx'; allowed: some of the letters of 'qkvo', each once"),
        (LoRA, {"parts": "qq"}, "parts is 'qq'"),
        (LoRA, {"parts": ""}, "parts is ''"),
        (LoRA, {"towers": "vision"}, "towers is 'vision'; allowed: 'both', 'image', 'text'"),
        (LoRA, {"scaling": "r"}, "scaling is 'r'; allowed: 'sqrt_rank', 'rank'"),
        (MMA, {"first_block": 3, "last_block": 2}, "first_block is 3; allowed: 1 to 2"),
        (MMA, {}, "last_block is 12; allowed: 1 to 3"),
        (MMA, {"first_block": 1, "last_block": 3, "optimizer": "adam"}, "optimizer is 'adam'; allowed: 'adamw', 'sgd'"),
        (AdaptFormer, {"initialization": "normal"}, "initialization is 'normal'; allowed: 'zero', 'truncated_normal'"),
        (AdaptFormer, {"bottleneck": 0}, "bottleneck is 0; allowed: 1 to 8,192"),
        (EfficientPrompt, {"text_tokens": 15}, "text_tokens is 15; allowed: 1 to 14"),
    ],
)
def test_bad_options_are_refused(kind, options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        kind(TinyCLIP(pretrained=False), **options)


@pytest.mark.parametrize(
    ("method", "content", "message"),
    [
        ("lora", {"weights": {}}, "metadata with r, alpha, encoder, params, position, are missing"),
        (
            "lora",
            {"weights": {}, "metadata": {"r": 2, "alpha": 1, "encoder": "both", "params": ["q"], "position": "up"}},
            "terms at the position 'up'",
        ),
        (
            "lora",
            {"weights": {}, "metadata": {"r": 2, "alpha": 1, "encoder": "text", "params": ["q"], "position": "all"}},
            "missing: backbone.clip.transformer.resblocks.0.attn.low_rank.q.down.weight",
        ),
        ("mma", {"epoch": 5}, "state_dict is missing"),
        ("mma", {"state_dict": {"text_adapter.0.up.weight": torch.zeros(2, 2)}}, "holds no adapters of blocks"),
        (
            "mma",
            {"state_dict": {"shared_adapter.2.0.weight": torch.zeros(8, 8), "else.weight": torch.zeros(1)}},
            "unexpected: else.weight",
        ),
    ],
)
def test_what_a_released_file_lacks_is_named(tmp_path, method, content, message):
    from vlbench.methods.released import IMPORTERS

    path = tmp_path / "file.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        IMPORTERS[method](path, TinyCLIP())
