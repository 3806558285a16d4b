"""What a method may expect of a vision-language backbone: two towers whose blocks can be extended."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

if TYPE_CHECKING:
    from vlbench.backbones.text import TextTower

Branch = Callable[[Tensor], Tensor]


class Layout(ABC):
    """Turns the token sequence a block sees into one or more grids `(B, T, N, D)` and back.

    An adapter written for grids then serves every tower, whatever the order of its tokens.
    """

    @abstractmethod
    def split(self, tokens: Tensor) -> list[Tensor]:
        """Grids `(B, T, N, D)` of a block's tokens."""

    @abstractmethod
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        """Inverse of `split`."""


class FrameMajor(Layout):
    """One sequence a frame: `(B·T, N, D)` is one grid `(B, T, N, D)`. A text is a clip of one frame.

    Attributes:
        frames: T of the clips now passing through; the encoder sets it.
    """

    def __init__(self) -> None:
        self.frames = 1

    @override
    def split(self, tokens: Tensor) -> list[Tensor]:
        return [tokens.unflatten(0, (-1, self.frames))]

    @override
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        (grid,) = grids
        return grid.flatten(0, 1)


class Tower:
    """The transformer blocks of one encoder.

    Not a module: the blocks stay registered where the backbone put them, so its state dict keeps its keys.

    Args:
        blocks: the blocks in order, counted from 0.
        width: D, the width of their tokens.
        layout: how those tokens are ordered.

    Attributes:
        first_branch: lowest block that has a branch; the number of blocks where none has. Below it a frozen tower
            computes the same in every step.
    """

    def __init__(self, blocks: Sequence[nn.Module], width: int, layout: Layout) -> None:
        self.blocks = blocks
        self.width = width
        self.layout = layout
        self.first_branch = len(blocks)
        self._active = True

    def norm(self, index: int) -> nn.Module:
        """The LayerNorm that block `index` applies to its input before attention."""
        norm = self.blocks[index].ln_1
        assert isinstance(norm, nn.Module)
        return norm

    def add_parallel(self, index: int, branch: Branch) -> RemovableHandle:
        """Adds `branch(x)` to the output of block `index`, x being the block's input as grids `(B, T, N, D)`.

        A branch may mix the frames of a position but not the positions: where only one token of the last block is
        read, it is given that token alone. A forward hook calls it, so neither the block nor the state dict changes.
        """

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any], output: Tensor) -> Tensor | None:
            if not self._active:
                return None
            tokens = inputs[0] if output.shape == inputs[0].shape else pick(inputs[0], options.get("at"))
            return output + self.layout.join([branch(grid) for grid in self.layout.split(tokens)])

        self.first_branch = min(index, self.first_branch)
        return self.blocks[index].register_forward_hook(hook, with_kwargs=True)

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """Inside, the branches are left out: the tower is the one that was loaded."""
        before, self._active = self._active, False
        try:
            yield
        finally:
            self._active = before


def pick(x: Tensor, at: Tensor | None) -> Tensor:
    """One token `(N, 1, D)` of each sequence `(N, L, D)`: the one at `at`, int64 `(N,)`, or the first."""
    return x[:, :1] if at is None else x.gather(1, at.view(-1, 1, 1).expand(-1, -1, x.shape[-1]))


@dataclass(frozen=True)
class BackboneIdentity:
    """Says which frozen weights a checkpoint belongs to.

    Attributes:
        name: architecture.
        pretrained: tag or file the weights came from, `None` for random ones.
        digest: of every parameter's name and bytes, as they were when the backbone was built.
    """

    name: str
    pretrained: str | None
    digest: str

    def as_dict(self) -> dict[str, str | None]:
        """Plain values for a checkpoint or a record."""
        return asdict(self)


class DualEncoder(nn.Module, ABC):
    """A video and a text encoder with a common embedding space.

    Attributes:
        embed_dim: D of the common space.
        text_width: width of the text tower.
        image_size: side of the square frames, in pixels.
        identity: which weights these are.
        mean, std: normalisation constants of pixel values in [0, 1], shape `(3, 1, 1)`.
    """

    embed_dim: int
    text_width: int
    image_size: int
    identity: BackboneIdentity
    mean: Tensor
    std: Tensor

    @property
    @abstractmethod
    def image(self) -> Tower:
        """The image tower's blocks."""

    @property
    @abstractmethod
    def text(self) -> TextTower:
        """The text tower."""

    @property
    @abstractmethod
    def visual(self) -> nn.Module:
        """The module that holds every parameter of the image tower."""

    @property
    @abstractmethod
    def logit_scale(self) -> nn.Parameter:
        """Logarithm of the factor on cosines."""

    @abstractmethod
    def encode_frames(self, pixels: Tensor, *, visual: nn.Module | None = None) -> Tensor:
        """Features of clips, before pooling over time and before normalisation.

        Args:
            pixels: `(B, T, 3, H, W)`, normalised.
            visual: image tower to use instead of this backbone's own.

        Returns:
            `(B, F, D)`: F = T where every frame is encoded by itself, F = 1 where the frames attend to each other.
        """

    @abstractmethod
    def set_grad_checkpointing(self, enabled: bool) -> None:
        """Recomputes the image tower's activations in the backward pass instead of keeping them."""

    def normalize(self, video: Tensor) -> Tensor:
        """Pixels the image tower expects.

        Args:
            video: uint8 `(..., 3, H, W)` in 0..255.

        Returns:
            float, same shape: `(video / 255 - mean) / std`.
        """
        return (video.to(self.mean.dtype) / 255 - self.mean) / self.std

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids `(N, L)`, int64, L being the longest text's length.

        Raises:
            ConfigError: if a text does not fit the context.
        """
        return self.text.tokenize(texts)

    def encode_texts(self, texts: Sequence[str], *, chunk: int = 512) -> Tensor:
        """Features `(N, D)` of texts, not normalised, computed `chunk` texts at a time."""
        parts = [texts[i : i + chunk] for i in range(0, len(texts), chunk)]
        return torch.cat([self.text.encode(self.text.tokenize(part)) for part in parts])


def weights_digest(module: nn.Module) -> str:
    """Hexadecimal digest of every parameter's name, type, shape and bytes; independent of the device."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(module.named_parameters()):
        digest.update(f"{name}:{parameter.dtype}:{tuple(parameter.shape)};".encode())
        if parameter.device.type != "meta":
            values = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()
