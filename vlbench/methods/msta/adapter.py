"""The multi-modal spatio-temporal adapter of one block (MSTA, arXiv 2411.11223)."""

from __future__ import annotations

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


class BlockAdapter(nn.Module):
    """The adapters of one pair of blocks, an image block and a text block, with a matrix they share.

    `video: h = s(W_s s(W_dv x)), A_v(x) = W_us h + W_ut * h`, where `W_ut *` is a convolution over time, kernel
    `(3, 1, 1)`, one group a bottleneck channel. `text: h = s(W_s s(W_dt x)), A_t(x) = W_ut' h`. s is ReLU.

    Args:
        video_width: Width of the image tower.
        text_width: Width of the text tower.
        bottleneck: Bottleneck width d of the adapters.
        initialization: `kaiming`, normal with fan-out as in the multi-modal adapter (CVPR 2024) that MSTA extends, or
            `zero` for the up projections, which makes the adapted tower start as the frozen one.

    Raises:
        ConfigError: If d does not divide the image tower's width, as the grouped convolution needs.
    """

    def __init__(
        self,
        video_width: int,
        text_width: int,
        bottleneck: int,
        initialization: Literal["kaiming", "zero"] = "kaiming",
    ) -> None:
        super().__init__()
        if bottleneck < 1 or video_width % bottleneck:
            raise ConfigError(f"bottleneck is {bottleneck}; it must divide the image tower's width, {video_width}")
        self.video_down = nn.Linear(video_width, bottleneck)
        self.text_down = nn.Linear(text_width, bottleneck)
        self.shared = nn.Linear(bottleneck, bottleneck)
        self.video_up = nn.Linear(bottleneck, video_width)
        self.temporal_up = nn.Conv3d(
            bottleneck, video_width, kernel_size=(3, 1, 1), padding=(1, 0, 0), groups=bottleneck
        )
        self.text_up = nn.Linear(bottleneck, text_width)
        for layer in self.children():
            assert isinstance(layer, nn.Linear | nn.Conv3d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        if initialization == "zero":
            for layer in (self.video_up, self.temporal_up, self.text_up):
                nn.init.zeros_(layer.weight)

    def _bottleneck(self, x: Tensor, down: nn.Linear) -> Tensor:
        return F.relu(self.shared(F.relu(down(x))))

    def video(self, x: Tensor) -> Tensor:
        """A_v of a grid `(B, T, N, D)`; time is mixed within a position, positions never."""
        h = self._bottleneck(x, self.video_down)
        out: Tensor = self.video_up(h) + self._over_time(h)
        return out

    def _over_time(self, h: Tensor) -> Tensor:
        """`temporal_up` of a grid `(B, T, N, d)`: for each of the d channels one matrix product with the three taps.

        The CPU computes it three times faster than the grouped convolution it equals.
        """
        convolution = self.temporal_up
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
