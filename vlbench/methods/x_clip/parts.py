"""X-CLIP's parts: messages between frames, their integration over time, and prompts of the video."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Attention, Block, QuickGELU, adopt_blocks
from vlbench.backbones.layouts import FrameMajor, Layout

_LAYERS = 2
"""Blocks of the prompt generator."""
_ALPHA = 0.1
"""Factor on the prompts at the beginning."""


class MessageBlock(Block):
    """Block of an image tower in which each frame also attends to a message from all frames.

    With `M` the frames' class tokens, mapped, and `m` a frame's row of `M + attention(norm(M))`, which runs over time:
    `x + attention(norm1([x, m]))` without the message's own output, and then `x + mlp(norm2(x))`.

    Args:
        loaded: The block whose parts are adopted.
        width: Width of the tower's tokens.
        heads: Number of heads of the attention over time.
    """

    def __init__(self, loaded: Block, width: int, heads: int) -> None:
        super().__init__(loaded)
        self.message_fc = nn.Linear(width, width)
        self.message_ln = nn.LayerNorm(width)
        self.message_attn = Attention(nn.MultiheadAttention(width, heads))

    @override
    def forward(self, x: Tensor, clip: Layout) -> Tensor:
        messages = self.message_fc(x[:, 0]).unflatten(0, (-1, clip.frames))  # (B, T, D)
        messages = messages + self.message_attn(self.message_ln(messages))
        y = self.norm1(torch.cat([x, messages.flatten(0, 1).unsqueeze(1)], dim=1))
        x = x + self.attention(y[:, :-1], y)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Integration(nn.Module):
    """Frame features after a block over time, with learned positions of the frames: `f + block(f + P)`.

    Args:
        width: Width D of the features.
        heads: Number of attention heads.
        frames: Number T of frames of a clip.
    """

    def __init__(self, width: int, heads: int, frames: int) -> None:
        from open_clip.transformer import ResidualAttentionBlock  # late, see openclip.py

        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(1, frames, width).normal_(std=0.02))
        block = ResidualAttentionBlock(width, heads, act_layer=QuickGELU, norm_layer=nn.LayerNorm)
        block.apply(_initialize)
        self.resblocks = adopt_blocks(nn.ModuleList([block]), causal=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Features `(B, T, D)` of frame features of that shape."""
        x = frames + self.positional_embedding
        for block in self.resblocks:
            x = block(x, FrameMajor(frames=1))
        return frames + x


class CrossBlock(nn.Module):
    """`t + attention(norm1(t), p)`, then `t + mlp(norm3(t))`: classes t attend to patches p, and not to each other.

    Args:
        width: Width D of the features.
        heads: Number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        """Features `(B, C, D)`.

        Args:
            text: Class features `(B, C, D)`, or `(1, C, D)` where they are the same for every video.
            patches: Patch features of the videos, `(B, P, D)`.
        """
        q = self.query(self.norm1(text)).expand(patches.shape[0], -1, -1)
        split = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, self.key(patches), self.value(patches))
        )
        mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(-2)
        text = text + self.out(mixed)
        out: Tensor = text + self.mlp(self.norm3(text))
        return out


class PromptGenerator(nn.Module):
    """Prompts `alpha t` of classes and videos, t being class features after blocks that attend to the video's patches.

    Args:
        image_width: Width of the image tower's tokens.
        width: Width D of the features.
        heads: Number of attention heads.
    """

    def __init__(self, image_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.image_norm = nn.LayerNorm(image_width)
        self.image_proj = nn.Parameter(torch.randn(image_width, width))
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(CrossBlock(width, heads) for _ in range(_LAYERS))
        self.alpha = nn.Parameter(torch.full((width,), _ALPHA))
        self.decoder.apply(_initialize)

    def patches(self, tokens: Tensor) -> Tensor:
        """Projected means over time `(B, P, D)` of patch tokens `(B, T, P, W)`."""
        # The projection is linear: it costs T times less after the mean.
        projected: Tensor = self.image_norm(tokens).mean(dim=1) @ self.image_proj
        return projected

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        """Prompts `(B, C, D)` of class features `(C, D)` and patch features `(B, P, D)`."""
        text, patches = text.unsqueeze(0), self.norm(patches)
        for block in self.decoder:
            text = block(text, patches)
        return self.alpha * text


def _initialize(module: nn.Module) -> None:
    """Weights `N(0, 0.02²)` and zero biases of linear maps; the rest is torch's default."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
