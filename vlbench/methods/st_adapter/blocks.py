"""Blocks whose patches are mixed over the frames of a clip (ST-Adapter, arXiv 2206.13559)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Block, Position, ReadOnceBlock
from vlbench.backbones.layouts import Layout

Kernel = tuple[int, int, int]
"""Frames, rows and columns of patches of a convolution, odd numbers."""


class PatchAdapter(nn.Module):
    """`A(x) = x + W_u K(W_d x)` of the patches of a clip; their class tokens pass by.

    K is a depth-wise convolution over frames, rows and columns with zeros around the clip. There is no activation.
    Torch's own values of W_u and W_d and zeros elsewhere make it begin as the identity.

    Args:
        width: Width D of the tokens.
        bottleneck: Bottleneck width C, of K's channels.
        kernel: Frames, rows and columns of K.
    """

    def __init__(self, width: int, bottleneck: int, kernel: Kernel) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, bottleneck)
        frames, rows, columns = kernel
        padding = (frames // 2, rows // 2, columns // 2)
        self.conv = nn.Conv3d(bottleneck, bottleneck, kernel, padding=padding, groups=bottleneck)
        self.fc2 = nn.Linear(bottleneck, width)
        for value in (self.fc1.bias, self.conv.weight, self.conv.bias, self.fc2.bias):
            assert value is not None
            nn.init.zeros_(value)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """A(x) of tokens.

        Args:
            x: Tokens `(B·T, 1 + N, D)`, the class token first.
            frames: Number T of frames of a clip.

        Returns:
            `(B·T, 1 + N, D)`.
        """
        z = self.fc1(x).unflatten(0, (-1, frames))
        z = self._over_frames(z) if self.conv.kernel_size[1:] == (1, 1) else self._over_patches(z)
        out: Tensor = self.fc2(z.flatten(0, 1))
        out[:, 0] = 0  # every token goes through the linear maps: a copy of the patches would cost more
        return x + out

    def _over_frames(self, z: Tensor) -> Tensor:
        """K on `(B, T, 1 + N, C)` where it has one row and one column: a convolution of a picture, channels last."""
        weight, bias = self.conv.weight[..., 0], self.conv.bias
        padding = (self.conv.kernel_size[0] // 2, 0)
        mixed = F.conv2d(z.permute(0, 3, 1, 2), weight, bias, padding=padding, groups=z.shape[-1])
        return mixed.permute(0, 2, 3, 1)

    def _over_patches(self, z: Tensor) -> Tensor:
        """K on the square of patches in `(B, T, 1 + N, C)`; zeros for the class tokens."""
        side = round((z.shape[2] - 1) ** 0.5)
        patches = z[:, :, 1:].unflatten(2, (side, side)).permute(0, 4, 1, 2, 3)
        mixed = self.conv(patches).permute(0, 2, 3, 4, 1).flatten(2, 3)
        return F.pad(mixed, (0, 0, 1, 0))


class BlockAdapters(nn.Module):
    """The adapters of a block, before its attention, where there is one, and before its MLP.

    Args:
        width: Width D of the tower.
        bottleneck: Bottleneck width of the adapters.
        kernel: Frames, rows and columns of their convolutions.
        before_attention: Whether there is one before attention.
    """

    def __init__(self, width: int, bottleneck: int, kernel: Kernel, *, before_attention: bool) -> None:
        super().__init__()
        self.before_attention = PatchAdapter(width, bottleneck, kernel) if before_attention else None
        self.before_mlp = PatchAdapter(width, bottleneck, kernel)


class STAdapterBlock(ReadOnceBlock):
    """`x = A_1(x)`, `x = x + attention(norm1(x))`, `x = A_2(x)` and `x + mlp(norm2(x))`.

    Where only the class token is read, `A_2`, which changes patches, is left out.

    Args:
        loaded: The block whose parts are adopted.
        adapters: Adapters of the block.
    """

    def __init__(self, loaded: Block, adapters: BlockAdapters) -> None:
        super().__init__(loaded)
        self._adapters = (adapters,)  # a tuple: their parameters are registered elsewhere

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        (adapters,) = self._adapters
        if adapters.before_attention is not None:
            x = adapters.before_attention(x, clip.frames)
        if at is not None:
            return super().forward(x, clip, at)
        x = x + self.attention(self.norm1(x))
        x = adapters.before_mlp(x, clip.frames)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
