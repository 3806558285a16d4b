"""Towers of transformer blocks that methods extend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlbench.backbones.blocks import Block, Position, ReadOnceBlock, pick
from vlbench.backbones.layouts import Layout

Branch = Callable[[Tensor], Tensor]
"""Maps a grid `(B, T, N, D)` to one of the same shape."""


class Tower:
    """The transformer blocks of one encoder, and the branches beside them.

    Not a module: the blocks stay registered where the backbone put them, so its state dict keeps its keys. Nothing in
    it changes during a forward pass.

    Args:
        blocks: Module list that holds the blocks in order, counted from 0.
        width: Width D of the tokens.
        norm: LayerNorm that the tokens pass before the first block; `None` where there is none.

    Attributes:
        width: Width D of the tokens.
        norm: LayerNorm that the tokens pass before the first block; the identity where there is none.
        grad_checkpointing: Whether the backward pass computes activations again instead of keeping them.
        first_changed: Lowest index of a block that was replaced or has a branch; the number of blocks where there is
            none. Below it a frozen tower computes the same in every step.
    """

    def __init__(self, blocks: nn.ModuleList, width: int, norm: nn.Module | None = None) -> None:
        self.width = width
        self.norm = norm or nn.Identity()
        self.grad_checkpointing = False
        self.first_changed = len(blocks)
        self._registered = blocks
        self._loaded = self.blocks
        self._branches: dict[int, list[Branch]] = {}
        self._step = _step

    def compile(self, *, dynamic: bool | None = None) -> None:
        """Has torch.compile compile the blocks with their branches; equal ones share what was compiled.

        Args:
            dynamic: Whether the first compilation already is for sequences of any number and length; `None` is for the
                first ones that come, and for any once others come.
        """
        # Every kind of block, in training and in evaluation, counts towards torch's limit of 8.
        torch._dynamo.config.cache_size_limit = max(64, torch._dynamo.config.cache_size_limit)
        self._step = torch.compile(_step, dynamic=dynamic)

    @property
    def blocks(self) -> list[Block]:
        """The blocks in order, replaced ones included."""
        return cast("list[Block]", list(self._registered))

    def replace(self, index: int, make: Callable[[Block], Block]) -> None:
        """Puts another block in the place of block `index`.

        Args:
            index: Number of the block, from 0.
            make: Called with the block that is there, gives the new one: a subclass of `Block`, or a `partial` of it.
                It may add parameters and exchange parts, but adopts every parameter of the old block under its name.

        Raises:
            ValueError: If the new block lacks a parameter of the old one.
        """
        old = self.blocks[index]
        block = make(old)
        adopted = dict(block.named_parameters(remove_duplicate=False))
        lost = [name for name, parameter in old.named_parameters() if adopted.get(name) is not parameter]
        if lost:
            raise ValueError(
                f"{type(block).__name__} does not adopt {', '.join(lost)} of block {index}; call Block's constructor "
                "with the block that is replaced, and register what an exchanged part held under the same names"
            )
        self._registered[index] = block
        self.first_changed = min(index, self.first_changed)

    def add_parallel(self, index: int, branch: Branch) -> None:
        """Adds `branch(x)` to the output of block `index`, x being the block's input as grids `(B, T, N, D)`.

        Args:
            index: Number of the block, from 0.
            branch: May mix the frames of a position but not the positions: where only one token of the last block is
                read, it is given that token alone.
        """
        self._branches.setdefault(index, []).append(branch)
        self.first_changed = min(index, self.first_changed)

    def run(
        self,
        x: Tensor,
        clip: Layout,
        *,
        start: int = 0,
        stop: int | None = None,
        read: Position | None = None,
        adapted: bool = True,
    ) -> Tensor:
        """Tokens after some of the blocks.

        Args:
            x: Tokens `(N, L, D)` that block `start` takes.
            clip: Number of frames of the clips and the order of their tokens.
            start: Number of the first block that is computed.
            stop: Number of the block before which the computation ends; `None` goes to the last one.
            read: Position of the one token that is read after the last block; `None` reads all.
            adapted: Whether blocks are replaced and branches are added; without, the tower is as it was loaded.

        Returns:
            `(N, L, D)`, or `(N, 1, D)` after the last block where one token is read.
        """
        run = self.blocks if adapted else self._loaded
        for index, block in list(enumerate(run))[start:stop]:
            branches = self._branches.get(index, []) if adapted else []
            arguments = (block, branches, x, clip, read if index == len(run) - 1 else None)
            step = self._step
            x = checkpoint(step, *arguments, use_reentrant=False) if self.grad_checkpointing else step(*arguments)
        return x


def _step(block: Block, branches: Sequence[Branch], x: Tensor, clip: Layout, at: Position | None) -> Tensor:
    """The output of a block with the branches beside it, for the tokens that are read."""
    out: Tensor = block(x, clip, at) if isinstance(block, ReadOnceBlock) else pick(block(x, clip), at)
    for branch in branches:
        out = out + clip.join([branch(grid) for grid in clip.split(pick(x, at))])
    return out
