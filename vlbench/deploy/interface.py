"""What an exported program takes and gives, as its file says itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Output = Literal["probabilities", "scores"]
"""What a row of an output is: `probabilities` of the classes, or `scores` of a method that states no probability."""

KEY = "vlbench_program"
"""Name of the interface in the metadata of a file."""


@dataclass(frozen=True)
class Interface:
    """What to feed an exported program, and what its output means.

    Attributes:
        classes: Names of the classes, in the order of the output's columns.
        output: What a row of the output is: `probabilities` of the classes, or `scores`.
        frames: Number T of frames of a view.
        image_size: Side of the square frames in pixels, after resizing and cropping.
        short_side: Side in pixels that a frame is resized to before the crop: the shorter one, or both for `squash`.
        interpolation: Interpolation of the frames, antialiased: `bicubic` or `bilinear`.
        resize_mode: Way to a square frame: `shortest`, the shorter side is resized and the middle cut out, or `squash`.
        sampling: Rule that picks the frames of a view, see the option `data.clip.sampling`.
        views: Views of a video in the tests, see the options `data.clip.views`; the program takes any number of them.
        mean: Mean of pixel values in [0, 1] of each channel that the program subtracts itself.
        std: Standard deviation of pixel values in [0, 1] of each channel that the program divides by itself.
        method: Name of the method in records.
        backbone: Name, origin and digest of the backbone's weights.
        weights: Digest of the trained weights, as records have it; `None` if nothing was trained.
        training: Facts about the training; `None` if they are not known.
        version: Version of vlbench that wrote the program.
    """

    classes: tuple[str, ...]
    output: Output
    frames: int
    image_size: int
    short_side: int
    interpolation: str
    resize_mode: str
    sampling: str
    views: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str
    backbone: Mapping[str, Any]
    weights: str | None
    training: Mapping[str, Any] | None
    version: str

    def json(self) -> str:
        """The interface as JSON, with the shapes of input and output in words."""
        size = self.image_size
        shapes = {
            "input": {
                "name": "pixels",
                "dtype": "uint8",
                "shape": ["videos", "views", self.frames, 3, size, size],
                "channels": "RGB",
            },
            "output_shape": ["videos", len(self.classes)],
        }
        return json.dumps(shapes | asdict(self))
