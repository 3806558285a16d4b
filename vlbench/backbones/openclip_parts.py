"""The parts of open_clip's CLIP ViTs in their roles; parameters have the names that OpenAI gave them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlbench.backbones.blocks import Parts, adopt_blocks


class Transformer(Parts):
    """The blocks of a tower, `resblocks`; `Tower.run` computes them.

    Args:
        loaded: open_clip's module of the same name, whose parts are adopted.
        causal: Whether a token attends only to itself and to those before it.
    """

    def __init__(self, loaded: Any, *, causal: bool) -> None:
        super().__init__(loaded)
        self.resblocks = adopt_blocks(loaded.resblocks, causal=causal)


class ImageParts(Parts):
    """A ViT before and after its blocks: patches and positions, and the projection of the class token.

    Args:
        loaded: open_clip's module, whose parts are adopted.
    """

    class_embedding: Tensor
    positional_embedding: Tensor
    proj: Tensor
    conv1: nn.Module
    ln_pre: nn.Module
    transformer: Transformer
    ln_post: nn.Module

    def __init__(self, loaded: Any) -> None:
        super().__init__(loaded)
        self.transformer = Transformer(loaded.transformer, causal=False)

    def embed(self, frames: Tensor, positions: Tensor | None = None) -> Tensor:
        """Tokens of frames before the first block.

        Args:
            frames: Normalised frames `(B, 3, H, W)`.
            positions: Further positions `(B, 1, D)`, added to all tokens of a frame; `None` adds none.

        Returns:
            `(B, 1 + N, D)`, the class token first.
        """
        x = self.conv1(frames).flatten(2).transpose(1, 2)  # (B, N, D)
        token = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([token, x], dim=1) + self.positional_embedding.to(x.dtype)
        if positions is not None:
            x = x + positions.to(x.dtype)
        tokens: Tensor = self.ln_pre(x)
        return tokens

    def project(self, x: Tensor) -> Tensor:
        """Features `(..., C)` of class tokens `(..., D)` after the last block."""
        features: Tensor = self.ln_post(x) @ self.proj
        return features


def without_roles(clip: Any) -> str | None:
    """Why the towers here would compute something else than a model of open_clip; `None` where they do the same.

    Args:
        clip: Model that open_clip has built.
    """
    import open_clip
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    visual = clip.visual
    if not isinstance(clip, open_clip.CLIP) or not isinstance(visual, VisionTransformer):
        return f"is a {type(clip).__name__} with a {type(visual).__name__}, and only CLIP ViTs have blocks with roles"
    if clip.text_pool_type not in ("argmax", "eos"):
        return f"pools its text by {clip.text_pool_type!r} and not by its end token"
    if visual.attn_pool is not None or visual.pool_type != "tok":
        pooling = "attention" if visual.attn_pool is not None else repr(visual.pool_type)
        return f"pools its image tokens by {pooling} and not by its class token"
    if not isinstance(visual.patch_dropout, nn.Identity):
        return "drops patches in training"
    if clip.attn_mask is None:
        return "has a text tower without a causal mask"
    kinds = {type(block) for tower in (visual, clip) for block in tower.transformer.resblocks}
    if kinds != {ResidualAttentionBlock}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds - {ResidualAttentionBlock}))
        return f"has blocks of {names}"
    return None
