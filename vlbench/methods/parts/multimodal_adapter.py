"""The adapter of a pair of blocks that MSTA (arXiv 2411.11223) and the multi-modal adapter (CVPR 2024) share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlbench.errors import ConfigError


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself; its gradient is multiplied by `factor`."""
    out: Tensor = _ScaleGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return out


def scaled_branch(
    adapt: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    scale: float,
    norm: nn.Module | None = None,
    rescale_gradient: bool = True,
) -> Tensor:
    """`scale * adapt(norm(x))` of the shape of x, what an adapter adds to the output of its block.

    Args:
        adapt: Adapter of one tower, `BlockAdapter.video` or `BlockAdapter.text`.
        x: Input of the block, a grid `(B, T, N, D)`.
        scale: Factor λ on the adapter's output.
        norm: LayerNorm before the adapter, the block's first one; `None` for none.
        rescale_gradient: Whether the adapter's own gradient is that of scale 1; the gradient of x is the true one.
    """
    if rescale_gradient:
        x = scale_gradient(x, scale)
    y = scale * adapt(x if norm is None else norm(x))
    return scale_gradient(y, 1 / scale) if rescale_gradient else y


class BlockAdapter(nn.Module):
    """The adapters of one pair of blocks, an image block and a text block, with a matrix they share.

    `video: h = s(W_s s(W_dv x)), A_v(x) = W_us h + W_ut * h`, where `W_ut *` is a convolution over time, kernel
    `(3, 1, 1)`, one group a bottleneck channel. `text: h = s(W_s s(W_dt x)), A_t(x) = W_ut' h`. s is ReLU. The
    multi-modal adapter has no convolution.

    Args:
        video_width: Width of the image tower.
        text_width: Width of the text tower.
        bottleneck: Bottleneck width d of the adapters.
        initialization: `kaiming`, normal with fan-out as in the multi-modal adapter (CVPR 2024) that MSTA extends, or
            `zero` for the up projections, which makes the adapted tower start as the frozen one.
        temporal: Whether there is the convolution over time.

    Raises:
        ConfigError: If d does not divide the image tower's width, as the grouped convolution needs.
    """

    def __init__(
        self,
        video_width: int,
        text_width: int,
        bottleneck: int,
        initialization: Literal["kaiming", "zero"] = "kaiming",
        *,
        temporal: bool = True,
    ) -> None:
        super().__init__()
        if temporal and (bottleneck < 1 or video_width % bottleneck):
            raise ConfigError(f"bottleneck is {bottleneck}; it must divide the image tower's width, {video_width}")
        self.video_down = nn.Linear(video_width, bottleneck)
        self.text_down = nn.Linear(text_width, bottleneck)
        self.shared = nn.Linear(bottleneck, bottleneck)
        self.video_up = nn.Linear(bottleneck, video_width)
        self.temporal_up = (
            nn.Conv3d(bottleneck, video_width, kernel_size=(3, 1, 1), padding=(1, 0, 0), groups=bottleneck)
            if temporal
            else None
        )
        self.text_up = nn.Linear(bottleneck, text_width)
        for layer in self.children():
            assert isinstance(layer, nn.Linear | nn.Conv3d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        if initialization == "zero":
            for up in (self.video_up, self.temporal_up, self.text_up):
                if up is not None:
                    nn.init.zeros_(up.weight)

    def _bottleneck(self, x: Tensor, down: nn.Linear) -> Tensor:
        return F.relu(self.shared(F.relu(down(x))))

    def video(self, x: Tensor) -> Tensor:
        """A_v of a grid `(B, T, N, D)`; time is mixed within a position, positions never.

        One matrix product up for both terms, of a frame and its two neighbours: a GPU computes products with one group
        of three taps a channel at a small part of its rate, and a CPU is no slower with the zeros between the groups.
        """
        h, over_time = self._bottleneck(x, self.video_down), self.temporal_up
        if over_time is None:
            out: Tensor = self.video_up(h)
            return out
        frames, width = h.shape[1], h.shape[-1]
        padded = F.pad(h, (0, 0, 0, 0, 1, 1))  # zeros before the first and after the last frame
        # Shifted copies, not `unfold`: torch 2.11 compiles its backward pass to code that writes out of bounds.
        windows = torch.cat([padded[:, tap : tap + frames] for tap in range(3)], dim=-1)
        taps = torch.diag_embed(over_time.weight.view(width, -1, 3).permute(1, 2, 0))  # (D / d, 3, d, d)
        weight = taps.permute(2, 0, 1, 3).flatten(0, 1) + F.pad(self.video_up.weight.unsqueeze(1), (0, 0, 1, 1))
        assert over_time.bias is not None
        # The biases stay outside of the product, which autocast rounds: the tower goes on in float32 after an adapter.
        return F.linear(windows, weight.flatten(1)) + (self.video_up.bias + over_time.bias)

    def text(self, x: Tensor) -> Tensor:
        """A_t of tokens `(..., D)`."""
        out: Tensor = self.text_up(self._bottleneck(x, self.text_down))
        return out
