"""Efficient-Prompt against literal restatements in float64; of its released code no outputs are at hand."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain import plain_clip
from vlbench.backbones import OpenCLIP, TinyCLIP
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList
from vlbench.errors import ConfigError
from vlbench.methods import EfficientPrompt
from vlbench.optim import Schedule

NAMES = ("a red ball rising", "blue_box", "a green net standing still")


def build(**options):
    torch.manual_seed(0)
    method = EfficientPrompt(TinyCLIP(), **{"text_tokens": 4, "layers": 2, "max_frames": 6, **options}).double()
    with torch.no_grad():
        method.learned.normal_()
        for parameter in method.temporal.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    method.train_classes = ClassList(NAMES, (0, 1, 2), NAMES, None)
    method.on_fit_start()
    return method


def batch(frames=4):
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (3, frames, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ClipBatch(video, torch.tensor([0, 2, 1]), ["a", "b", "c"], {})


@pytest.mark.parametrize("layers", [1, 2])
def test_numbers_of_parameters(layers):
    with torch.device("meta"):
        method = EfficientPrompt(OpenCLIP("ViT-B-16-quickgelu"), layers=layers)
    trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    assert trained == 39_424 + 8_192 + layers * 3_152_384
    assert method.deviations() == {}


def literal_text(method, name):
    """Feature of one class, its sequence put together token by token, on the whole context."""
    clip = plain_clip(method.backbone)
    start, *inside = method.backbone.tokenize([name.replace("_", " ")])[0].tolist()
    end = inside.pop()
    ids = [start, *inside, end]
    table, learned = clip.token_embedding.weight, method.learned
    tokens = [table[start], *learned[:4], *(table[id_] for id_ in inside), *learned[4:8], table[end]]
    assert len(tokens) == len(ids) + 8
    x = torch.zeros(clip.context_length, table.shape[1], dtype=torch.float64)
    x[: len(tokens)] = torch.stack(tokens)
    x = (x + clip.positional_embedding)[None]
    for block in clip.transformer.resblocks:
        x = block(x, attn_mask=clip.attn_mask)
    return F.normalize(clip.ln_final(x)[0, len(tokens) - 1] @ clip.text_projection, dim=-1)


def test_a_class_is_its_name_between_learned_vectors():
    method = build().eval()
    with torch.no_grad():
        features = method.encode_text(NAMES)
        expected = torch.stack([literal_text(method, name) for name in NAMES])
        assert torch.allclose(features, expected, atol=1e-10)
        assert torch.allclose(method.train_text(), expected, atol=1e-10)


def literal_video(method, frames):
    """Feature of one clip, of frame features `(T, D)`: attention head by head, and no residual around the blocks."""
    y = frames + method.temporal.positions[: len(frames)]
    width, heads = y.shape[1], y.shape[1] // 64
    for block in method.temporal.blocks:
        attention = block.self_attn
        normed = F.layer_norm(y, (width,), block.norm1.weight, block.norm1.bias)
        q, k, v = (normed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
        mixed = torch.cat([
            (q[:, part] @ k[:, part].T / 64**0.5).softmax(dim=-1) @ v[:, part]
            for part in (slice(64 * head, 64 * (head + 1)) for head in range(heads))
        ], dim=-1)  # fmt: skip
        y = y + mixed @ attention.out_proj.weight.T + attention.out_proj.bias
        inner = F.layer_norm(y, (width,), block.norm2.weight, block.norm2.bias) @ block.linear1.weight.T
        inner = inner + block.linear1.bias
        y = y + (inner * torch.sigmoid(1.702 * inner)) @ block.linear2.weight.T + block.linear2.bias
    return F.normalize(y.mean(dim=0), dim=-1)


@pytest.mark.parametrize("training", [True, False])
def test_a_video_is_the_mean_of_the_transformer_alone(training):
    method = build().train(training)
    frames = torch.randn(2, 5, 128, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([literal_video(method, clip) for clip in frames])
        assert torch.allclose(method.pool_frames(frames), expected, atol=1e-10)


def test_the_loss_is_the_cross_entropy_of_cosines_by_the_temperature():
    method = build(temperature=0.2)
    frames = method.backbone.encode_frames(method.backbone.normalize(batch().video))
    video = torch.stack([literal_video(method, clip) for clip in frames])
    text = torch.stack([literal_text(method, name) for name in NAMES])
    expected = F.cross_entropy(video @ text.T / 0.2, batch().labels)
    loss = method.training_loss(batch())["loss"]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-10)
    trained = [method.learned, *method.temporal.parameters()]
    own, literal = (torch.autograd.grad(each, trained) for each in (loss, expected))
    for one, other in zip(own, literal, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-12)
    assert not own[0][8:].any()  # two times four vectors are used, as of a longer table
    assert own[0][:8].abs().amax(dim=1).gt(0).all()
    assert method.fuse_views(torch.ones(1, 2, 3, dtype=torch.float64)).sum().item() == pytest.approx(1)
    assert method.logit_factor == pytest.approx(5)


def test_initial_values():
    torch.manual_seed(0)
    method = EfficientPrompt(TinyCLIP(), text_tokens=4)
    assert method.learned.std().item() == pytest.approx(0.01, rel=0.1)
    assert method.temporal.positions.std().item() == pytest.approx(0.01, rel=0.1)


def test_the_rate_stays():
    method = build()
    assert isinstance(method.schedule, Schedule)
    assert {method.schedule.factor(step, steps_per_epoch=3, total_steps=12) for step in range(12)} == {1.0}


def test_more_frames_than_positions_are_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"^a clip has 7 frames and max_frames is 6; give a larger model\.max_frames"):
        build().training_loss(batch(frames=7))


def test_a_name_that_does_not_fit_beside_the_vectors_is_refused():
    method = EfficientPrompt(TinyCLIP(), text_tokens=14)
    method.train_classes = ClassList(("red ball rising",), (0,), ("red ball rising",), None)
    with pytest.raises(
        ConfigError, match=r"'red ball rising' and 28 learned vectors have 33 tokens of a context of 32"
    ):
        method.on_fit_start()


def test_a_width_that_heads_do_not_divide_is_refused(register):
    vision = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49_408, "width": 64, "heads": 1, "layers": 1}
    register("narrow", {"embed_dim": 96, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text})
    with torch.device("meta"), pytest.raises(ConfigError, match=r"heads of 64 dimensions, .* 96;"):
        EfficientPrompt(OpenCLIP("narrow"))
