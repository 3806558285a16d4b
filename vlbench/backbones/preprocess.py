"""What a backbone expects of pixels: constants, interpolation and resize mode, stated by its configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vlbench.ranges import SHARES, Range

Interpolation = Literal["bicubic", "bilinear"]
"""Interpolations that released weights were trained with."""

ResizeMode = Literal["shortest", "squash"]
"""How a test frame becomes a square: `shortest`, by its shorter side and a crop; `squash`, both sides at once."""

Normalization = Literal["own", "clip", "imagenet"]
"""Constants of the pixels: the backbone's, or those of CLIP or of ImageNet in their place."""


@dataclass(frozen=True)
class Preprocess:
    """What weights were trained to see.

    Attributes:
        mean: Mean of the pixel values in [0, 1], for red, green and blue.
        std: Standard deviation of the pixel values in [0, 1], for red, green and blue.
        interpolation: Interpolation by which frames are resized, `bicubic` or `bilinear`.
        resize_mode: Way to a square test frame: `shortest`, the shorter side is resized and the middle cut out, or
            `squash`, both sides are resized.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"

    def __post_init__(self) -> None:
        for value in self.mean:
            SHARES.check("preprocess.mean", value)
        for value in self.std:
            Range(0, 1, above=True).check("preprocess.std", value)

    def with_constants(self, normalization: Normalization) -> Preprocess:
        """The same with the constants of another set of images."""
        return self if normalization == "own" else replace(self, mean=MEANS[normalization], std=STDS[normalization])

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{{mean: [{mean}], std: [{std}], interpolation: {self.interpolation}, resize_mode: {self.resize_mode}}}"


MEANS = {"clip": (0.48145466, 0.4578275, 0.40821073), "imagenet": (0.485, 0.456, 0.406)}
"""Means of the images that CLIP was trained on, and of ImageNet's."""

STDS = {"clip": (0.26862954, 0.26130258, 0.27577711), "imagenet": (0.229, 0.224, 0.225)}
"""Standard deviations of the images that CLIP was trained on, and of ImageNet's."""

CLIP = Preprocess(MEANS["clip"], STDS["clip"])
"""What OpenAI's CLIP expects."""

IMAGENET = Preprocess(MEANS["imagenet"], STDS["imagenet"])
"""ImageNet's constants, and CLIP's interpolation and resize mode."""
