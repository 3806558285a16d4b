"""What travels from the data workers to the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Clip(NamedTuple):
    """One video as a worker read it.

    Attributes:
        video: Pixels of the clip, uint8 `(T, 3, H, W)` in training, `(V, T, 3, H, W)` in evaluation; `None` if
            the video could not be read.
        label: Index into the class names in use.
        id: Id of the video inside its dataset.
        failure: Why it could not be read.
    """

    video: Tensor | None
    label: int
    id: str
    failure: str | None = None


class ClipBatch(NamedTuple):
    """Readable videos of a batch, and what became of the others.

    Attributes:
        video: Pixels of the readable videos, uint8 `(B, T, 3, H, W)` in training, `(B, V, T, 3, H, W)` in evaluation;
            `None` if no video could be read.
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
        """Stacks the readable clips."""
        videos = [clip.video for clip in clips if clip.video is not None]
        read = [clip for clip in clips if clip.video is not None]
        return cls(
            video=torch.stack(videos) if videos else None,
            labels=torch.tensor([clip.label for clip in read], dtype=torch.int64),
            ids=[clip.id for clip in read],
            failures={clip.id: (clip.label, clip.failure or "") for clip in clips if clip.video is None},
        )
