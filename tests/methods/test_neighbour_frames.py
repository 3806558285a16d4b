"""Attention to neighbouring frames against its formula, key by key."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.backbones import TinyCLIP
from vlbench.backbones.layouts import FrameMajor
from vlbench.errors import ConfigError
from vlbench.methods import OpenVCLIP
from vlbench.methods.parts.neighbour_frames import NeighbourFramesBlock, attend_to_neighbours

pytestmark = pytest.mark.quick

BLOCK = TinyCLIP(pretrained=False).double().image.blocks[0]
WIDTH = BLOCK.attention.in_proj_weight.shape[1]


def attended(y, reach, missing):
    """Attention output `(B, T, L, D)` of normed tokens of that shape, frame by frame."""
    attention, frames = BLOCK.attention, y.shape[1]
    q, k, v = (
        part.unflatten(-1, (attention.heads, -1))
        for part in (y @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    )
    out = torch.zeros_like(q)
    for t in range(frames):
        keys, values = [], []
        for other in range(t - reach, t + reach + 1):
            if 0 <= other < frames:
                keys.append(k[:, other])
                values.append(v[:, other])
            elif missing == "zeros":
                keys.append(torch.zeros_like(k[:, 0]))
                values.append(torch.zeros_like(v[:, 0]))
        key, value = torch.cat(keys, dim=1), torch.cat(values, dim=1)
        logits = torch.einsum("bqhd,bkhd->bhqk", q[:, t], key) / q.shape[-1] ** 0.5
        out[:, t] = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(dim=-1), value)
    return out.flatten(-2) @ attention.out_proj.weight.T + attention.out_proj.bias


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 5), reach=st.integers(1, 3), missing=st.sampled_from(["zeros", "masked"]),
    read=st.sampled_from([None, 0, 2]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_block_is_its_formula(frames, reach, missing, read, seed):
    x = torch.randn(2, frames, 4, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    block = NeighbourFramesBlock(BLOCK, reach, missing)
    with torch.no_grad():
        expected = x + attended(BLOCK.norm1(x), reach, missing)
        expected = (expected + BLOCK.mlp(BLOCK.norm2(expected))).flatten(0, 1)
        out = block(x.flatten(0, 1), FrameMajor(frames), read)
    assert torch.allclose(out, expected if read is None else expected[:, read : read + 1], atol=1e-10)


def test_without_neighbours_a_clip_is_encoded_as_by_clip():
    torch.manual_seed(0)
    clips = torch.randn(2, 3, 3, 32, 32)
    plain, none, alone, zeros = (TinyCLIP() for _ in range(4))
    attend_to_neighbours(none, 0, "zeros")
    attend_to_neighbours(alone, 2, "masked")
    attend_to_neighbours(zeros, 1, "zeros")
    with torch.no_grad():
        assert torch.equal(none.encode_frames(clips), plain.encode_frames(clips))
        single = clips[:, :1]
        assert torch.allclose(alone.encode_frames(single), plain.encode_frames(single), atol=1e-5)
        assert not torch.allclose(zeros.encode_frames(single), plain.encode_frames(single), atol=1e-3)
        assert not torch.allclose(alone.encode_frames(clips), plain.encode_frames(clips), atol=1e-3)


def test_no_parameter_is_added_and_clips_do_not_mix():
    torch.manual_seed(0)
    method, clips = OpenVCLIP(TinyCLIP()), torch.randn(3, 2, 3, 32, 32)
    assert method.backbone.state_dict().keys() == TinyCLIP().state_dict().keys()
    with torch.no_grad():
        together, alone = method.encode_frames(clips), method.encode_frames(clips[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": -1}, r"neighbours is -1; allowed: 0 to 64"),
        ({"missing_neighbours": "mean"}, r"missing_neighbours is 'mean'; allowed: 'zeros', 'masked'"),
    ],
)
def test_refuses_other_neighbours(options, message):
    with pytest.raises(ConfigError, match=message):
        OpenVCLIP(TinyCLIP(pretrained=False), **options)
