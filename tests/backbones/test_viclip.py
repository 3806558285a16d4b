"""ViCLIP against a literal restatement in float64, and what it shares with every backbone."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from benchmarks.plain import plain_block
from tests.tolerance import assert_same_bits, assert_same_but_rounding
from vlbench.backbones import ViCLIP
from vlbench.backbones.layouts import Joint
from vlbench.backbones.viclip_parts import ViCLIPSizes, temporal_positions
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import MoTE

SMALL = ViCLIPSizes(24, 32, 16, 32, 3, 2, 16, 2, 2, frames=4)
TEXTS = ["a cat", "a video of a person jumping over a rather long fence"]


def small(**options):
    torch.manual_seed(0)
    backbone = ViCLIP("small", sizes=SMALL, **options).double().eval()
    with torch.no_grad():
        backbone.vision_encoder.temporal_positional_embedding.normal_()
    return backbone


def literal(vision, clip):
    """One clip (T, 3, H, W), patch by patch and frame by frame."""
    patch, side = SMALL.patch_size, SMALL.image_size // SMALL.patch_size
    kernel = vision.conv1.weight[:, :, 0].flatten(1)
    tokens = [vision.class_embedding + vision.positional_embedding[0]]
    for row in range(side):
        for column in range(side):
            for t, frame in enumerate(clip):
                pixels = frame[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
                position = vision.positional_embedding[1 + row * side + column]
                tokens.append(kernel @ pixels.flatten() + position + vision.temporal_positional_embedding[0, t])
    x = vision.ln_pre(torch.stack(tokens)).unsqueeze(0)
    for block in vision.transformer.resblocks:
        x = plain_block(block)(x)
    return vision.ln_post(x[0, 0]) @ vision.proj


def test_the_video_tower_is_the_literal_one():
    backbone, clips = small(), torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        features = backbone.encode_frames(clips)
        assert features.shape == (2, 1, 24)
        for clip, found in zip(clips, features[:, 0], strict=True):
            assert torch.allclose(found, literal(backbone.vision_encoder, clip), atol=1e-10)


def test_layout_joins_what_it_splits_and_keeps_frames_inside():
    layout = Joint(frames=3)
    tokens = torch.arange(2 * 7).view(2, 7, 1)
    token, patches = layout.split(tokens)
    assert token.shape == (2, 1, 1, 1)
    assert patches[0, :, 0, 0].tolist() == [1, 2, 3]  # the three frames of patch 0
    assert patches.shape == (2, 3, 2, 1)
    assert_same_bits(layout.join([token, patches]), tokens)
    assert_same_bits(layout.join(layout.split(tokens[:, :1])), tokens[:, :1])


def test_zero_initialised_adapters_leave_both_towers_bit_identical():
    backbone, clips = small(), torch.randn(1, 4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        video, text = backbone.encode_frames(clips), backbone.encode_texts(TEXTS)
        for tower in (backbone.image, backbone.text):
            for index in range(len(tower.blocks)):
                adapter = nn.Linear(tower.width, tower.width).double()
                nn.init.zeros_(adapter.weight)
                nn.init.zeros_(adapter.bias)
                tower.add_parallel(index, adapter)
        assert_same_bits(backbone.encode_frames(clips), video)
        assert_same_bits(backbone.encode_texts(TEXTS), text)


def test_the_last_block_computes_what_is_read_and_no_less():
    """Features and gradients with a branch in every block equal those of full blocks."""
    clips = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    results = []
    for read in (0, None):
        backbone = small()
        for index in range(3):
            backbone.image.add_parallel(index, lambda x, i=index: torch.tanh(x) * (i + 1))
        vision = backbone.vision_encoder
        x = backbone.image.run(vision.embed(clips), Joint(frames=4), read=read)
        assert x.shape == (2, 17 if read is None else 1, 32)
        features = vision.project(x[:, :1])
        features.sum().backward()
        gradients = {name: p.grad for name, p in vision.named_parameters()}
        results.append((features, gradients))
    (features, gradients), (expected, by_name) = results
    assert torch.allclose(features, expected, atol=1e-10)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, by_name[name], rtol=1e-6, atol=1e-10), name


def test_recomputing_activations_changes_nothing():
    backbone, clips = small(), torch.randn(1, 4, 3, 32, 32, dtype=torch.float64)
    gradients = []
    for enabled in (False, True):
        backbone.set_grad_checkpointing(enabled)
        gradients.append(torch.autograd.grad(backbone.encode_frames(clips).sum(), backbone.vision_encoder.proj)[0])
    assert_same_bits(*gradients)


@pytest.mark.parametrize("frames", [2, 4, 7])
def test_positions_of_other_numbers_of_frames(frames):
    table = torch.randn(1, 4, 6, dtype=torch.float64)
    cut = temporal_positions(table, frames, "cut_or_pad")
    assert_same_bits(cut[:, : min(frames, 4)], table[:, :frames])
    assert not cut[:, 4:].any()
    stretched = temporal_positions(table, frames, "interpolate")
    assert stretched.shape == cut.shape
    assert stretched.min() >= table.min() - 1e-12
    assert stretched.max() <= table.max() + 1e-12
    assert_same_but_rounding(temporal_positions(table, 1, "interpolate"), table.mean(1, keepdim=True))


def test_clips_of_any_length_are_encoded():
    backbone = small()
    with torch.no_grad():
        for frames in (1, 2, 6):
            assert backbone.encode_frames(torch.randn(1, frames, 3, 32, 32).double()).shape == (1, 1, 24)


def test_long_texts_are_cut_as_released():
    backbone = small()
    ids = backbone.tokenize(["very " * 60, "short"])
    assert ids.shape == (2, 32)
    assert ids[0, -1] == ids[1].max() == 49407


def test_what_cannot_work_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"model is 'ViCLIP-H'; allowed: ViCLIP-B-16, ViCLIP-L-14"):
        ViCLIP("ViCLIP-H")
    with pytest.raises(CheckpointError, match="does not exist"):
        ViCLIP("small", sizes=SMALL, pretrained=str(tmp_path / "none.pth"))
    with pytest.raises(ConfigError, match="one feature a clip"):
        MoTE(small())
    assert F.normalize(small().encode_texts(TEXTS), dim=-1).shape == (2, 24)


def test_frames_of_another_size_are_refused_and_cut_texts_are_recorded():
    backbone = small()
    with pytest.raises(ConfigError, match=r"frames are 48 x 48 pixels and small takes 32 x 32; .*image_size=32"):
        backbone.encode_frames(torch.randn(1, 4, 3, 48, 48).double())
    assert backbone.settings()["long_texts"] == "cut"


def test_a_file_of_another_model_is_a_short_message(tmp_path):
    path = str(tmp_path / "small.safetensors")
    save_file({key: value.float().contiguous() for key, value in small().state_dict().items()}, path)
    with (
        torch.device("meta"),
        pytest.raises(CheckpointError, match=r"as ViCLIP-B-16 does not fit the model") as refused,
    ):
        ViCLIP("ViCLIP-B-16", path)
    assert len(str(refused.value).splitlines()) < 25
