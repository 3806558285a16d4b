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
        """A_v of a grid `(B, T, N, D)`; time is mixed within a position, positions never."""
        h = self._bottleneck(x, self.video_down)
        out: Tensor = self.video_up(h)
        return out if self.temporal_up is None else out + self._over_time(h)

    def _over_time(self, h: Tensor) -> Tensor:
        """The convolution of a grid `(B, T, N, d)`: for each of the d channels one matrix product with the three taps.

        The CPU computes it three times faster than the grouped convolution it equals.
        """
        convolution = self.temporal_up
        assert convolution is not None
        frames = h.shape[1]
        padded = F.pad(h, (0, 0, 0, 0, 1, 1))  # zeros before the first and after the last frame
        # Shifted copies, not `unfold`: torch 2.11 compiles its backward pass to code that writes out of bounds.
        windows = torch.stack([padded[:, tap : tap + frames] for tap in range(3)], dim=-1)
        weight = convolution.weight.view(h.shape[-1], -1, 3)
        over_time: Tensor = torch.einsum("btndk,dmk->btndm", windows, weight).flatten(-2)
        assert convolution.bias is not None
        return over_time + convolution.bias

    def text(self, x: Tensor) -> Tensor:
        """A_t of tokens `(..., D)`."""
        out: Tensor = self.text_up(self._bottleneck(x, self.text_down))
        return out
