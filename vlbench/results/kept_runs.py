"""The epochs of a training whose scores of the test videos `vlbench fit` kept; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlbench.errors import DataError
from vlbench.evaluation.kept import KeptFacts
from vlbench.results.kept_file import KeptScores, parse_kept, read_metadata


@dataclass(frozen=True)
class KeptRun:
    """One training whose scores of the test videos were kept after each epoch.

    Attributes:
        subset: Key of the test subset, such as `all-split1`.
        paths: Files of the epochs, in the order of the epochs.
        weights: Digest of the trained weights after each epoch.
        facts: Templates, views and fusion that the scores are of.
    """

    subset: str
    paths: tuple[Path, ...]
    weights: tuple[str | None, ...]
    facts: KeptFacts

    def check(self, tested: KeptScores) -> None:
        """Whether the test of a checkpoint of the training gives the scores that the training kept.

        Args:
            tested: Kept scores of that test.

        Raises:
            DataError: If it does not, such as with other views.
        """
        kept = self._read(self.weights.index(tested.weights))
        scores, others = kept.scores[:, 0], tested.scores[:, 0]
        same = kept.ids == tested.ids and scores.shape == others.shape
        if not same or not np.allclose(scores, others, rtol=0, atol=1e-4):
            raise DataError(f"{self.paths[0].parent} is of other videos, views or options than the test")

    def best(self, tested: KeptScores) -> KeptScores:
        """The scores of the epoch whose weights `best.ckpt` holds: of the best epochs on the test videos the first.

        Args:
            tested: Kept scores of the test of a checkpoint of the training.
        """
        place = int(np.argmax([self._right(place) for place in range(len(self.paths))]))
        return tested if self.weights[place] == tested.weights else self._read(place)

    def _right(self, place: int) -> int:
        """Number of test videos whose best class is the right one; the scores of one epoch are in memory at a time."""
        epoch = self._read(place)
        return int((epoch.own.argmax(axis=1) == epoch.labels).sum())

    def _read(self, place: int) -> KeptScores:
        return parse_kept(self.paths[place].read_bytes(), self.paths[place])


def kept_runs(folders: Sequence[Path]) -> list[KeptRun]:
    """Every training below some results folders whose epochs were kept.

    Args:
        folders: Results folders, searched for kept epochs.

    Raises:
        DataError: If a file is no file of kept scores.
    """
    files: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted({path for folder in folders for path in folder.rglob("epochs/*/epoch-*.safetensors")}):
        match = re.fullmatch(r"epoch-\d+-(.+)", path.stem)
        if match is not None:
            files.setdefault((path.parent, match[1]), []).append(path)
    runs = []
    for (_, subset), paths in files.items():
        read = [read_metadata(path) for path in paths]
        runs.append(KeptRun(subset, tuple(paths), tuple(each[1] for each in read), read[0][0]))
    return runs
