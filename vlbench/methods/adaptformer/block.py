"""A block with a bottleneck beside its MLP (AdaptFormer, arXiv 2205.13535)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Block, Position, ReadOnceBlock, pick
from vlbench.backbones.layouts import Layout

Initialization = Literal["zero", "truncated_normal"]
"""How adapters begin: `zero`, up projections are 0 and the others Kaiming uniform, or `truncated_normal`, all are."""


class Bottleneck(nn.Module):
    """The adapter `A(x) = s W_u drop(relu(W_d x))`, both matrices with a bias.

    Args:
        width: Width D of the tokens.
        bottleneck: Bottleneck width d of the adapter.
        scale: Factor s on the adapter's output.
        dropout: Part of the bottleneck's values that training sets to 0, in [0, 1).
        initialization: Beginning of the matrices: `zero` for W_u with Kaiming-uniform W_d, or `truncated_normal`, both
            with a standard deviation of 0.02. Biases begin as 0.
    """

    def __init__(
        self, width: int, bottleneck: int, *, scale: float, dropout: float, initialization: Initialization
    ) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, bottleneck)  # torch begins with Kaiming uniform, a² = 5
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        if initialization == "zero":
            nn.init.zeros_(self.up.weight)
        else:
            for layer in (self.down, self.up):
                nn.init.trunc_normal_(layer.weight, std=0.02)
        for layer in (self.down, self.up):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """A of tokens `(..., D)`."""
        h = self.dropout(F.relu(self.down(x)))
        # The factor on d values of a token and not on D.
        return F.linear(self.scale * h, self.up.weight, self.scale * self.up.bias)


class AdaptFormerBlock(ReadOnceBlock):
    """The block `z = x + attention(norm1(x))`, then `z + mlp(norm2(z)) + A(z)`; A sees z without a norm.

    Args:
        loaded: The block whose parts are adopted.
        adapter: Adapter A of the block.
    """

    def __init__(self, loaded: Block, adapter: nn.Module) -> None:
        super().__init__(loaded)
        self.adapter = adapter

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        y = self.norm1(x)
        z = pick(x, at) + self.attention(pick(y, at), None if at is None else y, at)
        out: Tensor = z + self.mlp(self.norm2(z)) + self.adapter(z)
        return out
