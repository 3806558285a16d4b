"""Features that heads learn from, as they are collected while a training goes through its videos."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class TrainingFeatures(NamedTuple):
    """Features of the training videos, in the order of their list.

    Attributes:
        passes: Means of the frame features of each video in each pass, not normalised, float32 `(N, A, D)`.
        labels: Labels of the videos, int64 `(N,)`.
    """

    passes: Tensor
    labels: Tensor

    @property
    def units(self) -> Tensor:
        """One unit feature a video `(N, D)`: its mean over the passes, before normalisation."""
        return F.normalize(self.passes.mean(dim=1), dim=-1)


class HeldoutFeatures(NamedTuple):
    """Features of the training videos that `data.heldout` sets aside.

    Attributes:
        units: One unit feature a video, float32 `(M, D)`.
        labels: Labels of the videos, int64 `(M,)`.
    """

    units: Tensor
    labels: Tensor


class Passes:
    """Features of the training videos of each pass so far, a pass an epoch; they go into checkpoints.

    Args:
        state: What `state` gave for a checkpoint; without it there is no pass yet.
    """

    def __init__(self, state: Sequence[dict[str, Any]] = ()) -> None:
        self._videos: list[dict[str, tuple[Tensor, int]]] = [
            dict(zip(each["ids"], zip(each["means"], each["labels"], strict=True), strict=True)) for each in state
        ]

    def __len__(self) -> int:
        """Number of passes, the one that goes on among them."""
        return len(self._videos)

    def add(self, epoch: int, ids: Sequence[str], means: Tensor, labels: Tensor) -> None:
        """Adds a batch to the pass of an epoch.

        Args:
            epoch: Number of the epoch, counted from 0.
            ids: Names of the videos.
            means: Means of their frame features `(B, D)`.
            labels: Labels of the videos, int64 `(B,)`.
        """
        if epoch == len(self._videos):
            self._videos.append({})
        videos = zip(ids, means, labels.tolist(), strict=True)
        self._videos[-1].update({video: (feature, label) for video, feature, label in videos})

    def incomplete(self, ids: Sequence[str], left_out: Collection[str]) -> list[str]:
        """Videos that a pass lacks.

        Args:
            ids: Names of all training videos.
            left_out: Names of the videos that no pass can have, as they cannot be read.
        """
        in_some = [video for video in ids if any(video in videos for videos in self._videos)]
        lost = [video for video in in_some if not all(video in videos for videos in self._videos)]
        known = {*in_some, *left_out}
        return [*lost, *(video for video in ids if video not in known)]

    def features(self, ids: Sequence[str], device: torch.device) -> TrainingFeatures:
        """Features of the videos that the passes have.

        Args:
            ids: Names of all training videos, in the order of their list.
            device: Device of the features; those of a checkpoint are on the CPU.
        """
        read = [video for video in ids if video in self._videos[0]]
        each = [torch.stack([videos[video][0].to(device) for video in read]) for videos in self._videos]
        labels = torch.tensor([self._videos[0][video][1] for video in read])
        return TrainingFeatures(torch.stack(each, dim=1), labels.to(device))

    def state(self) -> list[dict[str, Any]]:
        """The passes as a checkpoint has them."""
        return [
            {
                "ids": [*videos],
                "means": torch.stack([mean for mean, _ in videos.values()]),
                "labels": [label for _, label in videos.values()],
            }
            for videos in self._videos
        ]


class HeldoutBatch(NamedTuple):
    """Encoded views of held-out videos, which an evaluator takes in the place of a batch of views.

    Attributes:
        ids: Names of the readable videos.
        failures: Name -> `(label, cause)` of the videos that could not be read.
        groups: Number of views and their frame features, of each group of views that was encoded at once.
    """

    ids: list[str]
    failures: dict[str, tuple[int, str]]
    groups: list[tuple[int, Any]]

    def encoded(self, encode: object) -> Any:  # noqa: ARG002 - they are encoded
        """The groups of views."""
        return iter(self.groups)

    def units(self) -> Tensor:
        """One unit feature a video `(B, D)`: the mean of its views' unit features."""
        frames = torch.cat([features for _, features in self.groups])
        views = frames.float().mean(dim=1).unflatten(0, (-1, len(self.ids))).transpose(0, 1)
        return F.normalize(F.normalize(views, dim=-1).mean(dim=1), dim=-1)
