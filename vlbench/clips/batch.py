"""What travels from the data workers to the method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

T = TypeVar("T")


class EvaluatedVideos(Protocol):
    """What an evaluation asks of a batch: whose videos it has, and the frame features of their views."""

    @property
    def ids(self) -> list[str]:
        """Ids of the B readable videos."""

    @property
    def failures(self) -> dict[str, tuple[int, str]]:
        """Id -> `(label, cause)` of the videos that could not be read."""

    def encoded(self, encode: Callable[[Tensor], T], /) -> Iterator[tuple[int, T]]:
        """Number G of the views of a group and their frame features, with the first dimension G x B, group by group.

        Args:
            encode: Function from clips `(G * B, T, 3, S, S)` uint8 to frame features.
        """


class Box(NamedTuple):
    """A rectangle of a frame, in pixels.

    Attributes:
        top: Row of the rectangle's first pixel.
        left: Column of the rectangle's first pixel.
        height: Number of the rectangle's rows.
        width: Number of the rectangle's columns.
    """

    top: int
    left: int
    height: int
    width: int

    def cut(self, frames: Tensor) -> Tensor:
        """The rectangle of frames `(..., H, W)`, a view of them."""
        return frames[..., self.top : self.top + self.height, self.left : self.left + self.width]


class Draw(NamedTuple):
    """What the random changes to a training clip follow from.

    Attributes:
        seed: Seed of the random numbers of the clip.
        height: Height of the frames that a box was drawn from, in pixels.
        width: Width of the frames that a box was drawn from, in pixels.
    """

    seed: int
    height: int
    width: int


class Clip(NamedTuple):
    """One video as a worker read it.

    Attributes:
        video: Pixels of the clip, uint8 `(T, 3, H, W)` in training, `(C, T, 3, H, W)` for the C clips of a test video;
            `None` if the video could not be read.
        label: Index into the class names in use.
        id: Id of the video inside its dataset.
        failure: Why it could not be read.
        crops: Rectangles of a test video's frames that are looked at; without any, whole frames are.
        draw: Draw of a training clip that is only cut to its box yet.
    """

    video: Tensor | None
    label: int
    id: str
    failure: str | None = None
    crops: tuple[Box, ...] = ()
    draw: Draw | None = None


class PackedVideos(NamedTuple):
    """Videos of any sizes in one tensor: one piece of shared memory, and one copy to a device.

    Attributes:
        pixels: Pixels of the videos, one after the other, uint8 `(N,)`.
        shapes: Shape `(..., H, W, 3)` of each video.
    """

    pixels: Tensor
    shapes: list[tuple[int, ...]]

    @classmethod
    def pack(cls, videos: Sequence[Tensor]) -> PackedVideos:
        """Copies videos `(..., 3, H, W)` behind each other, in a data worker into shared memory."""
        last = [video.movedim(-3, -1) for video in videos]  # the order in which decoders and resizing leave pixels
        sizes = [video.numel() for video in last]
        pixels = torch.empty(0, dtype=torch.uint8, device=videos[0].device if videos else None)
        if get_worker_info() is not None and sizes:
            pixels.set_(torch.UntypedStorage._new_shared(sum(sizes)))
        else:
            pixels = pixels.new_empty(sum(sizes))
        for part, video in zip(pixels.split(sizes), last, strict=True):
            part.view(video.shape).copy_(video)
        return cls(pixels, [tuple(video.shape) for video in last])

    def unpack(self) -> list[Tensor]:
        """The videos `(..., 3, H, W)`, views of `pixels`."""
        parts = self.pixels.split([prod(shape) for shape in self.shapes])
        return [part.view(*shape).movedim(-1, -3) for part, shape in zip(parts, self.shapes, strict=True)]


class ClipBatch(NamedTuple):
    """Readable training videos of a batch, and what became of the others.

    Attributes:
        video: Pixels of the readable videos, uint8 `(B, T, 3, H, W)`; `None` if no video could be read.
        labels: Labels of the readable videos, int64 `(B,)`.
        ids: Ids of the B readable videos.
        failures: Id -> `(label, cause)` of the videos that could not be read.
    """

    video: Tensor | None
    labels: Tensor
    ids: list[str]
    failures: dict[str, tuple[int, str]]

    @classmethod
    def collate(cls, clips: Sequence[Clip]) -> ClipBatch:
        """Stacks the readable clips, in a data worker into shared memory."""
        videos = [clip.video for clip in clips if clip.video is not None]
        return cls(default_collate(videos) if videos else None, *_facts(clips))

    def encoded(self, encode: Callable[[Tensor], T]) -> T:
        """Frame features of the readable videos, of which there is one at least.

        Args:
            encode: Function from clips `(B, T, 3, H, W)` uint8 to frame features.
        """
        assert self.video is not None
        return encode(self.video)


class CutBatch(NamedTuple):
    """Training videos of a batch whose clips are cut to their boxes; the other changes are left to the device.

    Attributes:
        boxes: Pixels of the readable videos' boxes, each uint8 `(T, 3, h, w)`.
        draws: Draws of the readable videos' clips.
        labels: Labels of the readable videos, int64 `(B,)`.
        ids: Ids of the B readable videos.
        failures: Id -> `(label, cause)` of the videos that could not be read.
    """

    boxes: PackedVideos
    draws: list[Draw]
    labels: Tensor
    ids: list[str]
    failures: dict[str, tuple[int, str]]

    @classmethod
    def collate(cls, clips: Sequence[Clip]) -> CutBatch:
        """Packs the readable clips' boxes, in a data worker into shared memory."""
        boxes = PackedVideos.pack([clip.video for clip in clips if clip.video is not None])
        return cls(boxes, [clip.draw for clip in clips if clip.draw is not None], *_facts(clips))

    def finished(self, change: Callable[[Tensor, Draw], Tensor]) -> ClipBatch:
        """The batch with whole clips.

        Args:
            change: Function from a box `(T, 3, h, w)` and its draw to the clip `(T, 3, S, S)`.
        """
        clips = [change(box, draw) for box, draw in zip(self.boxes.unpack(), self.draws, strict=True)]
        return ClipBatch(torch.stack(clips) if clips else None, self.labels, self.ids, self.failures)


class ViewBatch(NamedTuple):
    """Readable test videos of a batch, from which views are cut one after the other, and what became of the others.

    Attributes:
        videos: Frames of the readable videos, each uint8 `(C, T, 3, h, w)`.
        crops: Rectangles of each readable video's frames, K; a video has V = K x C views, crop by crop.
        ids: Ids of the B readable videos.
        failures: Id -> `(label, cause)` of the videos that could not be read.
        at_once: Number of clips that are computed together; less than B, and one view of every video is.
    """

    videos: PackedVideos
    crops: list[tuple[Box, ...]]
    ids: list[str]
    failures: dict[str, tuple[int, str]]
    at_once: int

    @classmethod
    def collate(cls, clips: Sequence[Clip], *, at_once: int = 1) -> ViewBatch:
        """Packs the readable videos, in a data worker into shared memory."""
        videos = PackedVideos.pack([clip.video for clip in clips if clip.video is not None])
        crops = [clip.crops or (Box(0, 0, *clip.video.shape[-2:]),) for clip in clips if clip.video is not None]
        _, ids, failures = _facts(clips)
        return cls(videos, crops, ids, failures, at_once)

    def encoded(self, encode: Callable[[Tensor], T]) -> Iterator[tuple[int, T]]:
        """Number G of the views of a group and their frame features, with the first dimension G x B, group by group.

        Args:
            encode: Function from clips `(G * B, T, 3, S, S)` uint8 to frame features.
        """
        for group in self.views():
            yield len(group), encode(group.flatten(0, 1))

    def views(self) -> Iterator[Tensor]:
        """All views in groups, each uint8 `(G, B, T, 3, S, S)`, of as many views as `at_once` allows, at least one."""
        videos = self.videos.unpack()
        if not videos:
            return
        clips, frames, channels = videos[0].shape[:3]
        count = clips * len(self.crops[0])
        size = max(1, self.at_once // len(videos))
        for first in range(0, count, size):
            group = range(first, min(first + size, count))
            shape = (len(group), len(videos), frames, channels, *self.crops[0][0][2:])
            views = torch.empty(shape, dtype=torch.uint8, device=self.videos.pixels.device)
            for row, view in enumerate(group):
                for column, (video, crops) in enumerate(zip(videos, self.crops, strict=True)):
                    views[row, column] = crops[view // clips].cut(video[view % clips])
            yield views


def _facts(clips: Sequence[Clip]) -> tuple[Tensor, list[str], dict[str, tuple[int, str]]]:
    """Labels `(B,)` and ids of the readable clips, and the failures of the others."""
    read = [clip for clip in clips if clip.video is not None]
    return (
        torch.tensor([clip.label for clip in read], dtype=torch.int64),
        [clip.id for clip in read],
        {clip.id: (clip.label, clip.failure or "") for clip in clips if clip.video is None},
    )
