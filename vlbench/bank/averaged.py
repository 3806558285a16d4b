"""A bank whose frame features are averaged once, for heads that read nothing else of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from vlbench.bank.bank import FeatureBank
from vlbench.bank.facts import Kind

_ROWS = 1024
"""Videos that are read at a time."""


class AveragedBank(FeatureBank):
    """The mean frame feature of every view, float32 in memory, in place of the frame features: F is 1.

    The mean of one feature is that feature, so that heads on the mean get the same bits as from the bank itself.

    Args:
        bank: Bank that is averaged, a kind of features at a time, on first use.
    """

    def __init__(self, bank: FeatureBank) -> None:
        # What a bank knows of its files; none is opened or checked again.
        self.__dict__.update(bank.__dict__)
        self._bank = bank
        self._means: dict[Kind, NDArray[np.float32]] = {}
        self._rows: dict[Kind, dict[str, int]] = {}

    @override
    def shape(self, kind: Kind = "views") -> tuple[int, int, int]:
        views, _, width = super().shape(kind)
        return views, 1, width

    @override
    def features(self, ids: Sequence[str], kind: Kind = "views") -> NDArray[Any]:
        if kind not in self._means:
            self._average(kind)
        rows = self._rows[kind]
        if any(video not in rows for video in ids):
            return self._bank.features(ids, kind)  # it says what is missing
        features: NDArray[Any] = self._means[kind][[rows[video] for video in ids]]
        return features

    def _average(self, kind: Kind) -> None:
        import torch

        videos = [video for video in self.facts.ids(kind) if video not in self.failures]
        parts = [
            torch.from_numpy(self._bank.features(videos[first : first + _ROWS], kind)).float().mean(dim=2, keepdim=True)
            for first in range(0, len(videos), _ROWS)
        ]
        means = torch.cat(parts).numpy() if parts else np.empty((0, *self.shape(kind)), np.float32)
        self._means[kind] = means
        self._rows[kind] = {video: row for row, video in enumerate(videos)}
