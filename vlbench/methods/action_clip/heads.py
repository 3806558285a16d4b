"""ActionCLIP's heads over time, its "post-network prompts", under the names of the released checkpoints."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vlbench.backbones.blocks import QuickGELU
from vlbench.errors import ConfigError

HeadName = Literal["meanP", "Conv_1D", "Conv_1D_corrected", "LSTM", "Transf", "Transf_cls"]
"""Heads by their released names; `Conv_1D_corrected` convolves over time, where `Conv_1D` mixes channels and frames."""

POSITIONS = 77
"""Number of learned frame positions of the head `Transf`: the length of the text context in the released code."""

_CLASS_HEADS = 8


def make_head(name: HeadName, width: int, *, heads: int, layers: int, frames: int) -> nn.Module:
    """A head, which maps frame features `(B, T, C)` to features `(B, F, C)` whose mean is the video's.

    Args:
        name: Name of the head.
        width: Width C of the frame features.
        heads: Attention heads of `Transf`; the released code has (text width) / 64.
        layers: Number of blocks of `Transf` and `Transf_cls`.
        frames: Number T of frames that `Transf_cls` has positions for.

    Raises:
        ConfigError: If there is no such head, or its attention heads do not divide the width.
    """
    if name == "meanP":
        return nn.Identity()
    if name in ("Conv_1D", "Conv_1D_corrected"):
        return ConvolutionHead(width, over_time=name == "Conv_1D_corrected")
    if name == "LSTM":
        return RecurrentHead(width)
    if name == "Transf":
        return TransformerHead(width, heads, layers)
    if name == "Transf_cls":
        return ClassTokenHead(width, layers, frames)
    raise ConfigError(
        f"head is {name!r}; allowed: 'meanP', 'Conv_1D', 'Conv_1D_corrected', 'LSTM', 'Transf', 'Transf_cls'"
    )


class ConvolutionHead(nn.Module):
    """Depthwise convolution of kernel 3 with a residual, which at the beginning shifts half of the channels in time.

    Args:
        width: Width C of the frame features.
        over_time: Whether the convolution runs over time; the released code reads the memory of `(T, C)` as `(C, T)`,
            so that its neighbours are channels.
    """

    def __init__(self, width: int, *, over_time: bool) -> None:
        super().__init__()
        self.over_time = over_time
        self.shift = nn.Conv1d(width, width, kernel_size=3, padding=1, groups=width, bias=False)
        taps = torch.zeros_like(self.shift.weight)
        quarter = width // 4
        taps[:quarter, 0, 0] = taps[quarter : width - quarter, 0, 1] = taps[width - quarter :, 0, 2] = 1
        self.shift.weight.data.copy_(taps)

    def forward(self, frames: Tensor) -> Tensor:
        """The convolved frame features and themselves, `(B, T, C)`."""
        _, length, width = frames.shape
        x = frames.transpose(1, 2) if self.over_time else frames.reshape(-1, width, length)
        out: Tensor = frames + self.shift(x).transpose(1, 2)
        return out


class RecurrentHead(nn.Module):
    """One layer of an LSTM with a residual.

    Args:
        width: Width C of the frame features, and of the hidden state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm_visual = nn.LSTM(width, width, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        """The states and the frame features, `(B, T, C)`."""
        out: Tensor = frames + self.lstm_visual(frames)[0]
        return out


class _MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.gelu = QuickGELU()
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.gelu(self.c_fc(x)))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-12)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-12)
        self.mlp = _MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class TransformerHead(nn.Module):
    """Pre-norm transformer over the frames, behind learned positions, with a residual around it.

    Args:
        width: Width C of the frame features.
        heads: Attention heads of a block.
        layers: Number of the transformer's blocks.

    Raises:
        ConfigError: If the attention heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        _check_heads("Transf", width, heads)
        self.frame_position_embeddings = nn.Embedding(POSITIONS, width)
        blocks = nn.Sequential(*(_Block(width, heads) for _ in range(layers)))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """The blocks' output, which contains the frame features, and these again, `(B, T, C)`.

        Raises:
            ConfigError: If there are more frames than positions.
        """
        length = frames.shape[1]
        if length > POSITIONS:
            raise ConfigError(f"a clip has {length} frames; the head Transf has {POSITIONS} positions")
        positions = self.frame_position_embeddings.weight[:length]
        out: Tensor = frames + self.transformer["resblocks"](frames + positions)
        return out


class _ClassTokenEncoder(nn.Module):
    def __init__(self, width: int, layers: int, frames: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, frames + 1, width))
        layer = nn.TransformerEncoderLayer(width, _CLASS_HEADS, dim_feedforward=2048, batch_first=True)
        norm = nn.LayerNorm(width)
        self.transformer_enc = nn.TransformerEncoder(layer, layers, norm=norm, enable_nested_tensor=False)
        _folded_normal(self.cls_token, self.pos_embed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _folded_normal(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(frames.shape[0], -1, -1), frames], dim=1)
        out: Tensor = self.transformer_enc(x + self.pos_embed)
        return out


class ClassTokenHead(nn.Module):
    """Torch's post-norm transformer encoder over a class token and the frames; the class token is the video.

    Dropout of 0.1 draws from torch's global generator.

    Args:
        width: Width C of the frame features.
        layers: Number of the encoder's layers.
        frames: Number T of frames of a clip.

    Raises:
        ConfigError: If eight attention heads do not divide the width.
    """

    def __init__(self, width: int, layers: int, frames: int) -> None:
        super().__init__()
        _check_heads("Transf_cls", width, _CLASS_HEADS)
        self.frames = frames
        self.transformer = _ClassTokenEncoder(width, layers, frames)

    def forward(self, frames: Tensor) -> Tensor:
        """The class token behind the last layer, `(B, 1, C)`.

        Raises:
            ConfigError: If clips have another number of frames than there are positions.
        """
        if frames.shape[1] != self.frames:
            raise ConfigError(
                f"a clip has {frames.shape[1]} frames, and the head Transf_cls positions for {self.frames}; give "
                "model.frames the value of data.frames"
            )
        out: Tensor = self.transformer(frames)[:, :1]
        return out


def _check_heads(name: str, width: int, heads: int) -> None:
    if width % heads:
        raise ConfigError(
            f"the head {name} has {heads} attention heads, which do not divide the features' {width} dimensions; give "
            "model.head meanP, Conv_1D or LSTM"
        )


def _folded_normal(*parameters: Tensor) -> None:
    """Sets parameters to 0.02 (z mod 2), z being standard normal and the remainder having its sign."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_().fmod_(2).mul_(0.02)
