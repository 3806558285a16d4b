"""Blocks of an image tower in whose residual stream frames exchange channels, as in the temporal shift module."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.blocks import Position, ReadOnceBlock
from vlbench.backbones.layouts import Layout


class ShiftedBlock(ReadOnceBlock):
    """A block before which patches take an eighth of their channels from the next frame, an eighth from the previous.

    The class token stays as it is. Where there is no such frame, the channels are zeros.
    """

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        return super().forward(clip.join([_shifted(grid) for grid in clip.split(x)]), clip, at)


def _shifted(grid: Tensor) -> Tensor:
    """A grid `(B, T, 1 + N, D)` of class tokens and patches whose patches are shifted."""
    token, patches = grid[:, :, :1], grid[:, :, 1:]
    eighth = grid.shape[-1] // 8
    later, earlier, rest = patches.split([eighth, eighth, grid.shape[-1] - 2 * eighth], dim=-1)
    none = torch.zeros_like(later[:, :1])
    later, earlier = torch.cat([later[:, 1:], none], dim=1), torch.cat([none, earlier[:, :-1]], dim=1)
    return torch.cat([token, torch.cat([later, earlier, rest], dim=-1)], dim=2)
