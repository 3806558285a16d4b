"""Blocks whose attention runs over time and over space, with adapters behind both and beside the MLP (AIM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Block, Position, ReadOnceBlock, pick
from vlbench.backbones.layouts import Layout


class Adapter(nn.Sequential):
    """`A(x) = W_2 gelu(W_1 x)`, 0 in the beginning: W_1 is normal with standard deviation 0.02, everything else is 0.

    Args:
        width: Width D of the tokens.
        hidden: Width of the hidden layer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        first, second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        super().__init__(first, nn.GELU(), second)
        nn.init.normal_(first.weight, std=0.02)
        for value in (first.bias, second.weight, second.bias):
            nn.init.zeros_(value)


class PositionDrop(nn.Module):
    """Drop path over the positions of tokens: training drops a position in all frames of all clips at once.

    That is how the released code drops, whose first axis counts tokens, and not a clip at a time as papers do.

    Args:
        rate: Probability p that a position is dropped, in [0, 1); others are divided by 1 - p.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def draw(self, x: Tensor) -> Tensor:
        """Factors `(L, 1)` of the positions of tokens `(N, L, D)`."""
        kept = torch.rand(x.shape[1], 1, device=x.device) >= self.rate
        return kept.to(x.dtype) / (1 - self.rate)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `(N, L, D)` without those of dropped positions; x itself in evaluation."""
        return x * self.draw(x) if self.training and self.rate else x


class BlockAdapters(nn.Module):
    """The adapters of a block, and the drop path of the two that may be dropped.

    Args:
        width: Width D of the tower.
        hidden: Width of the adapters' hidden layers.
        before_time: Whether there is one before the attention over time too.
        scale: Factor s on the adapter beside the MLP.
        drop: Probability that a position of an adapter's output is dropped in training.
    """

    def __init__(self, width: int, hidden: int, *, before_time: bool, scale: float, drop: float) -> None:
        super().__init__()
        self.before_time = Adapter(width, hidden) if before_time else None
        self.time = Adapter(width, hidden)
        self.space = Adapter(width, hidden)
        self.joint = Adapter(width, hidden)
        self.drop = PositionDrop(drop)
        self.scale = scale


class AIMBlock(ReadOnceBlock):
    """A block whose own attention runs over time and then over space; behind both, and beside the MLP, are adapters A.

        x = x + drop(A_t(attention(y)))             y = norm1(x), or y + A_b(y): over the frames of a position
        x = x + u + A_s(u)                          u = attention(norm1(x)): over the tokens of a frame
        x = x + mlp(y) + drop(s A_j(y))             y = norm2(x)

    Args:
        loaded: The block whose parts are adopted.
        adapters: Adapters of the block.
    """

    def __init__(self, loaded: Block, adapters: BlockAdapters) -> None:
        super().__init__(loaded)
        self._adapters = (adapters,)  # a tuple: their parameters are registered elsewhere

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        (adapters,) = self._adapters
        x = x + adapters.drop(self._over_time(self.norm1(x), clip.frames))
        y = self.norm1(x)
        u = self.attention(y) if at is None else self.attention(pick(y, at), y, at)
        x = pick(x, at) + u + adapters.space(u)
        y = self.norm2(x)
        out: Tensor = x + self.mlp(y) + adapters.drop(adapters.scale * adapters.joint(y))
        return out

    def _over_time(self, y: Tensor, frames: int) -> Tensor:
        """What attention over time adds to tokens `(B·T, L, D)`: one call for all positions of all clips."""
        (adapters,) = self._adapters
        length = y.shape[1]
        y = y.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # (B·L, T, D)
        if adapters.before_time is not None:
            y = y + adapters.before_time(y)
        y = adapters.time(self.attention(y))
        out: Tensor = y.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)
        return out
