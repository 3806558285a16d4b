"""How a tower orders the tokens of clips, as a value that goes with them through every forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override


@dataclass(frozen=True)
class Layout(ABC):
    """What a block may know of the clips whose tokens pass through it.

    It turns the tokens into grids `(B, T, N, D)` and back. An adapter written for grids then serves every tower,
    whatever the order of its tokens.

    Attributes:
        frames: Number of frames T of every clip.
    """

    frames: int

    @abstractmethod
    def split(self, tokens: Tensor) -> list[Tensor]:
        """Grids `(B, T, N, D)` of a block's tokens."""

    @abstractmethod
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        """The tokens of grids: inverse of `split`."""


@dataclass(frozen=True)
class FrameMajor(Layout):
    """One sequence a frame: `(B·T, N, D)` is one grid `(B, T, N, D)`. A text is a clip of one frame."""

    @override
    def split(self, tokens: Tensor) -> list[Tensor]:
        return [tokens.unflatten(0, (-1, self.frames))]

    @override
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        (grid,) = grids
        return grid.flatten(0, 1)


@dataclass(frozen=True)
class Joint(Layout):
    """One sequence a clip: its class token, then patch by patch, frames inside: `(B, 1 + N·T, D)`.

    These are two grids, `(B, 1, 1, D)` and `(B, T, N, D)`; only the first where the sequence is the class token alone.
    """

    @override
    def split(self, tokens: Tensor) -> list[Tensor]:
        token, patches = tokens[:, :1].unsqueeze(1), tokens[:, 1:]
        return [token, patches.unflatten(1, (-1, self.frames)).transpose(1, 2)] if patches.shape[1] else [token]

    @override
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        token, *patches = grids
        return torch.cat([token.flatten(1, 2), *(grid.transpose(1, 2).flatten(1, 2) for grid in patches)], dim=1)


@dataclass(frozen=True)
class JointByFrame(Layout):
    """One sequence a clip: its class token, then frame by frame, patches inside: `(B, 1 + T·N, D)`.

    The grids are those of `Joint`.
    """

    @override
    def split(self, tokens: Tensor) -> list[Tensor]:
        token, patches = tokens[:, :1].unsqueeze(1), tokens[:, 1:]
        return [token, patches.unflatten(1, (self.frames, -1))] if patches.shape[1] else [token]

    @override
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        return torch.cat([grid.flatten(1, 2) for grid in grids], dim=1)
