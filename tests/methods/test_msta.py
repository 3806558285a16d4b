"""MSTA against literal restatements in float64."""

import json
from functools import partial

import open_clip
import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain import plain_block, plain_clip
from tests.tolerance import assert_same_bits, assert_same_but_rounding
from vlbench.backbones import OpenCLIP, TinyCLIP, ViCLIP
from vlbench.backbones.openclip import CLIPEncoder
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.clips.batch import ClipBatch
from vlbench.datasets import HMDB51, UCF101, ActivityNet, Kinetics400, Kinetics600, SomethingSomethingV2
from vlbench.datasets.descriptions import Descriptions, sentences_json
from vlbench.datasets.specs import ClassList, content_digest
from vlbench.errors import ConfigError
from vlbench.methods import MSTA
from vlbench.methods.parts.multimodal_adapter import BlockAdapter, scale_gradient

NAMES = ("a red ball rising", "a blue box falling", "a green net standing still")
SENTENCES = Descriptions(
    spatial=tuple((f"the picture shows {name}", f"there is {name}") for name in NAMES),
    temporal=tuple((f"something is {name}", f"it starts and then {name}") for name in NAMES),
)


def build(**options):
    torch.manual_seed(0)
    method = MSTA(TinyCLIP(), **{"blocks": 2, "bottleneck": 32, **options}).double()
    method.train_classes = ClassList(NAMES, (0, 1, 2), NAMES, SENTENCES)
    method.on_fit_start()
    return method


def narrow_clip():
    """A CLIP of one narrow block a tower with all of CLIP's words, and ViCLIP's context, the shortest of a backbone."""
    image = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 32, "layers": 1}
    text = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1}
    clip = open_clip.CLIP(embed_dim=16, vision_cfg=image, text_cfg=text, quick_gelu=True)
    return CLIPEncoder(clip, open_clip.get_tokenizer("ViT-B-32"), name="narrow-clip", pretrained=None)


def batch():
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (3, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ClipBatch(video, torch.tensor([0, 2, 1]), ["a", "b", "c"], {})


@pytest.mark.parametrize("backbone", [partial(OpenCLIP, "ViT-B-16-quickgelu"), ViCLIP], ids=["clip", "viclip"])
@pytest.mark.parametrize(("bottleneck", "blocks", "count"), [(128, 5, 1_744_000), (256, 12, 8_712_192)])
def test_parameter_counts_on_vit_b16(backbone, bottleneck, blocks, count):
    with torch.device("meta"):
        method = MSTA(backbone(), blocks=blocks, bottleneck=bottleneck)
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == count


def literal_video(adapter, x):
    """Loops over frames and channels; x (B, T, N, D)."""
    relu = torch.relu
    h = relu(adapter.shared(relu(adapter.video_down(x))))
    out = h @ adapter.video_up.weight.T + adapter.video_up.bias
    weight, bias = adapter.temporal_up.weight[:, 0, :, 0, 0], adapter.temporal_up.bias
    frames, group = x.shape[1], weight.shape[0] // h.shape[-1]
    for t in range(frames):
        for o in range(weight.shape[0]):
            total = bias[o].expand(h.shape[0], h.shape[2])
            for k in range(3):
                if 0 <= t + k - 1 < frames:
                    total = total + weight[o, k] * h[:, t + k - 1, :, o // group]
            out[:, t, :, o] = out[:, t, :, o] + total
    return out


def test_video_adapter_equals_the_literal_formula_and_the_grouped_convolution():
    torch.manual_seed(0)
    adapter = BlockAdapter(12, 8, 4).double()
    with torch.no_grad():
        for layer in adapter.children():
            layer.bias.normal_()
    x = torch.randn(2, 5, 3, 12, dtype=torch.float64)
    assert torch.allclose(adapter.video(x), literal_video(adapter, x), atol=1e-12)
    h = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    by_torch = adapter.temporal_up(h.permute(0, 3, 1, 2).unsqueeze(-1)).squeeze(-1).permute(0, 2, 3, 1)
    adapter._bottleneck = lambda x, down: x
    assert torch.allclose(adapter.video(h), adapter.video_up(h) + by_torch, atol=1e-12)


def test_time_is_mixed_over_neighbours_only_and_never_patches_or_clips():
    torch.manual_seed(0)
    adapter = BlockAdapter(12, 8, 4).double()
    x = torch.randn(2, 6, 3, 12, dtype=torch.float64)
    y = x.clone()
    y[0, 3, 1] += 1
    moved = (adapter.video(x) - adapter.video(y)).abs().amax(dim=-1) > 1e-12
    expected = torch.zeros_like(moved)
    expected[0, 2:5, 1] = True
    assert torch.equal(moved, expected)


def test_the_adapted_image_tower_is_the_literal_one():
    """block'(x) = block(x) + scale * A(ln_1(x)) in the last two blocks, by hand."""
    method = build(scale=0.3)
    clips = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    clip = plain_clip(method.backbone)
    visual = clip.visual
    with torch.no_grad():
        x = visual._embeds(clips.flatten(0, 1))
        for index, block in enumerate(visual.transformer.resblocks):
            before = x
            x = block(x)
            if index >= 2:
                grid = block.ln_1(before).view(2, 4, 17, 128)
                x = x + 0.3 * literal_video(method.adapters[index - 2], grid).flatten(0, 1)
        frames = (visual.ln_post(x[:, 0]) @ visual.proj).view(2, 4, -1)
        assert torch.allclose(method.backbone.encode_frames(clips), frames, atol=1e-10)
        assert torch.allclose(method.encode_video(clips), F.normalize(frames.mean(1), dim=-1), atol=1e-10)

        tokens = method.backbone.tokenize([f"a video of {name}" for name in NAMES])
        length = tokens.shape[1]
        x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        for index, block in enumerate(clip.transformer.resblocks):
            before = x
            x = block(x, attn_mask=clip.attn_mask[:length, :length])
            if index >= 1:
                a = method.adapters[index - 1]
                h = torch.relu(a.shared(torch.relu(a.text_down(block.ln_1(before)))))
                x = x + 0.3 * (h @ a.text_up.weight.T + a.text_up.bias)
        x = clip.ln_final(x)[torch.arange(3), tokens.argmax(-1)] @ clip.text_projection
        assert torch.allclose(method.encode_text(NAMES), F.normalize(x, dim=-1), atol=1e-10)


def test_the_adapted_joint_tower_is_the_literal_one():
    """ViCLIP: the class token is a clip of one frame, a patch position one of T frames."""
    torch.manual_seed(0)
    sizes = ViCLIPSizes(24, 32, 16, 32, 3, 2, 16, 2, 2, frames=4)
    method = MSTA(ViCLIP("small", sizes=sizes), blocks=2, bottleneck=8, scale=0.3).double()
    vision = method.backbone.vision_encoder
    blocks = [plain_block(block) for block in vision.transformer.resblocks]
    clips = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        x = blocks[0](vision.embed(clips))
        for block, adapter in zip(blocks[1:], method.adapters, strict=True):
            normed = block.ln_1(x)
            token = literal_video(adapter, normed[:, None, :1])
            patches = torch.zeros(2, 16, 32, dtype=torch.float64)
            for n in range(4):
                frames = normed[:, 1 + 4 * n : 5 + 4 * n]  # one position, time inside
                patches[:, 4 * n : 4 * n + 4] = literal_video(adapter, frames[:, :, None])[:, :, 0]
            x = block(x) + 0.3 * torch.cat([token[:, 0], patches], dim=1)
        expected = F.normalize(vision.ln_post(x[:, 0]) @ vision.proj, dim=-1)
        assert torch.allclose(method.encode_video(clips), expected, atol=1e-10)


def test_a_step_equals_the_naive_one():
    """Full context, no prepared texts, blocks of open_clip: the same loss and the same gradients."""
    losses, gradients = [], []
    for naive in (False, True):
        method = build(scale=0.3)
        if naive:
            clip = naive_clip(method)
            tokens = method.backbone.tokenize([f"a video of {name}" for name in NAMES])
            tokens = F.pad(tokens, (0, 32 - tokens.shape[1]))
            text = F.normalize(clip.encode_text(tokens), dim=-1)
            frames = clip.encode_image(method.backbone.normalize(batch().video).flatten(0, 1)).unflatten(0, (3, 4))
            video = F.normalize(frames.mean(dim=1), dim=-1)
            logits = method.backbone.logit_scale.exp() * video @ text.T
            loss = F.cross_entropy(logits, batch().labels) + method.consistency * method.consistency_loss(text)
        else:
            loss = method.training_loss(batch())["loss"]
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in method.adapters.named_parameters()})
    assert losses[0] == pytest.approx(losses[1], abs=1e-10)
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-6, atol=1e-12), name


def naive_clip(method):
    """open_clip's own model; the adapters added by hooks that know nothing of the towers' layouts."""
    clip, frames = plain_clip(method.backbone).requires_grad_(False), batch().video.shape[1]

    def attach(block, adapt, grid):
        def hook(module, inputs, output):
            x = scale_gradient(inputs[0], method.scale)
            y = adapt(module.ln_1(x).unflatten(0, (-1, grid))).flatten(0, 1)
            return output + scale_gradient(method.scale * y, 1 / method.scale)

        block.register_forward_hook(hook)

    for adapter, block in zip(method.adapters, clip.visual.transformer.resblocks[-2:], strict=True):
        attach(block, lambda x, a=adapter: literal_video(a, x), frames)
    for adapter, block in zip(method.adapters, clip.transformer.resblocks[-2:], strict=True):
        attach(block, adapter.text, 1)
    return clip


def test_the_loss_is_cross_entropy_plus_consistency():
    method = build(scale=0.3, consistency=0.7)
    terms = method.training_loss(batch())
    text = method.encode_text(NAMES)
    video = method.encode_video(method.backbone.normalize(batch().video))
    scale = method.backbone.logit_scale.exp()
    ce = F.cross_entropy(scale * video @ text.T, batch().labels)
    fresh = TinyCLIP().double()

    def mean(sentences):
        return F.normalize(
            torch.stack([F.normalize(fresh.encode_texts([s]), dim=-1)[0] for s in sentences]).mean(0), dim=0
        )

    consistency = sum(
        2 - F.cosine_similarity(text[c], mean(SENTENCES.spatial[c]), dim=0)
        - F.cosine_similarity(text[c], mean(SENTENCES.temporal[c]), dim=0)
        for c in range(3)
    ) / 3  # fmt: skip
    assert terms["ce"].item() == pytest.approx(ce.item(), abs=1e-10)
    assert terms["consistency"].item() == pytest.approx(consistency.item(), abs=1e-10)
    assert terms["loss"].item() == pytest.approx((ce + 0.7 * consistency).item(), abs=1e-10)


def test_the_shared_matrix_learns_from_both_towers():
    method = build()
    shared = method.adapters[0].shared.weight
    clips = method.backbone.normalize(batch().video)
    (from_video,) = torch.autograd.grad(method.encode_video(clips).sum(), shared)
    (from_text,) = torch.autograd.grad(method.encode_text(NAMES).sum(), shared)
    assert from_video.abs().max() > 0
    assert from_text.abs().max() > 0


def test_gradient_rescaling_gives_the_adapter_the_gradient_of_scale_one():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    scale = 0.005
    y = scale_gradient(scale * (weight * scale_gradient(x, scale)), 1 / scale)
    assert torch.allclose(y, scale * weight * x)
    y.sum().backward()
    assert torch.allclose(weight.grad, x.detach())
    assert torch.allclose(x.grad, scale * weight.detach())


def test_rescaling_changes_gradients_and_no_outputs():
    grads, outputs = [], []
    for rescale in (True, False):
        method = build(scale=0.01, rescale_gradient=rescale, blocks=1)
        terms = method.training_loss(batch())
        terms["loss"].backward()
        outputs.append(terms["loss"].item())
        grads.append(method.adapters[0].video_up.weight.grad)
    assert outputs[0] == pytest.approx(outputs[1], abs=1e-12)
    assert torch.allclose(grads[0], grads[1] / 0.01, rtol=1e-9)


def test_the_scale_multiplies_the_output():
    clips = torch.randn(1, 2, 3, 32, 32, dtype=torch.float64)
    frozen = TinyCLIP().double().encode_frames(clips)
    outputs = {scale: build(scale=scale, blocks=1).backbone.encode_frames(clips) for scale in (1e-6, 2e-6)}
    first, second = (outputs[scale] - frozen for scale in (1e-6, 2e-6))
    assert torch.allclose(2 * first, second, rtol=1e-3, atol=1e-12)


def test_zero_initialisation_starts_as_the_frozen_backbone():
    clips = torch.randn(1, 2, 3, 32, 32, dtype=torch.float64)
    method = build(initialization="zero", scale=1.0)
    with torch.no_grad():
        adapted = method.backbone.encode_frames(clips)
        assert_same_bits(adapted, method.backbone.encode_frames(clips, adapted=False))


def test_only_the_adapters_train_and_travel():
    method = build()
    keys = method.trained_keys()
    assert keys == {f"adapters.{name}" for name, _ in method.adapters.named_parameters()}
    assert {id(p) for group in method.parameter_groups() for p in group["params"]} == {
        id(p) for p in method.parameters() if p.requires_grad
    }


def test_descriptions_follow_the_training_subset():
    method = build()
    whole = method.description_features
    method.train_classes = ClassList((NAMES[2], NAMES[0]), (2, 0), NAMES, SENTENCES)
    method.on_fit_start()
    assert_same_but_rounding(method.description_features, whole[:, [2, 0]])


def test_descriptions_come_from_the_frozen_tower():
    assert_same_bits(build(scale=0.005).description_features, build(scale=5.0).description_features)


@pytest.mark.parametrize("dataset", [HMDB51, UCF101, Kinetics400, Kinetics600, SomethingSomethingV2, ActivityNet])
def test_the_text_side_trains_on_the_classes_of_every_dataset(dataset):
    torch.manual_seed(0)
    method = MSTA(narrow_clip(), blocks=1, bottleneck=32)
    method.train_classes = dataset().train_classes
    method.on_fit_start()
    classes = len(method.train_classes.names)
    assert method.description_features.shape == (2, classes, method.backbone.embed_dim)
    # No two classes have the same sentences, so none has another's features.
    near = method.description_features[0] @ method.description_features[0].T
    assert (near - torch.eye(classes)).max() < 0.9999
    loss = method.training_loss(ClipBatch(batch().video, torch.tensor([0, classes - 1, 1]), ["a", "b", "c"], {}))
    loss["loss"].backward()
    assert 0 < loss["consistency"].item() < 4
    assert all(part.grad.isfinite().all() for part in method.adapters.parameters())


def test_a_training_names_the_sentences_that_it_used(tmp_path):
    def named(descriptions=None):
        method = MSTA(TinyCLIP(), blocks=1, bottleneck=32, descriptions=descriptions)
        method.train_classes = HMDB51().train_classes
        return method.settings("training")["descriptions"]

    shipped = HMDB51().spec.descriptions.read()
    assert named() == content_digest(text for side in (shipped.spatial, shipped.temporal) for c in side for text in c)
    (tmp_path / "spatial.json").write_bytes(sentences_json(shipped.spatial))
    (tmp_path / "temporal.json").write_bytes(sentences_json(shipped.temporal))
    assert named(str(tmp_path)) == named()
    changed = json.loads((tmp_path / "temporal.json").read_text())
    changed["50"][1] += " Twice."
    (tmp_path / "temporal.json").write_text(json.dumps(changed))
    assert named(str(tmp_path)) != named()


def test_missing_descriptions_are_an_error_with_a_way_out():
    method = MSTA(TinyCLIP(), blocks=1)
    method.train_classes = ClassList(NAMES, (0, 1, 2), NAMES, None)
    with pytest.raises(ConfigError, match=r"model.descriptions.*consistency: 0"):
        method.on_fit_start()


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match=r"bottleneck is 100.*divide.*128"):
        MSTA(TinyCLIP(), bottleneck=100)
    with pytest.raises(ConfigError, match="blocks is 0; allowed: 1 to 3"):
        MSTA(TinyCLIP(), blocks=0)
    with pytest.warns(UserWarning, match="blocks is 5"):
        assert len(MSTA(TinyCLIP(), blocks=5).adapters) == 3
