"""What a method may expect of a vision-language backbone: features of frames and texts, and towers of blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vlbench.backbones.identity import BackboneIdentity
from vlbench.backbones.preprocess import CLIP, Preprocess
from vlbench.backbones.text import TextTower
from vlbench.backbones.towers import Tower
from vlbench.errors import ConfigError
from vlbench.settings import plain

USE_A_CLIP = "use a CLIP, such as --config backbone/vit_b16.yaml"
"""The way out of a backbone that lacks a capability."""

FRAME_OPTIONS = ("image_size", "interpolation", "resize_mode")
"""Names by which `frame_options` says how frames become a backbone's; a DataModule has options of the same names."""

_PIXELS = ("mean", "std")
"""Attributes with the constants that pixels are normalised by."""


@dataclass(frozen=True)
class Capabilities:
    """What a backbone can do, so that a method which needs more refuses it in one sentence.

    Attributes:
        blocks: Whether the blocks of both towers can be replaced and have branches.
        class_token: Whether the image feature is read from a class token, the first of its sequence.
        causal_text: Whether a token of a text attends only to itself and to those before it.
        frames_encoded_one_by_one: Whether there is one feature a frame; otherwise frames attend to each other.
        texts: Whether there is a text tower, so that classes are known by their names.
        plain_attention: Whether image blocks have CLIP's attention, an `Attention` without norms and rotations of
            queries and keys, which methods extend or have attend to other tokens.
    """

    blocks: bool
    class_token: bool
    causal_text: bool
    frames_encoded_one_by_one: bool
    texts: bool = True
    plain_attention: bool = True


LACKS = {
    "blocks": "has none that can be reached",
    "class_token": "has none that its image feature is read from",
    "causal_text": "has another text tower",
    "frames_encoded_one_by_one": "gives one feature a clip",
    "texts": "has no text tower",
    "plain_attention": "has another attention than CLIP's",
}
"""What a backbone without a capability is like, for the sentence that refuses it."""


class Described(Protocol):
    """What tells whether a method can use a backbone: a backbone does, and so does what is known before it is built."""

    @property
    def capabilities(self) -> Capabilities:
        """What methods can do with the backbone."""

    @property
    def without_roles(self) -> str | None:
        """What keeps its blocks from having roles, a clause; `None` where they have or nobody says."""

    @property
    def embed_dim(self) -> int:
        """Dimension D of the common space."""

    @property
    def text_width(self) -> int:
        """Width of the text tower."""


def lack(backbone: Described, capability: str) -> str:
    """What a backbone without a capability is like, with the reason where it is known.

    Args:
        backbone: Backbone, or what is known of one before it is built.
        capability: Name of a field of `Capabilities`.
    """
    reason = backbone.without_roles if capability == "blocks" else None
    return LACKS[capability] if reason is None else f"{LACKS[capability]}: {reason}"


class TextEncoder(Protocol):
    """What makes features of texts; a `TextTower` does, and so does a model without blocks."""

    def tokenize(self, texts: Sequence[str], /) -> Tensor:
        """Token ids `(N, L)`, int64."""

    def lengths(self, texts: Sequence[str], /) -> list[int]:
        """Number of tokens of each text."""

    def encode(self, tokens: Tensor, /, *, adapted: bool = True) -> Tensor:
        """Features `(N, D)` of token ids `(N, L)`, not normalised."""


class DualEncoder(nn.Module, ABC):
    """A video and a text encoder with a common embedding space.

    Attributes:
        capabilities: What methods can do with this backbone.
        without_roles: What keeps its blocks from having roles, a clause; `None` where they have or nobody says.
        embed_dim: Dimension D of the common space.
        text_width: Width of the text tower; 0 where there is none.
        image_size: Side of the square frames, in pixels.
        trained_size: Side of the frames that the weights are for, in pixels; `None` is `image_size`.
        frames: Number of frames of a clip that the weights are for; 1 where frames are encoded one by one.
        identity: Which weights these are.
        preprocess: What the weights were trained to see; the data resizes frames by it.
        mean: Mean of the pixel values in [0, 1] that they are normalised by, `(3, 1, 1)`.
        std: Standard deviation of the pixel values in [0, 1] that they are normalised by, `(3, 1, 1)`.
    """

    capabilities: Capabilities
    without_roles: str | None = None
    embed_dim: int
    text_width: int
    image_size: int
    trained_size: int | None = None
    frames: int = 1
    identity: BackboneIdentity
    preprocess: Preprocess = CLIP
    mean: Tensor
    std: Tensor

    @property
    def image(self) -> Tower:
        """The image tower's blocks, of a backbone whose `capabilities` have blocks.

        Raises:
            ConfigError: If it has none that can be reached.
        """
        raise self._no_blocks("image")

    @property
    def text(self) -> TextTower:
        """The text tower's blocks, of a backbone whose `capabilities` have blocks.

        Raises:
            ConfigError: If it has none that can be reached.
        """
        raise self._no_blocks("text")

    def _no_blocks(self, tower: str) -> ConfigError:
        reason = f": {self.without_roles}" if self.without_roles else ""
        return ConfigError(f"{self.identity.name} has no {tower} blocks that can be reached{reason}; {USE_A_CLIP}")

    @property
    def texts(self) -> TextEncoder:
        """What makes features of texts: the text tower, where there is one."""
        return self.text

    @property
    @abstractmethod
    def visual(self) -> nn.Module:
        """The module that holds every parameter of the image tower."""

    @property
    def logit_scale(self) -> nn.Parameter:
        """Logarithm of the factor on cosines, of a backbone whose `capabilities` have texts.

        Raises:
            ConfigError: If there are none to have cosines with.
        """
        raise ConfigError(f"{self.identity.name} has no text tower and so no scale of cosines; {USE_A_CLIP}")

    @abstractmethod
    def encode_frames(self, pixels: Tensor, *, adapted: bool = True) -> Tensor:
        """Features of clips, before pooling over time and before normalisation.

        Args:
            pixels: Normalised clips `(B, T, 3, H, W)`.
            adapted: Whether blocks are replaced and branches are added; without, the tower is as it was loaded.

        Returns:
            `(B, F, D)`: F = T where every frame is encoded by itself, F = 1 where the frames attend to each other.
        """

    def class_tokens(self, pixels: Tensor, *, positions: Tensor | None = None) -> Tensor:  # noqa: ARG002 - for CLIPs
        """Class tokens of frames after the last block, before the last norm and the projection.

        Args:
            pixels: Normalised clips `(B, T, 3, H, W)`.
            positions: Positions `(T, D)` of frames, D being the tower's width, that are added to every token of a frame
                before the first norm and the blocks; `None` adds none.

        Returns:
            `(B, T, D)`.

        Raises:
            ConfigError: If the backbone has no blocks, or its frames attend to each other.
        """
        raise ConfigError(f"{self.identity.name} has no class tokens of single frames; {USE_A_CLIP}")

    def check_size(self, pixels: Tensor) -> None:
        """Whether clips have frames of the size that the positions of the image tower are for.

        Args:
            pixels: Clips `(B, T, 3, H, W)`.

        Raises:
            ConfigError: If they have not.
        """
        height, width = pixels.shape[-2:]
        if (height, width) != (self.image_size, self.image_size):
            raise ConfigError(
                f"frames are {height} x {width} pixels and {self.identity.name} takes {self.image_size} x "
                f"{self.image_size}; give the data image_size={self.image_size}, or the backbone another image_size "
                "where it has that option"
            )

    def use_preprocess(self, preprocess: Preprocess) -> None:
        """Registers the constants of the pixels; a constructor calls it.

        Args:
            preprocess: What the weights were trained to see.
        """
        self.preprocess = preprocess
        for key in _PIXELS:
            self.register_buffer(key, torch.tensor(getattr(preprocess, key)).view(3, 1, 1), persistent=False)

    def frame_options(self) -> dict[str, Any]:
        """How whole frames become the backbone's, by the names of `FRAME_OPTIONS`: their side in pixels, the
        interpolation and the resize mode."""
        values = self.image_size, self.preprocess.interpolation, self.preprocess.resize_mode
        return dict(zip(FRAME_OPTIONS, values, strict=True))

    def pixel_constants(self) -> dict[str, list[float]]:
        """Mean and standard deviation of pixel values in [0, 1] that frames are normalised by, three values each."""
        return {name: getattr(self, name).flatten().tolist() for name in _PIXELS}

    def settings(self) -> dict[str, object]:
        """What features depend on beside the names of the architecture and of the weights, as plain values.

        A backbone with more options adds them; how frames are resized is the data's setting. Random weights are a
        matter of the seed and have no digest here.
        """
        constants = {name: [round(value, 6) for value in values] for name, values in self.pixel_constants().items()}
        return {**constants, "weights": self.identity.digest if self.identity.pretrained is not None else None}

    def deviations(self) -> dict[str, object]:
        """Options by which frames are not as the weights were trained, by their names, for the record."""
        return {} if self.trained_size in (None, self.image_size) else {"image_size": self.image_size}

    def feature_facts(self) -> dict[str, object]:
        """What frame features depend on, as plain values: weights, settings, width, and how frames are resized."""
        return {
            **self.identity.as_dict(),
            "settings": plain(self.settings()),
            "embed_dim": self.embed_dim,
            **self.frame_options(),
        }

    def set_grad_checkpointing(self, enabled: bool) -> None:
        """Recomputes the image tower's activations in the backward pass instead of keeping them."""
        self.image.grad_checkpointing = enabled

    def normalize(self, video: Tensor) -> Tensor:
        """Pixels the image tower expects.

        Args:
            video: Pixels `(..., 3, H, W)` in 0..255, uint8, or float where clips were mixed.

        Returns:
            float, same shape: `(video / 255 - mean) / std`.
        """
        return (video.to(self.mean.dtype) / 255 - self.mean) / self.std

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids `(N, L)`, int64, L being the longest text's length.

        Raises:
            ConfigError: If a text does not fit the context, unless the backbone's tokenizer cuts texts.
        """
        return self.texts.tokenize(texts)

    def encode_texts(self, texts: Sequence[str], *, chunk: int = 512, adapted: bool = True) -> Tensor:
        """Features of texts, not normalised.

        Args:
            texts: Texts to encode, in order.
            chunk: Number of texts that are computed at a time.
            adapted: Whether blocks are replaced and branches are added; without, the tower is as it was loaded.

        Returns:
            `(N, D)`.
        """
        if len(texts) <= chunk:
            return self.texts.encode(self.texts.tokenize(texts), adapted=adapted)
        # Texts of about one length together: a chunk is as long as its longest text.
        order = sorted(range(len(texts)), key=self.texts.lengths(texts).__getitem__)
        parts = [[texts[index] for index in order[first : first + chunk]] for first in range(0, len(texts), chunk)]
        features = torch.cat([self.texts.encode(self.texts.tokenize(part), adapted=adapted) for part in parts])
        return features.index_select(0, torch.tensor(order).argsort().to(features.device))
