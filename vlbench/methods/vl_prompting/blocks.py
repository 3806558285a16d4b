"""Blocks some of whose tokens are learned, and do not come from the block before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Block, Position, ReadOnceBlock
from vlbench.backbones.layouts import Layout


class DeepPrompts(nn.Module):
    """Learned tokens of a tower, n for each of its first blocks, `N(0, 0.02²)` at the beginning.

    Args:
        depth: Number of blocks with tokens of their own.
        count: Number n of a block's tokens.
        width: Width D of the tower.

    Attributes:
        tokens: Learned tokens of the blocks, `(depth, n, D)`.
    """

    def __init__(self, depth: int, count: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(depth, count, width).normal_(std=0.02))


class ImagePromptBlock(ReadOnceBlock):
    """Block l of an image tower with n learned tokens P at the end: `[x, norm(P_1)]` or, for l > 1, `[x[:-n], P_l]`.

    Args:
        loaded: The block whose parts are adopted.
        prompts: Learned tokens of the tower.
        index: Number of the block, from 0.
        norm: LayerNorm before the tower's first block, through which that block's learned tokens go as well.
    """

    def __init__(self, loaded: Block, prompts: DeepPrompts, index: int, norm: nn.Module) -> None:
        super().__init__(loaded)
        self._learned = (prompts, index, norm)  # a tuple: their parameters are registered elsewhere

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        prompts, index, norm = self._learned
        tokens = prompts.tokens[index]
        kept, tokens = (x, norm(tokens)) if index == 0 else (x[:, : -len(tokens)], tokens)
        return super().forward(torch.cat([kept, _for_each(x, tokens)], dim=1), clip, at)


class TextPromptBlock(ReadOnceBlock):
    """Block l of a text tower whose tokens 1 to n are learned: `Q_1` and their positions or, for l > 1, `Q_l`.

    Args:
        loaded: The block whose parts are adopted.
        prompts: Learned tokens of the tower.
        index: Number of the block, from 0.
        positions: Function without arguments that gives the positions of the tower's tokens, `(context, D)`.
    """

    def __init__(self, loaded: Block, prompts: DeepPrompts, index: int, positions: Callable[[], Tensor]) -> None:
        super().__init__(loaded)
        self._learned = (prompts, index, positions)

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        prompts, index, positions = self._learned
        tokens = prompts.tokens[index]
        behind = 1 + len(tokens)
        if index == 0:
            tokens = tokens + positions()[1:behind]
        return super().forward(torch.cat([x[:, :1], _for_each(x, tokens), x[:, behind:]], dim=1), clip, at)


def _for_each(x: Tensor, tokens: Tensor) -> Tensor:
    """Tokens `(n, D)` for each of the sequences `(N, L, D)`, `(N, n, D)` in their precision."""
    return tokens.to(x.dtype).expand(x.shape[0], -1, -1)
