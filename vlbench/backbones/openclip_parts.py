"""The parts of open_clip's own transformers in their roles; parameters have the names that OpenAI gave them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vlbench.backbones.blocks import Parts, Position, adopt_blocks
from vlbench.backbones.text import first, first_id, highest_id, last
from vlbench.backbones.towers import Tower


class Transformer(Parts):
    """The blocks of a tower, `resblocks`; `Tower.run` computes them.

    Args:
        loaded: open_clip's module of the same name, whose parts are adopted.
        causal: Whether a token attends only to itself and to those before it.
    """

    resblocks: nn.ModuleList

    def __init__(self, loaded: Any, *, causal: bool) -> None:
        super().__init__(loaded)
        self.resblocks = adopt_blocks(loaded.resblocks, causal=causal)


class ImageParts(Parts):
    """A ViT before and after its blocks: patches and positions, pooling and projection.

    Args:
        loaded: open_clip's module, whose parts are adopted.

    Attributes:
        read: Position of the token that the feature is read from; `None` where all are pooled.
    """

    class_embedding: Tensor
    positional_embedding: Tensor
    proj: Tensor
    conv1: nn.Module
    ln_pre: nn.Module
    transformer: Transformer
    ln_post: nn.Module
    read: int | None

    def __init__(self, loaded: Any) -> None:
        super().__init__(loaded)
        self.transformer = Transformer(loaded.transformer, causal=False)
        self.width = int(loaded.transformer.width)
        self._attention_pool = loaded.attn_pool is not None
        self._mean_first = bool(loaded.final_ln_after_pool)
        self.read = 0 if loaded.pool_type == "tok" and not self._attention_pool else None

    def tower(self) -> Tower:
        """The blocks of the ViT."""
        return Tower(self.transformer.resblocks, self.width, norm=self.ln_pre)

    def embed(self, frames: Tensor, positions: Tensor | None = None) -> Tensor:
        """Tokens of frames before the first block.

        Args:
            frames: Normalised frames `(B, 3, H, W)`.
            positions: Further positions `(B, 1, D)`, added to all tokens of a frame; `None` adds none.

        Returns:
            `(B, 1 + N, D)`, the class token first.
        """
        x = self.conv1(frames).flatten(2).transpose(1, 2)  # (B, N, D)
        token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([token, x], dim=1) + self.positional_embedding.to(x.dtype)
        if positions is not None:
            x = x + positions.to(x.dtype)
        tokens: Tensor = self.ln_pre(x)
        return tokens

    def project(self, x: Tensor) -> Tensor:
        """Features `(B, D)` of the tokens after the last block, `(B, 1, D)` where the class token alone is read."""
        if self.read is not None:
            # ONNX squeezes no dimension that is larger than 1.
            x = self.ln_post(x.squeeze(1) if x.shape[1] == 1 else x)
        elif self._attention_pool:
            x = self.ln_post(self._asked(x))
        elif self._mean_first:
            x = self.ln_post(x[:, 1:].mean(dim=1))
        else:
            x = self.ln_post(x[:, 1:]).mean(dim=1)
        features: Tensor = x @ self.proj
        return features

    def _asked(self, x: Tensor) -> Tensor:
        """What the first query of the attention pool reads of tokens `(B, 1 + N, D)`; of the others nothing is used."""
        pool: Any = self.attn_pool
        query = pool.ln_q(pool.query[:1]).expand(x.shape[0], 1, -1)
        tokens = pool.ln_k(x)
        read: Tensor = pool.attn(query, tokens, tokens, need_weights=False)[0]
        return read.squeeze(1)


def text_reading(text: Any, *, causal: bool) -> tuple[Callable[[Tensor], Position], bool]:
    """Which token of a text is read, for `TextTower`, and whether the padding behind texts is part of what is computed.

    Args:
        text: Text tower of open_clip, or a CLIP, which holds the parts of its own.
        causal: Whether a token attends only to itself and to those before it.
    """
    prefix = "text_" if hasattr(text, "text_pool_type") else ""
    name = str(getattr(text, f"{prefix}pool_type"))
    reads: dict[str, Callable[[Tensor], Position]] = {"argmax": highest_id, "first": first, "last": last}
    if name == "eos":
        reads[name] = partial(first_id, end=int(getattr(text, f"{prefix}eos_id")))
    return reads[name], not causal or name == "last"
