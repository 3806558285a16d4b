"""Towers with roles of every family of open_clip: what they compute, and what methods do with them."""

import re
from itertools import product
from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backbones.models import randomize
from tests.gpu.test_fake import ALWAYS, FRAMES, METHODS, SIZES, classes_of
from vlbench.backbones import Block
from vlbench.backbones.catalogue import entries
from vlbench.backbones.identity import weights_digest
from vlbench.backbones.layouts import FrameMajor
from vlbench.backbones.openclip import CLIPEncoder, create_clip
from vlbench.backbones.towers import _step
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList
from vlbench.errors import ConfigError
from vlbench.methods import MSTA, MoTE, VLPrompting
from vlbench.methods.parts import class_features

NAMES = ("a cat", "a person who jumps over a rather long fence", "yoga !")
FAMILIES = [
    "ViT-B-32-quickgelu", "ViT-M-16-alt", "ViT-H-14-worldwide", "ViT-L-14-CLIPA", "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2", "ViT-SO400M-16-SigLIP-i18n-256", "ViT-gopt-16-SigLIP2-256", "PE-Core-B-16",
    "PE-Core-bigG-14-448", "EVA01-g-14", "EVA02-B-16", "MobileCLIP2-B", "MobileCLIP2-L-14", "ViTamin-S",
    "vit_medium_patch16_gap_256",
]  # fmt: skip
FAMILIES = [model for model in FAMILIES if model in open_clip.list_models()]
FAMILY = pytest.mark.parametrize("model", FAMILIES)


def clips(backbone, count=2, frames=2):
    """Normalised clips of float64."""
    return torch.randn(count, frames, 3, backbone.image_size, backbone.image_size, dtype=torch.float64)


def compared(backbone, clip, seed=0):
    """Features of frames and texts and, of a random projection of each, gradients: ours and open_clip's."""
    torch.manual_seed(seed)
    frames = clips(backbone)
    tokens = backbone._tokenizer(list(NAMES), context_length=backbone.text.context)
    pairs = [
        (backbone.encode_frames(frames).flatten(0, 1), clip.encode_image(frames.flatten(0, 1), normalize=False)),
        (backbone.encode_texts(NAMES), clip.encode_text(tokens, normalize=False)),
    ]
    parameters = {name: parameter for name, parameter in clip.named_parameters() if parameter.requires_grad}
    for features in pairs:
        direction = torch.randn_like(features[0])
        gradients = [
            torch.autograd.grad((each * direction).sum(), [*parameters.values()], allow_unused=True)
            for each in features
        ]
        yield (
            features,
            {
                name: [torch.zeros(()) if gradient is None else gradient for gradient in pair]
                for name, *pair in zip(parameters, *gradients, strict=True)
            },
        )


def assert_same_features_and_gradients(backbone, clip):
    for (ours, theirs), gradients in compared(backbone, clip):
        assert ours.std() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        used = 0
        for own, other in gradients.values():
            scale = other.abs().max()
            used += bool(scale > 0)
            torch.testing.assert_close(
                own.expand_as(other) if own.ndim == 0 else own, other.expand_as(own), rtol=0, atol=1e-8 * float(scale)
            )
        assert used > 10


@pytest.mark.parametrize("model", [*FAMILIES, pytest.param("ViTamin-XL-256", marks=pytest.mark.slow)])
def test_features_and_gradients_are_those_of_open_clip(model, make_narrow):
    clip, backbone = make_narrow(model)
    assert backbone.without_roles is None
    assert_same_features_and_gradients(backbone, clip)
    assert list(backbone.clip.state_dict()) == list(clip.state_dict())
    assert backbone.identity.digest == weights_digest(clip.named_parameters())


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    vision=st.fixed_dictionaries({}, optional={
        "no_ln_pre": st.booleans(), "final_ln_after_pool": st.booleans(), "ls_init_value": st.just(0.1),
        "pool_type": st.sampled_from(["tok", "avg"]), "pos_embed_type": st.just("sin_cos_2d"),
    }),
    text=st.fixed_dictionaries({}, optional={
        "no_causal_mask": st.booleans(), "pool_type": st.sampled_from(["argmax", "eos", "first", "last"]),
        "ls_init_value": st.just(0.1), "proj_bias": st.booleans(),
    }),
    pooled=st.booleans(), custom=st.booleans(), quick_gelu=st.booleans(),
)  # fmt: skip
def test_options_of_open_clip_combine(vision, text, pooled, custom, quick_gelu):
    if pooled:
        vision = {
            **vision,
            "attentional_pool": True,
            "attn_pooler_queries": 3,
            "attn_pooler_heads": 2,
            "pool_type": "tok",
        }
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16, **vision}
    text = {"context_length": 12, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2, "eos_id": 49, **text}
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    clip = kind(16, vision, text, quick_gelu=quick_gelu)
    randomize(clip)
    clip = clip.double().eval()
    backbone = CLIPEncoder(clip, words, name="options", pretrained=None)
    assert backbone.without_roles is None
    assert backbone.capabilities.class_token == (vision.get("pool_type", "tok") == "tok" and not pooled)
    assert backbone.capabilities.causal_text == (not text.get("no_causal_mask"))
    assert_same_features_and_gradients(backbone, clip)


def test_causal_texts_end_with_the_token_that_is_read_whatever_their_padding_is(make_narrow):
    """The hub's tokenizers pad with an id of their own, which is 1 in MetaCLIP 2's."""
    _, backbone = make_narrow("ViT-H-14-worldwide")
    assert backbone.text.lengths(NAMES) == [3, 10, 3]
    assert backbone.tokenize(NAMES).shape == (3, 10)
    assert backbone.tokenize(["word " * 100]).shape == (1, backbone.text.context)


def words(texts, context_length):
    """Ids of words, 49 behind the last one and 0 up to the context."""
    rows = [[1 + len(word) for word in text.split()] + [49] for text in texts]
    return torch.tensor([row + [0] * (context_length - len(row)) for row in rows])


def method_on(make_narrow, model, kind, monkeypatch, tmp_path, **options):
    """A method on a narrow backbone, with the classes of a training, and open_clip's model with the same weights."""
    monkeypatch.setattr(class_features, "cache_folder", lambda: tmp_path)
    clip, backbone = make_narrow(model)
    torch.manual_seed(0)
    method = kind(backbone, **options).double()
    method.train_classes = ClassList(NAMES, (0, 1, 2), NAMES)
    method.on_fit_start()
    return method, clip


def batch(method, count=2, frames=3):
    side = method.backbone.image_size
    video = torch.randint(0, 256, (count, frames, 3, side, side), dtype=torch.uint8)
    return ClipBatch(video, torch.arange(count) % len(NAMES), [str(index) for index in range(count)], {})


@FAMILY
def test_msta_starts_as_the_backbone_and_trains_both_towers(model, make_narrow, monkeypatch, tmp_path):
    options = {"blocks": 2, "bottleneck": 32, "scale": 0.5, "initialization": "zero", "consistency": 0}
    method, clip = method_on(make_narrow, model, MSTA, monkeypatch, tmp_path, **options)
    backbone, frames = method.backbone, clips(method.backbone)
    tokens = backbone._tokenizer(list(NAMES), context_length=backbone.text.context)
    with torch.no_grad():
        before = backbone.encode_frames(frames), backbone.encode_texts(NAMES)
        torch.testing.assert_close(before[0].flatten(0, 1), clip.encode_image(frames.flatten(0, 1), normalize=False))
        torch.testing.assert_close(before[1], clip.encode_text(tokens, normalize=False))
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=1.0)
    method.training_loss(batch(method))["loss"].backward()
    for adapter in method.adapters:
        for layer in (adapter.video_up, adapter.temporal_up, adapter.text_up):
            assert layer.weight.grad.abs().max() > 0
    assert not any(parameter.grad is not None for parameter in backbone.parameters())
    optimizer.step()
    with torch.no_grad():
        after = backbone.encode_frames(frames), backbone.encode_texts(NAMES)
        left_out = backbone.encode_frames(frames, adapted=False), backbone.encode_texts(NAMES, adapted=False)
    for first, second, third in zip(before, after, left_out, strict=True):
        assert not torch.allclose(first, second)
        torch.testing.assert_close(first, third)


@FAMILY
def test_mote_tunes_the_image_tower(model, make_narrow, monkeypatch, tmp_path):
    monkeypatch.setattr(class_features, "cache_folder", lambda: tmp_path)
    _, backbone = make_narrow(model)
    method = MoTE(backbone, layers=1, experts=2, grad_checkpointing=True).double().train()
    method.train_class_features = torch.randn(3, backbone.embed_dim, dtype=torch.float64)
    frames = backbone.encode_frames(clips(backbone))
    method.losses(frames, torch.tensor([0, 1]), [0], [0])["loss"].backward()
    moved = {
        name for name, parameter in backbone.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    names = {parameter: name for name, parameter in backbone.named_parameters()}
    assert moved >= {names[parameter] for block in backbone.image.blocks for parameter in block.parameters()}
    assert all(name.startswith("clip.visual.") or name == "clip.logit_scale" for name in moved)


@pytest.mark.parametrize("model", ["EVA02-B-16", "MobileCLIP2-L-14"])
def test_prompts_run_through_blocks_of_timm(model, make_narrow, monkeypatch, tmp_path):
    options = {"image_depth": 2, "text_depth": 2, "image_tokens": 3, "text_tokens": 3}
    method, _ = method_on(make_narrow, model, VLPrompting, monkeypatch, tmp_path, **options)
    method.training_loss(batch(method, count=4))["loss"].backward()
    for prompts in (method.image_prompts, method.text_prompts):
        assert prompts.tokens.grad.abs().amax(dim=-1).min() > 0


@pytest.mark.parametrize("model", ["EVA02-B-16", "PE-Core-B-16", "vit_medium_patch16_gap_256"])
def test_blocks_are_compiled_as_one_graph(model, make_narrow):
    """Every block with a branch, for all tokens and for the one that is read."""
    _, backbone = make_narrow(model)
    torch._dynamo.reset()
    compiled = torch.compile(_step, fullgraph=True, backend="eager")
    x = backbone.visual.embed(clips(backbone).flatten(0, 1))
    for block, at in product(backbone.image.blocks, (None, 0)):
        arguments = (block, [torch.tanh], x, FrameMajor(2), at)
        torch.testing.assert_close(compiled(*arguments), _step(*arguments))


class SeesItself(Block):
    """A block as a paper writes it, whose attention runs twice."""

    def forward(self, x, clip):
        x = x + self.attention(self.norm1(x), self.norm1(x))
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@pytest.mark.parametrize("model", ["EVA02-B-16", "PE-Core-B-16", "EVA01-g-14", "vit_medium_patch16_gap_256"])
def test_a_block_of_a_method_is_its_equation(model, make_narrow):
    """Attention to a context equals attention to oneself, and layer scale and positions come with the roles."""
    clip, backbone = make_narrow(model)
    frames = clips(backbone, count=1)
    trunk = clip.visual.trunk
    part = trunk.blocks[0]
    rope = getattr(trunk, "rope", None)

    def attend(x):
        y = part.attn(part.norm1(x), **({} if rope is None else {"rope": rope.get_embed()}))
        return y * part.ls1.gamma if hasattr(part, "ls1") and hasattr(part.ls1, "gamma") else y

    with torch.no_grad():
        x = backbone.visual.embed(frames[0])
        twice = x + attend(x)
        other = part(x + attend(x), **({} if rope is None else {"rope": rope.get_embed()}))
        backbone.image.replace(0, SeesItself)
        torch.testing.assert_close(backbone.image.blocks[0](x, FrameMajor(2)), other)
        assert not torch.allclose(other, twice)


def test_tokens_behind_the_patches_have_no_rotary_position(make_narrow):
    """Whatever a method puts there, in any order, and the others are turned as before."""
    _, backbone = make_narrow("EVA02-B-16")
    block = backbone.image.blocks[0]
    with torch.no_grad():
        x = backbone.visual.embed(clips(backbone).flatten(0, 1))
        more = torch.randn(len(x), 3, x.shape[-1], dtype=x.dtype)
        one = block(torch.cat([x, more], dim=1), FrameMajor(2))
        other = block(torch.cat([x, more.flip(1)], dim=1), FrameMajor(2))
    torch.testing.assert_close(one[:, : x.shape[1]], other[:, : x.shape[1]])
    torch.testing.assert_close(one[:, x.shape[1] :], other[:, x.shape[1] :].flip(1))


WITHOUT = {
    "its text tower is a model of the Hugging Face hub": r"(coca_)?roberta-.*|xlm-roberta-.*|mt5-.*|nllb-clip-.*",
    "its text tower reads a class token, which sees as many tokens as each text has": r"coca_(base|ViT-.*)",
    "its image tower is a ResNet": r"RN.*",
    "its image tower is timm's convnext": r"convnext_.*",
    "its image tower is timm's fastvit": r"MobileCLIP2?-S\d",
    "its image tower is timm's swin_transformer": r"swin_.*",
    "its image tower is timm's vision_transformer_relpos": r"vit_relpos_.*",
    "its image blocks normalise what attention and MLP give, not what they take": r"EVA02-E-.*",
}


def test_which_architectures_have_no_roles_and_why():
    """Held against the models themselves by test_every_architecture_is_described_as_it_is_built."""
    listed = entries()
    for entry in listed:
        reasons = [reason for reason, names in WITHOUT.items() if re.fullmatch(names, entry.name)]
        assert reasons == [entry.without_roles] * (not entry.capabilities.blocks), entry.name
    if len(listed) == 144:  # as many as the release has that the page is of
        page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
        roles = sum(entry.capabilities.blocks for entry in listed)
        assert f"{roles} of the {len(listed)}\narchitectures of open_clip" in page


@pytest.mark.parametrize(
    ("method", "model", "sentence"),
    [
        (
            MSTA,
            "RN50",
            "MSTA's adapters run beside blocks, RN50 has none that can be reached: its image tower is a ResNet",
        ),
        (MSTA, "coca_ViT-B-32", "coca_ViT-B-32 has none that can be reached: its text tower reads a class token, "),
        (VLPrompting, "PE-Core-B-16", "the class token, PE-Core-B-16 has none that its image feature is read from"),
    ],
)
def test_a_method_that_needs_more_says_why(method, model, sentence):
    with torch.device("meta"):
        backbone = CLIPEncoder(create_clip(model, None), None, name=model, pretrained=None)
    with pytest.raises(ConfigError, match=f"{sentence}.*; use a CLIP, such as") as refused:
        method(backbone)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("model", ["EVA02-B-16", "ViT-B-16-SigLIP2", "PE-Core-B-16"])
def test_a_method_trains_on_a_tower_of_timm_or_refuses_it_in_a_sentence(
    model, kind, make_narrow, monkeypatch, tmp_path
):
    """What a method needs that these towers lack is in `REQUIRES`, and not found out by a part of another name."""
    monkeypatch.setattr(class_features, "cache_folder", lambda: tmp_path)
    _, backbone = make_narrow(model)
    options = {**ALWAYS.get(kind.__name__, {}), **SIZES.get(kind.__name__, {})}
    refusal = kind.refusal(backbone.identity.name, backbone)
    if refusal is not None:
        with pytest.raises(ConfigError, match=re.escape(refusal)):
            kind(backbone, **options)
        assert "\n" not in refusal
        return
    torch.manual_seed(0)
    method = kind(backbone, **options).double().train()
    sentences = (("it moves",),) * 5
    method.train_classes = classes_of(5, Descriptions(sentences, sentences))
    if not any(parameter.requires_grad for parameter in method.parameters()):
        video = batch(method, frames=FRAMES).video
        assert method.encode_video(method.backbone.normalize(video)).isfinite().all()
        return
    method.on_fit_start()
    loss = method.training_loss(batch(method, count=8, frames=FRAMES))["loss"]  # groups of 4 and of 8 divide it
    loss.backward()
    gradients = [parameter.grad for parameter in method.parameters() if parameter.grad is not None]
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
