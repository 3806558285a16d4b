"""Clips of videos that are asked for one after the other, as a test reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlbench.clips.batch import Clip, ViewBatch
from vlbench.clips.container import cause_of
from vlbench.clips.decoding import VideoReader
from vlbench.clips.readers import TestViews, clip_of
from vlbench.datasets.specs import VideoItem
from vlbench.errors import DecodeError
from vlbench.inference.windows import windows
from vlbench.processes import ending_with_this

MOST_VIDEOS = 256
"""Videos, or parts of them, that are read into one batch at most."""


class Request(NamedTuple):
    """A video, or a part of one, that is to be read.

    Attributes:
        item: Video, with its part where it is one.
        failure: Why it is known before that the video cannot be read.
    """

    item: VideoItem
    failure: str | None = None


class ReadBatch(NamedTuple):
    """Requests and what was read for them.

    Attributes:
        requests: Requested videos, in the order in which they were asked for.
        batch: Views of the videos that can be read, and the causes of the others.
    """

    requests: list[Request]
    batch: ViewBatch


class RequestedClips(Dataset[Clip]):
    """Views of requested videos; the parts of one are read from one opening of its file.

    Args:
        views: Reader of views, as a test has one.
    """

    def __init__(self, views: TestViews) -> None:
        self.views = views
        self._reader: VideoReader | None = None

    def __getitem__(self, request: Request) -> Clip:
        item, failure = request
        if failure is not None:
            return Clip(None, item.label, item.id, failure)
        if item.span is None:
            return self.views.clip(item)
        return clip_of(item, lambda: self.views.clip(item, self._reader_of(item)))

    def _reader_of(self, item: VideoItem) -> VideoReader:
        """The reader of a file, which stays open until another one is asked for."""
        if self._reader is None or self._reader.path != item.path:
            self.close()
            self._reader = self.views.open(item)
        return self._reader

    def close(self) -> None:
        """Closes the file that was read last."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def requests_of(
    videos: Iterable[str | Path], views: TestViews, window: float | None, stride: float | None
) -> Iterator[Request]:
    """Requests for videos, or for windows of them, one by one.

    Args:
        videos: Paths of video files.
        views: Reader of views, which opens a file to tell how long it is.
        window: Length of a window in seconds; `None` takes each video as a whole.
        stride: Seconds from the beginning of a window to that of the next one; `None` is the length of a window.
    """
    for video in videos:
        item = VideoItem(Path(video), 0, str(video))
        if window is None:
            yield Request(item)
            continue
        length = _duration(item, views)
        if isinstance(length, str):
            yield Request(item, length)
        else:
            for span in windows(length, window, window if stride is None else stride):
                yield Request(item._replace(span=span))


def _duration(item: VideoItem, views: TestViews) -> float | str:
    """Seconds that a video is long, or why that cannot be told."""
    try:
        with views.open(item) as reader:
            return reader.duration
    except DecodeError as error:
        return error.cause
    except Exception as error:  # whatever one file does to a decoder, the others are read
        return cause_of(error)


def read_batches(
    requests: Iterable[Request], views: TestViews, *, size: int, at_once: int, num_workers: int, own_ids: bool
) -> Iterator[ReadBatch]:
    """Requests and what was read for them, batch by batch and in their order; requests are made as they are needed.

    Args:
        requests: Requested videos, in their order.
        views: Reader of the views of videos.
        size: Number of requests in a batch.
        at_once: Number of clips that are computed together, see `ViewBatch`.
        num_workers: Processes that decode; 0 decodes in this one.
        own_ids: Whether videos keep their ids; otherwise they are numbered within the batch, as parts of one video are.
    """
    waiting: deque[list[Request]] = deque()
    clips = RequestedClips(views)

    def batches() -> Iterator[list[Request]]:
        remaining = iter(requests)
        while batch := list(islice(remaining, size)):
            waiting.append(batch)
            yield batch

    loader: DataLoader[Clip] = DataLoader(
        clips,
        batch_sampler=batches(),
        collate_fn=partial(_collate, at_once=at_once, own_ids=own_ids),
        num_workers=num_workers,
        worker_init_fn=ending_with_this(),
        generator=torch.Generator(),  # of its own: reading draws nothing, and the global one stays where it is
    )
    try:
        for batch in loader:
            yield ReadBatch(waiting.popleft(), batch)
    finally:
        clips.close()


def looked_at(batch: ViewBatch) -> list[Tensor]:
    """Frames of the readable videos of a batch, each `(C, T, 3, H, W)`, cut to what the crops have together.

    Args:
        batch: Views of the readable videos.
    """
    frames = []
    for video, crops in zip(batch.videos.unpack(), batch.crops, strict=True):
        top, left = min(box.top for box in crops), min(box.left for box in crops)
        bottom = max(box.top + box.height for box in crops)
        right = max(box.left + box.width for box in crops)
        frames.append(video[..., top:bottom, left:right].clone())
    return frames


def _collate(clips: Sequence[Clip], *, at_once: int, own_ids: bool) -> ViewBatch:
    named = clips if own_ids else [clip._replace(id=str(place)) for place, clip in enumerate(clips)]
    return ViewBatch.collate(named, at_once=at_once)
