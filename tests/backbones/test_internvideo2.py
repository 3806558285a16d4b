"""InternVideo2-CLIP against a literal restatement in float64, and what it shares with every backbone."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from tests.tolerance import assert_same_bits
from vlbench.backbones import InternVideo2
from vlbench.backbones.blocks import Attention
from vlbench.backbones.internvideo2_parts import InternVideo2Sizes, resized_positions
from vlbench.backbones.layouts import JointByFrame
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import MSTA, MoTE, VLPrompting

SMALL = InternVideo2Sizes(24, 40, 32, 16, 32, 2, 2, 4, 16, 2, 2, frames=4)
TEXTS = ["A cat!", "a video of a person jumping over a rather long fence"]


def small(**options):
    torch.manual_seed(0)
    backbone = InternVideo2("small", **{"sizes": SMALL, **options}).double().eval()
    with torch.no_grad():
        for name, parameter in backbone.vision_encoder.named_parameters():
            if set(name.split(".")) & {"ln_1", "ln_2", "query_norm", "key_norm", "ls_1", "ls_2", "pos_embed"}:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return backbone


def clips(frames=4, batch=2, size=32):
    return torch.randn(
        batch, frames, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(frames)
    )


def rms(x, weight):
    return weight * x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


def heads(q, k, v, count):
    """Attention head by head."""
    width = q.shape[-1] // count
    parts = []
    for head in range(count):
        part = slice(head * width, (head + 1) * width)
        parts.append((q[:, part] @ k[:, part].T / width**0.5).softmax(dim=-1) @ v[:, part])
    return torch.cat(parts, dim=-1)


def literal(vision, clip):
    """One clip (T, 3, H, W), frame by frame and patch by patch."""
    patch, side = SMALL.patch_size, SMALL.image_size // SMALL.patch_size
    kernel = vision.conv1.weight[:, :, 0].flatten(1)
    tokens = [vision.cls_token[0, 0]]
    for frame in clip:
        for row in range(side):
            for column in range(side):
                pixels = frame[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
                tokens.append(kernel @ pixels.flatten() + vision.conv1.bias)
    x = torch.stack(tokens) + vision.pos_embed[0]
    for block in vision.blocks:
        attn = block.attn
        q, k, v = (rms(x, block.ln_1.weight) @ attn.in_proj_weight.T).chunk(3, dim=-1)
        mixed = heads(rms(q, attn.query_norm.weight), rms(k, attn.key_norm.weight), v, SMALL.heads)
        x = x + block.ls_1.gamma * (mixed @ attn.out_proj.weight.T + attn.out_proj.bias)
        hidden = rms(x, block.ln_2.weight) @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias
        hidden = 0.5 * hidden * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
        x = x + block.ls_2.gamma * (hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias)
    pool = vision.pooling
    q, k, v = pool.q(pool.norm1_q(x.mean(dim=0, keepdim=True))), pool.k(pool.norm1_k(x)), pool.v(pool.norm1_v(x))
    return vision.align(pool.proj(heads(q, k, v, SMALL.pool_heads)))[0]


@torch.no_grad()
def test_the_video_tower_is_the_literal_one():
    backbone = small()
    features = backbone.encode_frames(clips())
    assert features.shape == (2, 1, 24)
    for clip, feature in zip(clips(), features[:, 0], strict=True):
        assert torch.allclose(feature, literal(backbone.vision_encoder, clip), atol=1e-10)


def test_layout_joins_what_it_splits_and_keeps_patches_inside():
    layout = JointByFrame(frames=3)
    tokens = torch.arange(2 * 7).view(2, 7, 1)
    token, patches = layout.split(tokens)
    assert token.shape == (2, 1, 1, 1)
    assert patches.shape == (2, 3, 2, 1)
    assert patches[0, :, 0, 0].tolist() == [1, 3, 5]  # patch 0 of the three frames
    assert_same_bits(layout.join([token, patches]), tokens)
    assert_same_bits(layout.join(layout.split(tokens[:, :1])), tokens[:, :1])


@torch.no_grad()
def test_msta_begins_as_the_backbone_and_sees_frames_in_time():
    backbone = small()
    before = backbone.encode_frames(clips()), backbone.encode_texts(TEXTS)
    method = MSTA(backbone, blocks=2, bottleneck=8, initialization="zero").double()
    assert_same_bits(backbone.encode_frames(clips()), before[0])
    assert_same_bits(backbone.encode_texts(TEXTS), before[1])
    for parameter in method.adapters.parameters():
        parameter.normal_()
    seen = []
    method.adapters[-1].video_down.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[:3])))
    assert not torch.allclose(backbone.encode_frames(clips()), before[0])
    assert seen == [(2, 1, 1), (2, 4, 4)]  # the class token, and 4 frames of 4 patches
    assert_same_bits(backbone.encode_frames(clips(), adapted=False), before[0])


class LowRank(Attention):
    """A low-rank term on the queries, before their norm."""

    def __init__(self, loaded):
        super().__init__(loaded)
        width = self.in_proj_weight.shape[1]
        self.down, self.up = nn.Linear(width, 2, bias=False), nn.Linear(2, width, bias=False)

    def project(self, x, context=None):
        q, k, v = super().project(x, context)
        return q + self.up(self.down(x)), k, v


@torch.no_grad()
def test_an_exchanged_attention_keeps_the_norms():
    """Low-rank queries equal merged weights, which pass the norm as well."""
    backbone, merged = small(), small()
    block = backbone.image.blocks[1]
    block.attention = LowRank(block.attention).double()
    low_rank = block.attention.up.weight @ block.attention.down.weight
    merged.image.blocks[1].attention.in_proj_weight[: SMALL.width] += low_rank
    assert torch.allclose(backbone.encode_frames(clips()), merged.encode_frames(clips()), atol=1e-10)
    assert not torch.allclose(backbone.encode_frames(clips()), small().encode_frames(clips()))
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    attention = backbone.image.blocks[0].attention
    assert torch.allclose(attention(x[:, :1], x), attention(x)[:, :1], atol=1e-10)  # a query and its context


def test_recomputing_activations_changes_nothing():
    backbone = small()
    gradients = []
    for enabled in (False, True):
        backbone.set_grad_checkpointing(enabled)
        weight = backbone.vision_encoder.conv1.weight
        gradients.append(torch.autograd.grad(backbone.encode_frames(clips()).sum(), weight)[0])
    assert_same_bits(*gradients)


@torch.no_grad()
def test_other_numbers_of_frames_and_sizes_only_where_asked():
    backbone = small()
    with pytest.raises(ConfigError, match=r"clips have 6 frames .* positions for 4; .*temporal_positions=interpolated"):
        backbone.encode_frames(clips(6))
    with pytest.raises(ConfigError, match=r"frames are 48 x 48 pixels and small takes 32 x 32; .*image_size"):
        backbone.encode_frames(clips(size=48))
    assert backbone.encode_frames(clips(1)).shape == (2, 1, 24)
    asked = small(temporal_positions="interpolated", image_size=48)
    assert asked.encode_frames(clips(6, size=48)).shape == (2, 1, 24)
    assert asked.image_size == 48
    assert_same_bits(small(temporal_positions="interpolated").encode_frames(clips()), backbone.encode_frames(clips()))
    settings = [each.settings() for each in (backbone, asked, small(image_size=48))]
    assert all(one != other for one in settings for other in settings if one is not other)
    assert {"temporal_positions": "interpolated", "image_size": 48, "long_texts": "cut"}.items() <= settings[1].items()


def test_positions_stay_within_those_of_the_table():
    table = torch.randn(1, 1 + 4 * 9, 6, dtype=torch.float64)
    assert_same_bits(resized_positions(table, 4, 4, 3), table)
    for frames in (1, 2, 7):
        resized = resized_positions(table, 4, frames, 3)
        assert resized.shape == (1, 1 + frames * 9, 6)
        assert_same_bits(resized[:, 0], table[:, 0])
        assert table.min() <= resized.min() <= resized.max() <= table.max()
    mean = resized_positions(table, 4, 1, 3)[0, 1:]
    torch.testing.assert_close(mean, table[0, 1:].unflatten(0, (4, 9)).mean(dim=0))


def test_long_texts_are_cut_as_released():
    ids = small().tokenize(["very " * 100, "short"])
    assert ids.shape == (2, 77)
    assert ids[0, -1] == ids[1].max() == 49407


def test_what_cannot_work_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"model is 'InternVideo2-H'; allowed: InternVideo2-CLIP-S-14, "):
        InternVideo2("InternVideo2-H")
    with pytest.raises(ConfigError, match=r"image_size is 40; allowed: multiples of 16, .*null, which takes 32"):
        small(image_size=40)
    with pytest.raises(ConfigError, match=r"sizes.heads is 3; allowed: a divisor of width, 32"):
        replace(SMALL, heads=3)
    with pytest.raises(CheckpointError, match="does not exist"):
        small(pretrained=str(tmp_path / "none.pth"))
    torch.save({"module": {"temp": torch.tensor(0.01), "vision_align.0.weight": torch.zeros(3)}}, tmp_path / "p.bin")
    with pytest.raises(CheckpointError, match=r"vision_encoder.blocks.\*, text_encoder.transformer.\* is missing"):
        small(pretrained=str(tmp_path / "p.bin"))
    torch.save({"epoch": 3}, tmp_path / "other.bin")
    with pytest.raises(CheckpointError, match=r"other.bin holds no weights .*'module' or 'model'"):
        small(pretrained=str(tmp_path / "other.bin"))
    with pytest.raises(ConfigError, match="one feature a clip"):
        MoTE(small())
    with pytest.raises(ConfigError, match="behind the class token, small has none"):
        VLPrompting(small())
    assert F.normalize(small().encode_texts(TEXTS), dim=-1).shape == (2, 24)


def test_a_file_of_another_model_is_a_short_message(tmp_path):
    state = {key: value.float().contiguous() for key, value in small().state_dict().items()}
    save_file(state, tmp_path / "small.safetensors")
    assert small(pretrained=str(tmp_path / "small.safetensors")).identity.pretrained
    with torch.device("meta"), pytest.raises(CheckpointError, match=r"as InternVideo2-CLIP-S-14 does not fit") as error:
        InternVideo2("InternVideo2-CLIP-S-14", str(tmp_path / "small.safetensors"))
    assert len(str(error.value).splitlines()) < 25
