"""Learned vectors of a text, and the layer that has them look at a video."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from vlbench.backbones.blocks import Attention, Block
from vlbench.backbones.text import PreparedTexts


class PromptGenerator(nn.Module):
    """`q + attention(norm1(q), norm_context(z))`, then `q + mlp(norm2(q))`: vectors q of a text attend to a video's z.

    At the beginning it is a copy of a text block, and norm_context one of norm1. Where the features of the video are
    not as wide as the text, a linear map without bias makes them so.

    Args:
        block: Text block that is copied.
        features: Width D of the video's features.
        width: Width W of the text tower.
    """

    def __init__(self, block: Block, features: int, width: int) -> None:
        super().__init__()
        loaded = copy.deepcopy(block)
        assert isinstance(loaded.attention, Attention)
        self.norm1, self.norm_context = loaded.norm1, copy.deepcopy(loaded.norm1)
        self.attention = loaded.attention
        self.attention.causal = False
        self.norm2, self.mlp = loaded.norm2, loaded.mlp
        self.requires_grad_(True)
        self.widen: nn.Module = nn.Identity()
        if features != width:
            self.widen = nn.Linear(features, width, bias=False)
            nn.init.normal_(self.widen.weight, std=0.02)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Vectors `(B, n, W)` for the videos.

        Args:
            x: Vectors of the text, `(1, n, W)`, the same for every video.
            context: Features `(B, k, D)` of the videos.
        """
        q, k, v = self.attention.project(self.norm1(x), self.norm_context(self.widen(context)))
        x = x + self.attention.attend(q.expand(context.shape[0], -1, -1), k, v)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def with_vectors(texts: PreparedTexts, vectors: Tensor) -> PreparedTexts:
    """Texts `(B · C, L, W)` whose tokens from 1 on are vectors: all C texts with the first vectors, then with the next.

    Args:
        texts: Texts, `(C, L, W)`.
        vectors: Vectors `(B, n, W)` that take the place of the texts' tokens 1 to n.
    """
    hidden, behind = texts.hidden.unsqueeze(0), 1 + vectors.shape[1]
    parts = hidden[:, :, :1], vectors.to(hidden.dtype).unsqueeze(1), hidden[:, :, behind:]
    together = torch.cat([part.expand(vectors.shape[0], hidden.shape[1], -1, -1) for part in parts], dim=2)
    ends = texts.ends if isinstance(texts.ends, int) else texts.ends.repeat(vectors.shape[0])
    return replace(texts, ends=ends, hidden=together.flatten(0, 1))
