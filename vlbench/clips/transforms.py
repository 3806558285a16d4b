"""Augmentation and test crops on uint8 clips `(T, 3, H, W)`.

Pixels stay uint8: they are a quarter the size of floats on the way to the model's device, which divides and normalises
them. Frames are resized with antialiasing, bicubic unless the backbone was trained otherwise, which agrees with PIL's,
which the released code uses, within 2 grey levels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from vlbench.clips.batch import Box, Draw
from vlbench.clips.options import Interpolation, ResizeMode
from vlbench.errors import ConfigError


class Cut(NamedTuple):
    """The part of a clip's frames that becomes the clip.

    Attributes:
        box: Pixels of the part, uint8 `(T, 3, h, w)`.
        height: Height of the frames that the part was cut from, in pixels.
        width: Width of the frames that the part was cut from, in pixels.
    """

    box: Tensor
    height: int
    width: int


class TrainTransform:
    """Augmentation of a training clip; every frame of a clip gets the same.

    Short side to `resize`, a random box resized to `size`, mirror with probability 0.5, colour jitter, grey. Random
    numbers come from torch's global generator: fork and seed it around the call for a reproducible clip. `cut` and
    `finish` are the two halves of a call, for two places: a worker that decodes and the model's device.

    Args:
        size: Side of the result in pixels.
        resize: Short side before the box is drawn.
        fused_resize: Draw the box from the frames as they are and resize once. A fifth cheaper; pixels differ by about
            one grey level on average from those of two resizes, so it is an augmentation of its own.
        horizontal_flip: Whether to mirror; leave it out where left and right make the class.
        color_jitter: Probability of jittering (brightness 0.4, contrast 0.4, saturation 0.2, hue 0.1).
        gray: Probability of dropping the colours.
        scale: Range of the box's area, as a share of the frame's.
        interpolation: Interpolation of the frames; the box is resized bilinearly always.
        resize_mode: Whether the short side is resized to `resize` and the other in proportion, or both to `resize`.

    Raises:
        ConfigError: If a size is below 1, a probability is outside [0, 1], `scale` is not ascending and positive, or
            frames are to be squashed that `fused_resize` does not resize.

    Example:
        >>> clip = torch.zeros(8, 3, 240, 320, dtype=torch.uint8)
        >>> TrainTransform(224, resize=256)(clip).shape
        torch.Size([8, 3, 224, 224])
    """

    def __init__(
        self,
        size: int,
        *,
        resize: int = 256,
        fused_resize: bool = False,
        horizontal_flip: bool = True,
        color_jitter: float = 0.8,
        gray: float = 0.2,
        scale: tuple[float, float] = (0.08, 1.0),
        interpolation: Interpolation = "bicubic",
        resize_mode: ResizeMode = "shortest",
    ) -> None:
        _check_sizes(size=size, resize=resize)
        if fused_resize and resize_mode == "squash":
            raise ConfigError(
                "fused_resize is true and resize_mode squash; the box of a fused resize is drawn from frames in their "
                "own proportions: set augmentation.fused_resize to false"
            )
        for name, chance in (("color_jitter", color_jitter), ("gray", gray)):
            if not 0 <= chance <= 1:
                raise ConfigError(f"{name} is {chance}; allowed: a probability, 0 to 1")
        low, high = scale
        if not 0 < low <= high:
            raise ConfigError(f"scale is ({low}, {high}); allowed: two positive numbers, the smaller first")
        self._whole = None if fused_resize else _whole(resize, interpolation, resize_mode)
        # The box is resized bilinearly and the frames usually bicubically, as in the released code.
        self._box = v2.RandomResizedCrop(size, scale=scale, interpolation=InterpolationMode.BILINEAR, antialias=True)
        self._resize = v2.Resize((size, size), interpolation=InterpolationMode.BILINEAR, antialias=True)
        colours: list[v2.Transform] = []
        if horizontal_flip:
            colours.append(v2.RandomHorizontalFlip(0.5))
        if color_jitter:
            colours.append(v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=color_jitter))
        if gray:
            colours.append(v2.RandomGrayscale(gray))
        self._rest = v2.Compose(colours) if colours else v2.Identity()

    def __call__(self, frames: Tensor) -> Tensor:
        """The clip `(T, 3, size, size)` uint8 of frames `(T, 3, H, W)` uint8."""
        return self._changed(self.cut(frames).box)

    def cut(self, frames: Tensor) -> Cut:
        """The first half of a call: the frames are resized and the box is drawn.

        Args:
            frames: Frames of the clip `(T, 3, H, W)`, uint8.
        """
        resized: Tensor = frames if self._whole is None else self._whole(frames)
        height, width = resized.shape[-2:]
        return Cut(self._drawn(height, width).cut(resized), height, width)

    def finish(self, box: Tensor, draw: Draw) -> Tensor:
        """The second half of a call, with the random numbers that it would go on with.

        Pixels are those of a call on a CPU. On a GPU resizing rounds otherwise, by one grey level, which jitter may
        make 8 in single pixels; on average clips differ by less than 0.1.

        Args:
            box: Pixels of the box `(T, 3, h, w)`, uint8, on any device.
            draw: Draw of the clip: the seed of the call and the size of the resized frames.

        Returns:
            `(T, 3, size, size)`, uint8, on the device of the box.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw.seed)
            self._drawn(draw.height, draw.width)  # drawn again, to come to the numbers behind it
            return self._changed(box)

    def _drawn(self, height: int, width: int) -> Box:
        box = self._box.make_params([torch.empty(3, height, width, device="meta")])
        return Box(box["top"], box["left"], box["height"], box["width"])

    def _changed(self, box: Tensor) -> Tensor:
        clip: Tensor = self._rest(self._resize(box))
        return clip


def test_frames(
    frames: Tensor,
    *,
    size: int,
    resize: int,
    crops: int,
    right_edge: Literal["exact", "quarters"] = "exact",  # noqa: PT028 - not a test case
    interpolation: Interpolation = "bicubic",  # noqa: PT028
    resize_mode: ResizeMode = "shortest",  # noqa: PT028
) -> tuple[Tensor, tuple[Box, ...]]:
    """Resized frames for testing and the squares of them that are looked at, the same at every call.

    The short side is resized to `resize` and the long side in proportion, rounded down, or both to `resize`. One crop
    is the centre; three crops are left, right, centre along the long side (top, bottom, centre of an upright clip).
    This order is the released code's. What no crop covers is cut off.

    Args:
        frames: `(T, 3, H, W)`, uint8.
        size: Side of the crops in pixels.
        resize: Short side before cropping, at least `size`.
        crops: Number of crops, 1 or 3.
        right_edge: Place of the second of three crops. `"exact"`: at the far edge. `"quarters"`: as in the released
            code, whose offsets are multiples of the rounded-down quarter of the free width, so that "right" ends up to
            3 pixels short of the edge, and whose three crops of an upright clip are all its centre.
        interpolation: Interpolation of the frames, `"bicubic"` or `"bilinear"`.
        resize_mode: Whether the long side stays in proportion, `"shortest"`, or not, `"squash"`.

    Returns:
        `(T, 3, h, w)`, uint8, and as many squares of side `size` as there are crops.

    Raises:
        ConfigError: If an argument is not one of the allowed.

    Example:
        >>> frames = torch.zeros(8, 3, 240, 320, dtype=torch.uint8)
        >>> resized, boxes = test_frames(frames, size=224, resize=224, crops=3)
        >>> resized.shape
        torch.Size([8, 3, 224, 298])
        >>> [box.left for box in boxes]
        [0, 74, 37]
    """
    _check_sizes(size=size, resize=resize)
    if size > resize:
        raise ConfigError(f"size is {size} and resize {resize}; allowed: crops no larger than the resized short side")
    if crops not in (1, 3):
        raise ConfigError(f"crops is {crops}; allowed: 1, 3")
    if right_edge not in ("exact", "quarters"):
        raise ConfigError(f"right_edge is {right_edge!r}; allowed: exact, quarters")
    resized: Tensor = _whole(resize, interpolation, resize_mode)(frames)
    height, width = resized.shape[-2:]
    offsets = _offsets(height - size, width - size, crops, right_edge)
    tops, lefts = zip(*offsets, strict=True)
    top, left = min(tops), min(lefts)
    covered = Box(top, left, max(tops) + size - top, max(lefts) + size - left)
    return covered.cut(resized), tuple(Box(y - top, x - left, size, size) for y, x in offsets)


test_frames.__test__ = False  # type: ignore[attr-defined]  # pytest would take the name for a test case


def _whole(size: int, interpolation: Interpolation, resize_mode: ResizeMode) -> v2.Transform:
    """Resizes whole frames by their short side, or both sides to one length.

    Raises:
        ConfigError: If an argument is not one of the allowed.
    """
    if interpolation not in get_args(Interpolation):
        raise ConfigError(f"interpolation is {interpolation!r}; allowed: {', '.join(get_args(Interpolation))}")
    if resize_mode not in get_args(ResizeMode):
        raise ConfigError(f"resize_mode is {resize_mode!r}; allowed: {', '.join(get_args(ResizeMode))}")
    sides = (size, size) if resize_mode == "squash" else size
    return v2.Resize(sides, interpolation=InterpolationMode(interpolation), antialias=True)


def _offsets(free_height: int, free_width: int, crops: int, right_edge: str) -> list[tuple[int, int]]:
    """Top left corners of the crops, given the space beside them."""
    centre = round(free_height / 2), round(free_width / 2)
    if crops == 1:
        return [centre]
    if right_edge == "quarters":
        down, right = free_height // 4, free_width // 4
        return [(2 * down, 0), (2 * down, 4 * right), (2 * down, 2 * right)]
    if free_height > free_width:
        return [(0, centre[1]), (free_height, centre[1]), centre]
    return [(centre[0], 0), (centre[0], free_width), centre]


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} is {size}; allowed: 1 or more")
