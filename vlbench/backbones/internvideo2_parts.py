"""The parts of InternVideo2-CLIP's towers: the video tower around its blocks, and the preparation of texts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlbench.backbones.blocks import adopt_blocks
from vlbench.backbones.image_sizes import resized_grid
from vlbench.errors import ConfigError
from vlbench.ranges import Range

TemporalPositions = Literal["fixed", "interpolated"]


@dataclass(frozen=True)
class InternVideo2Sizes:
    """Sizes of both towers.

    Attributes:
        embed_dim: Dimension D of the common space.
        pooled_dim: Dimension of the pooled video feature, which a linear map takes to the common space.
        image_size: Side of a frame, in pixels.
        patch_size: Side of a patch, in pixels.
        width: Width of the video tower.
        layers: Number of blocks of the video tower.
        heads: Number of attention heads of the video tower's blocks.
        pool_heads: Number of attention heads of the pooling.
        text_width: Width of the text tower.
        text_layers: Number of blocks of the text tower.
        text_heads: Number of attention heads of the text tower.
        mlp_ratio: Width of the video tower's hidden layers, in widths of the tower.
        frames: Number of frames that the table of positions is for.
        context: Length of the longest text, in tokens.
        vocabulary: Number of different tokens.
    """

    embed_dim: int
    pooled_dim: int
    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    pool_heads: int = 16
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    mlp_ratio: float = 4.0
    frames: int = 8
    context: int = 77
    vocabulary: int = 49408

    def __post_init__(self) -> None:
        sizes = ("embed_dim", "pooled_dim", "image_size", "patch_size", "width", "text_width", "frames", "context")
        for name in sizes:
            Range(1, 8_192).check(f"sizes.{name}", getattr(self, name))
        for name in ("layers", "heads", "pool_heads", "text_layers", "text_heads"):
            Range(1, 128).check(f"sizes.{name}", getattr(self, name))
        Range(0.125, 32).check("sizes.mlp_ratio", self.mlp_ratio)
        Range(1, 1_000_000).check("sizes.vocabulary", self.vocabulary)
        for part, whole in (
            ("heads", "width"), ("pool_heads", "width"), ("text_heads", "text_width"), ("patch_size", "image_size"),
        ):  # fmt: skip
            if getattr(self, whole) % getattr(self, part):
                raise ConfigError(
                    f"sizes.{part} is {getattr(self, part)}; allowed: a divisor of {whole}, {getattr(self, whole)}"
                )


class VideoParts(nn.Module):
    """The video tower before and after its blocks: patches and positions, pooling, and the map to the common space.

    Args:
        sizes: Sizes of the tower.
        grid: Number of patches along each side of a frame; another than the sizes' has the positions resized.
        positions: What becomes of the positions when clips have another number of frames.
    """

    def __init__(self, sizes: InternVideo2Sizes, grid: int, positions: TemporalPositions) -> None:
        super().__init__()
        width, patch = sizes.width, sizes.patch_size
        self.frames, self.grid, self.positions = sizes.frames, grid, positions
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch))
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        tokens = 1 + sizes.frames * (sizes.image_size // patch) ** 2
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.blocks = adopt_blocks(_blocks(sizes), causal=False)
        self.pooling = AttentionPooling(width, sizes.pool_heads, sizes.pooled_dim)
        self.align = nn.Sequential(nn.LayerNorm(sizes.pooled_dim), nn.Linear(sizes.pooled_dim, sizes.embed_dim))

    def embed(self, clips: Tensor) -> Tensor:
        """Tokens `(B, 1 + T·N, D)` of clips `(B, T, 3, H, W)`: the class token, then frame by frame, patches inside.

        Raises:
            ConfigError: If clips have a number of frames that there are no positions for.
        """
        x = self.conv1(clips.transpose(1, 2)).flatten(2).transpose(1, 2)  # (B, T·N, D)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return x + self._table(clips.shape[1])

    def _table(self, frames: int) -> Tensor:
        """Positions `(1, 1 + T·N, D)` of the class token and of the patches of clips of T frames."""
        if frames not in (1, self.frames) and self.positions == "fixed":
            raise ConfigError(
                f"clips have {frames} frames and there are positions for {self.frames}; give the data frames="
                f"{self.frames}, or the backbone temporal_positions=interpolated"
            )
        return resized_positions(self.pos_embed, self.frames, frames, self.grid)

    def project(self, x: Tensor) -> Tensor:
        """Features `(B, D)` of all tokens `(B, 1 + T·N, width)` after the last block."""
        features: Tensor = self.align(self.pooling(x))
        return features


def _blocks(sizes: InternVideo2Sizes) -> nn.ModuleList:
    """Blocks with root-mean-square norms, of queries and keys too, and a factor on what each branch adds."""
    from open_clip.transformer import ResidualAttentionBlock  # late, see openclip.py

    width, norm = sizes.width, partial(RMSNorm, eps=1e-6)
    # The released code's fused MLP knows no other GELU than the approximate one.
    activation = partial(nn.GELU, approximate="tanh")
    blocks = nn.ModuleList()
    for _ in range(sizes.layers):
        block: Any = ResidualAttentionBlock(width, sizes.heads, sizes.mlp_ratio, 0.1, activation, norm)
        block.attn = nn.MultiheadAttention(width, sizes.heads, bias=False)
        block.attn.out_proj = nn.Linear(width, width)
        block.attn.query_norm, block.attn.key_norm = norm(width), norm(width)  # over all heads together
        blocks.append(block)
    return blocks


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm in the type of its input: under autocast queries and keys stay as narrow as values."""

    def forward(self, x: Tensor) -> Tensor:
        """The tokens `(..., D)`, normalised and scaled."""
        assert self.weight is not None
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class AttentionPooling(nn.Module):
    """One feature of a clip: attention of the mean of its tokens to all of them, each side behind a LayerNorm.

    Args:
        width: Width of the tokens.
        heads: Number of attention heads.
        out: Dimension of the feature.
    """

    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, out)` of tokens `(B, L, width)`, the class token among them."""
        q = self.q(self.norm1_q(x.mean(dim=1, keepdim=True)))
        k, v = self.k(self.norm1_k(x)), self.v(self.norm1_v(x))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        pooled: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))
        return pooled


def resized_positions(table: Tensor, old: int, new: int, grid: int) -> Tensor:
    """Positions for clips of another number of frames or other frames: linearly over time, then bicubically in a frame.

    The class token's stays. One frame gets the mean over time, as the released code has it for images.

    Args:
        table: Learned positions `(1, 1 + T·N, D)`, frame by frame.
        old: Number T of frames that the table is for.
        new: Number of frames of the clips.
        grid: Number of patches along each side of the clips' frames.

    Returns:
        `(1, 1 + new · grid², D)`.
    """
    token, patches = table[:, :1], table[0, 1:].unflatten(0, (old, -1))  # (T, N, D)
    if (new, grid) == (old, math.isqrt(patches.shape[1])):
        return table
    if new == 1:
        patches = patches.mean(dim=0, keepdim=True)
    elif new != old:
        patches = F.interpolate(patches.permute(1, 2, 0), new, mode="linear", align_corners=False).permute(2, 0, 1)
    return torch.cat([token, resized_grid(patches, grid).flatten(0, 1).unsqueeze(0)], dim=1)


class PlainTokenizer:
    """CLIP's tokenizer behind the released preparation of texts; texts that are too long are cut."""

    def __init__(self) -> None:
        import open_clip  # late, see openclip.py

        self._tokenizer = open_clip.get_tokenizer("ViT-B-16")

    def __call__(self, texts: Sequence[str], context_length: int) -> Tensor:
        """Token ids `(N, context_length)`, int64, padded with 0."""
        ids: Tensor = self._tokenizer([plain_text(text) for text in texts], context_length=context_length)
        return ids


def plain_text(text: str) -> str:
    """A text in lower case, without punctuation; hyphens and slashes become blanks, underscores stay.

    Example:
        >>> plain_text("Playing the guitar / ukulele - live!")
        'playing the guitar ukulele live'
    """
    text = re.sub(r"""[,.'!?"()*#:;~]""", "", text.lower())
    text = re.sub(r"[-/]", " ", text).replace("<person>", "person")
    return " ".join(text.split())
