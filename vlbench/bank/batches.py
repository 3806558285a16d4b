"""Batches of stored features, in place of batches of videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlbench.bank.bank import FeatureBank
from vlbench.bank.facts import Kind
from vlbench.datasets.specs import VideoItem

T = TypeVar("T")


class ClipFeatures(NamedTuple):
    """Frame features of the readable training videos of a batch, and what became of the others.

    Attributes:
        features: Frame features of the readable videos, float `(B, F, D)`.
        labels: Labels of the readable videos, int64 `(B,)`.
        ids: Ids of the B readable videos.
        failures: Id -> `(label, cause)` of the videos that could not be read.
    """

    features: Tensor
    labels: Tensor
    ids: list[str]
    failures: dict[str, tuple[int, str]]

    def to(self, device: torch.device) -> Self:
        """The batch with its tensors on a device; Lightning would look at every id for tensors.

        Args:
            device: Device of the tensors.
        """
        return self._replace(features=_moved(self.features, device), labels=_moved(self.labels, device))

    def encoded(self, encode: Callable[[Tensor], T]) -> Tensor:  # noqa: ARG002 - they are encoded
        """Frame features `(B, F, D)` of the readable videos, at least float32.

        Args:
            encode: Function from clips to frame features, which is not called.
        """
        return self.features.float()


class ViewFeatures(NamedTuple):
    """Frame features of the views of the readable test videos of a batch, and what became of the others.

    Attributes:
        features: Frame features of the readable videos, float `(B, V, F, D)`.
        ids: Ids of the B readable videos.
        failures: Id -> `(label, cause)` of the videos that could not be read.
    """

    features: Tensor
    ids: list[str]
    failures: dict[str, tuple[int, str]]

    def to(self, device: torch.device) -> Self:
        """The batch with its tensors on a device; Lightning would look at every id for tensors.

        Args:
            device: Device of the tensors.
        """
        return self._replace(features=_moved(self.features, device))

    def encoded(self, encode: Callable[[Tensor], T]) -> Iterator[tuple[int, Any]]:  # noqa: ARG002 - they are encoded
        """Number V of the views and their frame features `(V * B, F, D)`, one group of all views.

        Args:
            encode: Function from clips to frame features, which is not called.
        """
        yield self.features.shape[1], self.features.transpose(0, 1).flatten(0, 1)


class StoredFeatures(Dataset[Any]):
    """Features of the videos of a list, a batch of positions at a time.

    Args:
        bank: Bank that holds the features.
        items: Videos of the list, with their labels.
        kind: Kind of the features.
        in_memory: Whether the features of the list are read once and kept.
    """

    def __init__(self, bank: FeatureBank, items: Sequence[VideoItem], kind: Kind, in_memory: bool = False) -> None:
        self.bank = bank
        self.items = items
        self.kind: Kind = kind
        self._rows: dict[str, int] = {}
        self._kept: Tensor | None = None
        if in_memory:
            ids = [item.id for item in items if item.id not in bank.failures]
            self._rows = {video: row for row, video in enumerate(ids)}
            self._kept = torch.from_numpy(bank.features(ids, kind))

    def __len__(self) -> int:
        return len(self.items)

    def features(self, ids: Sequence[str]) -> Tensor:
        """Features `(N, V, F, D)` of readable videos."""
        if self._kept is None:
            return torch.from_numpy(self.bank.features(ids, self.kind))
        return self._kept[[self._rows[video] for video in ids]]

    def _split(self, positions: Sequence[int]) -> tuple[list[int], dict[str, tuple[int, str]]]:
        """Positions of the readable videos, and the failures of the others."""
        lost = self.bank.failures
        failures = {self.items[k].id: (self.items[k].label, lost[self.items[k].id]) for k in positions
                    if self.items[k].id in lost}  # fmt: skip
        return [k for k in positions if self.items[k].id not in failures], failures


class StoredClips(StoredFeatures):
    """Training features: the k-th draw of a video is its k-th augmented pass or view, from the first one on again."""

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> ClipFeatures:
        readable, failures = self._split([position for position, _ in keys])
        draws = [draw for position, draw in keys if self.items[position].id not in failures]
        ids = [self.items[position].id for position in readable]
        features = self.features(ids)
        picked = features[torch.arange(len(ids)), torch.tensor(draws, dtype=torch.int64) % max(1, features.shape[1])]
        labels = torch.tensor([self.items[position].label for position in readable], dtype=torch.int64)
        return ClipFeatures(picked, labels, ids, failures)


class StoredViews(StoredFeatures):
    """Test features: all views of a video."""

    def __getitems__(self, positions: Sequence[int]) -> ViewFeatures:
        readable, failures = self._split(positions)
        ids = [self.items[position].id for position in readable]
        return ViewFeatures(self.features(ids), ids, failures)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=device.type == "cuda")


def collate(batch: T) -> T:
    """The batch, which a dataset has put together already."""
    return batch
