"""Options of clips: what a clip is, how it is augmented and how it is loaded; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vlbench.errors import ConfigError
from vlbench.ranges import BATCHES, SHARES, Range
from vlbench.settings import Side

_SIDES = Range(0.125, 8)

Decoder = Literal["pyav", "torchcodec", "pytorchvideo"]
"""Decoders of video files; all three return the same pixels of undamaged files."""

Backend = Literal["pyav", "torchcodec", "pytorchvideo", "rawframes"]
"""What reads a dataset's videos: a decoder of video files, or `rawframes`, where videos are kept as pictures."""

Sampling = Literal["uniform", "dense", "pytorchvideo"]
"""How the frames of a clip are chosen: `uniform`, spread over the whole video; `dense`, out of 128 neighbouring ones as
MoTE's released code does; `pytorchvideo`, out of 128 neighbouring ones where that library's clip samplers put them."""


Interpolation = Literal["bicubic", "bilinear"]
"""Interpolations by which whole frames are resized."""

ResizeMode = Literal["shortest", "squash"]
"""How a whole frame is resized: `shortest`, its shorter side to a length and the other in proportion, or `squash`, both
sides to that length."""


ViewOrder = Literal[
    "normal", "reversed", "shuffled", "middle", "first_half", "second_half", "stripes", "half_rate"
]  # fmt: skip
"""Frames that a test view shows: `normal`, those that the sampling picks, or a counterfactual of them, see
`vlbench.clips.orders`."""

NORMAL: ViewOrder = "normal"
"""Order of the views of an ordinary test."""


@dataclass(frozen=True)
class Views:
    """How many times a test video is looked at, and in which order of its frames.

    Attributes:
        clips: Sets of frames, taken at shifted times.
        crops: Squares of each frame: 1, the centre, or 3 along the longer side.
        right_edge: Place of the second of three crops: `exact`, at the edge, or `quarters`, up to three pixels short
            of it, as in MoTE's released code.
        order: Frames that a test view shows: `normal`, those that the sampling picks; `reversed`, the last one first;
            `shuffled`, permuted, by the id of the video; `middle`, the middle one again and again; `first_half` and
            `second_half`, the sampling of half of the video; `stripes`, the background with stripes in place of what
            moves; `half_rate`, every second one, twice. Another order than `normal` is never ranked beside it.

    Example:
        >>> views = Views(clips=4, crops=3)
        >>> views.clips * views.crops
        12
    """

    clips: int = 1
    crops: Literal[1, 3] = 1
    right_edge: Literal["exact", "quarters"] = "exact"
    order: ViewOrder = NORMAL

    def __post_init__(self) -> None:
        Range(1, 1_000).check("views.clips", self.clips)
        if self.crops not in (1, 3):
            raise ConfigError(f"views.crops is {self.crops}; allowed: 1, 3")


@dataclass(frozen=True)
class ClipOptions:
    """What the frames of a clip are.

    Attributes:
        sampling: Rule that picks the frames of a clip: `uniform`, spread over the whole video; `dense`, out of 128
            neighbouring frames, as in MoTE's released code; `pytorchvideo`, the same by that library's clip samplers.
        segment_ends: Whether neighbouring segments of uniform training clips share a frame: `shared`, as in MoTE's
            released code, or `exclusive`.
        views: Views of a test video.
        test_short_side: Short side of test frames before the crops, in units of the image size.
    """

    sampling: Sampling = "uniform"
    segment_ends: Literal["shared", "exclusive"] = "shared"
    views: Views = Views()
    test_short_side: float = 1.0

    def __post_init__(self) -> None:
        Range(1, 8).check("test_short_side", self.test_short_side)


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training clips; all frames of a clip change alike.

    Attributes:
        short_side: Short side of training frames before cropping, in units of the image size (256/224 of the papers).
        fused_resize: Whether frames are cropped first and resized once: cheaper, but another interpolation.
        scale: Smallest and largest area of the crop, as a part of the frame.
        flip: Whether half of the clips are mirrored; null means unless the dataset's classes have a direction.
        color_jitter: Probability of changing brightness, contrast, saturation and hue.
        gray: Probability of dropping the colours.
        run_on: Place of the changes: `worker`, the processes that decode, or `device`, the model's device, to which the
            workers hand over the box of each clip. The draws are the same; on a GPU resizing rounds otherwise.
    """

    short_side: float = 256 / 224
    fused_resize: bool = False
    scale: tuple[float, float] = (0.08, 1.0)
    flip: bool | None = None
    color_jitter: float = 0.8
    gray: float = 0.2
    run_on: Literal["worker", "device"] = "worker"

    def __post_init__(self) -> None:
        _SIDES.check("short_side", self.short_side)
        for name in ("color_jitter", "gray"):
            SHARES.check(name, getattr(self, name))
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ConfigError(f"scale is {self.scale}; allowed: two numbers above 0 to 1, the smaller first")


@dataclass(frozen=True)
class LoadingOptions:
    """Batches, repetition and decoding of clips.

    Attributes:
        effective_batch: Training clips of an optimizer step, over all processes; how many a process takes at once, at
            most `batch_size`, and how often gradients are accumulated follow from it. Null means `batch_size` in each
            process.
        eval_batch_size: Videos that a process takes at once in evaluation, and clips that it computes at once; null
            means `batch_size` clips, of as many videos as have so many views, at least one.
        epoch_size: Training clips of an epoch, over all processes; above the number of videos the videos come several
            times. Null means each video once.
        backend: Decoder of the video files; all decoders return the same pixels, but for damaged frames, which `pyav`
            alone refuses. Or `rawframes`: each video is a folder, or a tar, of its frames as pictures. Frames that were
            stored as JPEG have other pixels than their video.
        decode_on: Processor of the decoder: `cpu`, or `cuda` with the backend torchcodec, the same frames with colours
            some grey levels off. Data workers that use a GPU are started afresh and not forked.
        on_error: What a training video that cannot be read does: `raise` ends the run, `skip` leaves the video out and
            the record says so. A test video that cannot be read always counts as wrong.
    """

    effective_batch: int | None = None
    eval_batch_size: int | None = None
    epoch_size: int | None = None
    backend: Backend = "pyav"
    decode_on: Literal["cpu", "cuda"] = "cpu"
    on_error: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        Range(1, 1_048_576).check("effective_batch", self.effective_batch, "batch_size in each process")
        BATCHES.check("eval_batch_size", self.eval_batch_size, "batch_size")
        Range(1, 10_000_000).check("epoch_size", self.epoch_size, "each video once")
        if self.decode_on == "cuda" and self.backend != "torchcodec":
            raise ConfigError(
                f"decode_on is cuda with the backend {self.backend}; allowed: the backend torchcodec, or decode_on: cpu"
            )


DATA_SIDES: Mapping[str, Side] = {
    "dataset": "both",
    "heldout": "training",
    "frames": "both",
    "image_size": "both",
    "interpolation": "both",
    "resize_mode": "both",
    "clip.sampling": "both",
    "clip.segment_ends": "training",
    "clip.views.clips": "test",
    "clip.views.crops": "test",
    "clip.views.right_edge": "test",
    "clip.views.order": "test",
    "clip.test_short_side": "test",
    "augmentation.short_side": "training",
    "augmentation.fused_resize": "training",
    "augmentation.scale": "training",
    "augmentation.flip": "training",
    "augmentation.color_jitter": "training",
    "augmentation.gray": "training",
    "augmentation.run_on": "training",
    "loading.epoch_size": "training",
    "loading.on_error": "training",
    "loading.backend": "both",
    "loading.decode_on": "both",
    "validate_on_test": "validation",
}
"""What each option of a DataModule can change, and `dataset`, the digest of what the dataset consists of."""

DATA_ELSEWHERE: Mapping[str, str] = {
    "root": "the dataset's digest says what lies in the folder",
    "variant": "in the name of the dataset, and the dataset's digest has the names of its classes",
    "class_list": "in the name of the dataset, and the dataset's digest has the names of its classes",
    "train": "identity.train",
    "test": "identity.test",
    "splits_dir": "identity.train_list and identity.test_list name the lists",
    "batch_size": "data.batch, the clips of an optimizer step",
    "loading.effective_batch": "data.batch, the clips of an optimizer step",
    "seed": "identity.seed",
}
"""Options of a DataModule that an identity states in a field of its own, and where."""

DATA_SAME_NUMBERS: Mapping[str, str] = {
    "num_workers": "clips are drawn by seed, epoch and video, whoever decodes them",
    "loading.eval_batch_size": "videos are scored one by one; batches of another size round in the last bits, as other "
    "processors do",
}
"""Options of a DataModule that cannot change a number, and why."""
