"""Blocks whose tokens also attend to those of the frames before and after: Open-VCLIP's attention."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.blocks import Block, Position, ReadOnceBlock, pick
from vlbench.backbones.layouts import Layout
from vlbench.errors import ConfigError
from vlbench.ranges import Range

MissingFrames = Literal["zeros", "masked"]
"""What a frame at an end of the clip attends to in the place of the neighbours that it lacks: `zeros`, keys and values
that are zero and take part in the softmax, as in the released code, or nothing, `masked`."""


class NeighbourFramesBlock(ReadOnceBlock):
    """A block whose queries of frame t meet keys and values of the frames t - n to t + n.

    Args:
        loaded: The block whose parts are adopted.
        reach: Number n of frames on either side.
        missing: What stands for the frames that a clip lacks at its ends.
    """

    def __init__(self, loaded: Block, reach: int, missing: MissingFrames) -> None:
        super().__init__(loaded)
        self.reach = reach
        self.missing = missing

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        attention: Any = self.attention
        y = self.norm1(x)
        q, k, v = attention.project(y) if at is None else attention.project(pick(y, at), y)
        x = pick(x, at) + self._attend(q, k, v, clip.frames)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, frames: int) -> Tensor:
        """Output `(B·T, Q, D)` for queries of that shape, keys and values `(B·T, L, D)`."""
        attention: Any = self.attention
        if self.missing == "zeros":
            out: Tensor = attention.attend(q, self._windows(k, frames), self._windows(v, frames))
            return out
        q, k, v = (part.unflatten(0, (-1, frames)) for part in (q, k, v))
        each = []
        for t in range(frames):
            near = slice(max(0, t - self.reach), t + self.reach + 1)
            each.append(attention.attend(q[:, t], k[:, near].flatten(1, 2), v[:, near].flatten(1, 2)))
        return torch.stack(each, dim=1).flatten(0, 1)

    def _windows(self, x: Tensor, frames: int) -> Tensor:
        """Tokens `(B·T, (2n + 1)·L, D)` of every frame's neighbourhood, zeros beyond the clip."""
        padded = F.pad(x.unflatten(0, (-1, frames)), (0, 0, 0, 0, self.reach, self.reach))
        shifted = [padded[:, first : first + frames] for first in range(2 * self.reach + 1)]
        return torch.cat(shifted, dim=2).flatten(0, 1)


def attend_to_neighbours(backbone: DualEncoder, reach: int, missing: MissingFrames) -> None:
    """Has every image block of a backbone attend to the neighbouring frames; no parameter is added.

    Args:
        backbone: Dual encoder whose frames are encoded one by one, in blocks.
        reach: Number of frames on either side, option `neighbours`; 0 leaves the blocks as they are.
        missing: What stands for the frames that a clip lacks at its ends, option `missing_neighbours`.

    Raises:
        ConfigError: If a value is not allowed.
    """
    Range(0, 64).check("neighbours", reach)
    if missing not in ("zeros", "masked"):
        raise ConfigError(f"missing_neighbours is {missing!r}; allowed: 'zeros', 'masked'")
    for index in range(len(backbone.image.blocks) if reach else 0):
        backbone.image.replace(index, partial(NeighbourFramesBlock, reach=reach, missing=missing))
