"""Test videos in several orders of their frames, from one decoding a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlbench.clips.batch import Box, Clip, PackedVideos, ViewBatch
from vlbench.clips.options import ViewOrder
from vlbench.clips.orders import shown_in
from vlbench.clips.readers import TestViews, clip_of


class CounterfactualViews(Dataset[tuple[Clip, Tensor]]):
    """Frames of a video for views in several orders, each frame once: a clip `(U, 3, h, w)`, and positions `(O, C, T)`.

    Args:
        views: Views of the videos, of which the order is not used.
        orders: Orders of the frames, O.
    """

    def __init__(self, views: TestViews, orders: Sequence[ViewOrder]) -> None:
        self.views = views
        self.orders = orders

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> tuple[Clip, Tensor]:
        item = self.views.items[index]
        places = torch.empty(0, dtype=torch.int64)

        def read() -> Clip:
            nonlocal places
            frames, places, crops = self.views.read(item, self.orders)
            return Clip(frames, item.label, item.id, crops=crops)

        return clip_of(item, read), places


class CounterfactualBatch(NamedTuple):
    """Readable test videos of a batch, from which views in several orders are made, and what became of the others.

    Attributes:
        frames: Frames of the readable videos, each uint8 `(U, 3, h, w)`.
        places: Positions of the views' frames in those of each video, each int64 `(O, C, T)`.
        crops: Rectangles of each readable video's frames that are looked at.
        ids: Ids of the B readable videos.
        failures: Id -> `(label, cause)` of the videos that could not be read.
        at_once: Number of clips that are computed together, see `ViewBatch`.
        orders: Orders of the frames, O.
    """

    frames: PackedVideos
    places: list[Tensor]
    crops: list[tuple[Box, ...]]
    ids: list[str]
    failures: dict[str, tuple[int, str]]
    at_once: int
    orders: tuple[ViewOrder, ...]

    @classmethod
    def collate(
        cls, videos: Sequence[tuple[Clip, Tensor]], *, at_once: int, orders: tuple[ViewOrder, ...]
    ) -> CounterfactualBatch:
        """Packs the readable videos, in a data worker into shared memory."""
        batch = ViewBatch.collate([clip for clip, _ in videos], at_once=at_once)
        places = [places for clip, places in videos if clip.video is not None]
        return cls(batch.videos, places, batch.crops, batch.ids, batch.failures, at_once, orders)

    def in_orders(self) -> Iterator[tuple[ViewOrder, ViewBatch]]:
        """The batch in one order after the other, on the device of the frames."""
        videos = self.frames.unpack()
        for row, order in enumerate(self.orders):
            clips = [shown_in(order, frames, places[row]) for frames, places in zip(videos, self.places, strict=True)]
            packed = PackedVideos.pack(clips)
            yield order, ViewBatch(packed, self.crops, self.ids, self.failures, self.at_once)
