"""Blocks in which the frames of a clip share context tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Attention, Block
from vlbench.backbones.layouts import Layout
from vlbench.methods.tc_clip.merging import merged


@dataclass(frozen=True)
class FramesAndContext(Layout):
    """One sequence a clip: the tokens of its frames, frame after frame, then context tokens: `(B, T·N + k, D)`.

    These are the grids `(B, T, N, D)` and `(B, 1, k, D)`; only the first where there is no context yet.

    Attributes:
        tokens: Number N of tokens of a frame.
    """

    tokens: int

    @override
    def split(self, tokens: Tensor) -> list[Tensor]:
        length = self.frames * self.tokens
        frames, context = tokens[:, :length], tokens[:, length:]
        grid = frames.unflatten(1, (self.frames, self.tokens))
        return [grid, context.unsqueeze(1)] if context.shape[1] else [grid]

    @override
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        return torch.cat([grid.flatten(1, 2) for grid in grids], dim=1)


class ContextAttention(Attention):
    """Attention of each frame's tokens to their frame and to the clip's context: `softmax(q kᵀ / √d + b) v`.

    b is one number a head for the frame's own tokens and one for context tokens.

    Args:
        loaded: Attention whose parameters are adopted.
        biased: Whether there is b, which needs context tokens.
    """

    local_global_bias_table: Tensor | None

    def __init__(self, loaded: Attention, *, biased: bool) -> None:
        super().__init__(loaded)
        table = torch.empty(self.heads, 1, 2).normal_(std=0.02) if biased else None
        self.register_parameter("local_global_bias_table", None if table is None else nn.Parameter(table))

    def over_frames(self, x: Tensor, clip: FramesAndContext) -> tuple[Tensor, Tensor]:
        """The output `(B, T, N, D)`, and the class tokens' attention to the patches, `(B, T, N - 1)`, without gradient.

        The latter are means over the heads of the weights, which sum to less than 1 over the patches.

        Args:
            x: Normalised tokens `(B, T·N + k, D)` of frames and context.
            clip: Number of the clips' frames, and of a frame's tokens.
        """
        queries, keys, values = self.project(x)
        queries = clip.split(queries)[0].flatten(0, 1)
        keys, values = _visible(keys, clip), _visible(values, clip)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (queries, keys, values))
        bias = self._bias(k.shape[2] - clip.tokens, clip.tokens)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
        out: Tensor = self._layer_scale[0](self.out_proj(mixed.transpose(1, 2).flatten(-2)))
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # bfloat16 would tie patches
            kind = torch.promote_types(q.dtype, torch.float32)
            scores = q[:, :, :1].to(kind) @ k.to(kind).mT / math.sqrt(q.shape[-1])
            weights = (scores if bias is None else scores + bias).softmax(dim=-1).mean(dim=1)
        frames = (-1, clip.frames)
        return out.unflatten(0, frames), weights[:, 0, 1 : clip.tokens].unflatten(0, frames)

    def _bias(self, context: int, frame: int) -> Tensor | None:
        """Terms `(1, H, 1, N + k)` of the products of queries with a frame's N own and with k context tokens."""
        table = self.local_global_bias_table
        if table is None:
            return None
        return torch.cat([table[..., :1].expand(-1, -1, frame), table[..., 1:].expand(-1, -1, context)], dim=-1)[None]


class ContextBlock(Block):
    """Block whose attention includes context tokens, and which replaces these by its own.

    Its context tokens are the patches of every frame that the class token attends to most, after attention, merged to
    k; frames and context then go through the same MLP.

    Args:
        loaded: The block whose parts are adopted.
        index: Number of the block, from 0; the first one has no context tokens to attend to.
        last: Whether it is the last block, of which only class and context tokens are wanted, `(B, T + k, D)`.
        seed_share: Part of a frame's patches that context tokens are made of.
        context_tokens: Number k of context tokens; fewer where there are fewer patches.
        merged_at_once: Largest number of pairs that one of the first rounds merges.
    """

    attention: ContextAttention

    def __init__(
        self, loaded: Block, index: int, *, last: bool, seed_share: float, context_tokens: int, merged_at_once: int
    ) -> None:
        super().__init__(loaded)
        assert isinstance(loaded.attention, Attention)
        self.attention = ContextAttention(loaded.attention, biased=index > 0)
        self._last = last
        self._seed_share = seed_share
        self._merging = (context_tokens, merged_at_once)

    @override
    def forward(self, x: Tensor, clip: Layout) -> Tensor:
        assert isinstance(clip, FramesAndContext)
        frames = clip.split(x)[0]
        attended, attention = self.attention.over_frames(self.norm1(x), clip)
        frames = frames + attended
        seeds = attention.topk(max(1, int((clip.tokens - 1) * self._seed_share)), dim=-1).indices  # (B, T, s)
        patches = frames[:, :, 1:].gather(2, seeds.unsqueeze(-1).expand(-1, -1, -1, frames.shape[-1]))
        context = merged(patches.flatten(1, 2), *self._merging)
        x = clip.join([frames[:, :, :1] if self._last else frames, context.unsqueeze(1)])
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def _visible(tokens: Tensor, clip: FramesAndContext) -> Tensor:
    """What a frame sees of tokens `(B, T·N + k, D)`: its own and the context's, `(B·T, N + k, D)`."""
    frames, *context = clip.split(tokens)
    return torch.cat([frames, *(each.expand(-1, clip.frames, -1, -1) for each in context)], dim=2).flatten(0, 1)
