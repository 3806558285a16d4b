"""The parts of ViCLIP's towers; parameters have the released names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlbench.backbones.blocks import adopt_blocks
from vlbench.backbones.image_sizes import resized_grid
from vlbench.errors import ConfigError
from vlbench.ranges import Range

TemporalResizing = Literal["cut_or_pad", "interpolate"]


@dataclass(frozen=True)
class ViCLIPSizes:
    """Sizes of both towers.

    Attributes:
        embed_dim: Dimension D of the common space.
        image_size: Side of a frame, in pixels.
        patch_size: Side of a patch, in pixels.
        width: Width of the video tower.
        layers: Number of blocks of the video tower.
        heads: Number of attention heads of the video tower.
        text_width: Width of the text tower.
        text_layers: Number of blocks of the text tower.
        text_heads: Number of attention heads of the text tower.
        frames: Length of the table of temporal positions.
        context: Length of the longest text, in tokens.
        vocabulary: Number of different tokens.
    """

    embed_dim: int
    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    frames: int = 8
    context: int = 32
    vocabulary: int = 49408

    def __post_init__(self) -> None:
        for name in ("embed_dim", "image_size", "patch_size", "width", "text_width", "frames", "context"):
            Range(1, 8_192).check(f"sizes.{name}", getattr(self, name))
        for name in ("layers", "heads", "text_layers", "text_heads"):
            Range(1, 128).check(f"sizes.{name}", getattr(self, name))
        Range(1, 1_000_000).check("sizes.vocabulary", self.vocabulary)
        for part, whole in (("heads", "width"), ("text_heads", "text_width"), ("patch_size", "image_size")):
            if getattr(self, whole) % getattr(self, part):
                raise ConfigError(
                    f"sizes.{part} is {getattr(self, part)}; allowed: a divisor of {whole}, {getattr(self, whole)}"
                )


class Transformer(nn.Module):
    """The blocks of a tower, `resblocks`; `Tower.run` computes them.

    Args:
        width: Width D of the tokens.
        layers: Number of blocks of the tower.
        heads: Number of attention heads.
        causal: Whether a token attends only to itself and to those before it.
        activation: Activation of the hidden layers; `None` is quick GELU.
    """

    def __init__(
        self, width: int, layers: int, heads: int, *, causal: bool, activation: type[nn.Module] | None = None
    ) -> None:
        from open_clip.transformer import QuickGELU, ResidualAttentionBlock  # late, see openclip.py

        super().__init__()
        activation = activation or QuickGELU
        # Unlike CLIP's, these LayerNorms work in the type of their input.
        blocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, act_layer=activation, norm_layer=nn.LayerNorm) for _ in range(layers)
        )
        self.resblocks = adopt_blocks(blocks, causal=causal)


class VideoParts(nn.Module):
    """The video tower before and after its blocks: patches and positions, and the projection of the class token.

    Args:
        sizes: Sizes of the tower.
        grid: Number of patches along each side of a frame; another than the sizes' has the positions resized.
        resizing: What becomes of the temporal positions when clips have another number of frames.
    """

    def __init__(self, sizes: ViCLIPSizes, grid: int, resizing: TemporalResizing) -> None:
        super().__init__()
        width, patch = sizes.width, sizes.patch_size
        self.grid, self.resizing = grid, resizing
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) / width**0.5)
        self.positional_embedding = nn.Parameter(torch.randn((sizes.image_size // patch) ** 2 + 1, width) / width**0.5)
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, sizes.frames, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, sizes.layers, sizes.heads, causal=False)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, sizes.embed_dim) / width**0.5)

    def embed(self, clips: Tensor) -> Tensor:
        """Tokens `(B, 1 + N·T, D)` of clips `(B, T, 3, H, W)`: the class token, then patch by patch, frames inside."""
        x = self.conv1(clips.transpose(1, 2)).flatten(3).transpose(1, 3)  # (B, N, T, D)
        x = (
            x
            + resized_grid(self.positional_embedding[None, 1:], self.grid)[0][:, None]
            + temporal_positions(self.temporal_positional_embedding, clips.shape[1], self.resizing)
        )
        token = (self.class_embedding + self.positional_embedding[0]).expand(x.shape[0], 1, -1)
        tokens: Tensor = self.ln_pre(torch.cat([token, x.flatten(1, 2)], dim=1))
        return tokens

    def project(self, x: Tensor) -> Tensor:
        """Features `(B, D)` of the class tokens `(B, 1, D)` after the last block."""
        features: Tensor = self.ln_post(x.squeeze(1)) @ self.proj
        return features


class TextParts(nn.Module):
    """The text tower before and after its blocks.

    Args:
        embed_dim: Dimension D of the common space.
        width: Width of the tower.
        layers: Number of blocks of the tower.
        heads: Number of attention heads.
        context: Length of the longest text, in tokens.
        vocabulary: Number of different tokens.
        activation: Activation of the hidden layers; `None` is quick GELU.
    """

    def __init__(
        self,
        embed_dim: int,
        width: int,
        layers: int,
        heads: int,
        *,
        context: int,
        vocabulary: int,
        activation: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(torch.randn(context, width) * 0.01)
        self.transformer = Transformer(width, layers, heads, causal=True, activation=activation)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed_dim) / width**0.5)


def temporal_positions(table: Tensor, frames: int, resizing: TemporalResizing) -> Tensor:
    """Temporal positions for clips of a number of frames, as described at `ViCLIP`.

    Args:
        table: Learned positions `(1, T, D)`.
        frames: Number of frames of the clips.
        resizing: What becomes of the table where the number is another than T.

    Returns:
        `(1, frames, D)`.
    """
    length = table.shape[1]
    if frames == length:
        return table
    if frames == 1:
        return table.mean(dim=1, keepdim=True)
    if resizing == "interpolate":
        return F.interpolate(table.transpose(1, 2), frames, mode="linear", align_corners=False).transpose(1, 2)
    return table[:, :frames] if frames < length else F.pad(table, (0, 0, 0, frames - length))
