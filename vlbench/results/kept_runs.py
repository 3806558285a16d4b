"""The epochs of a training whose scores of the test videos `vlbench fit` kept; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlbench.datasets.specs import Subset
from vlbench.errors import DataError
from vlbench.evaluation.kept import KeptFacts
from vlbench.results.kept_file import KeptScores, parse_kept, read_metadata
from vlbench.results.pairs import digest
from vlbench.results.record import Record

_NAME = re.compile(r"(?!\.\.?/)[^/\0]+/epoch-(?P<epoch>\d+)-(?P<subset>[^/\0]+)\.safetensors")
"""Files of epochs as records name them, below the folder `epochs`."""

_AGAIN = "run `vlbench fit` and `vlbench test` again"


@dataclass(frozen=True)
class KeptRun:
    """One training whose scores of the test videos were kept after each epoch.

    Attributes:
        epochs: Files of the epochs, in their order, and the digest of each in the record of a test of the training.
        facts: Templates, views and fusion that the scores are of.
    """

    epochs: tuple[tuple[Path, str], ...]
    facts: KeptFacts

    @classmethod
    def of(cls, path: Path, record: Record) -> KeptRun:
        """The training of a record that names its epochs.

        Args:
            path: Path of the record.
            record: Record of a test of the training.

        Raises:
            DataError: If the record names something else than epochs, or the last one is missing or another file.
        """
        epochs = [(epoch_path(path, name), of_file) for name, of_file in record.details.epochs.items()]
        epochs.sort(key=lambda epoch: int(epoch[0].name.split("-")[1]))
        return cls(tuple(epochs), read_epoch(*epochs[-1]).facts)

    def agrees(self, tested: KeptScores) -> bool:
        """Whether the test of the last epoch gives the scores that the training kept; with other views it does not.

        Args:
            tested: Kept scores of that test.

        Raises:
            DataError: If the file of the epoch is not the one that the record names.
        """
        kept = read_epoch(*self.epochs[-1])
        scores, others = kept.scores[:, 0], tested.scores[:, 0]
        same = (kept.weights, kept.ids, scores.shape) == (tested.weights, tested.ids, others.shape)
        return same and np.allclose(scores, others, rtol=0, atol=1e-4)

    def best(self, tested: KeptScores) -> KeptScores:
        """The scores of the epoch whose weights `best.ckpt` holds: of the best epochs on the test videos the first.

        Args:
            tested: Kept scores of the test of a checkpoint of the training.

        Raises:
            DataError: If the file of an epoch is not the one that the record names.
        """
        right = [_right(read_epoch(*epoch)) for epoch in self.epochs]  # one of them is in memory at a time
        best = read_epoch(*self.epochs[int(np.argmax(right))])
        return tested if best.weights == tested.weights else best


def _right(epoch: KeptScores) -> int:
    """Number of test videos whose best class is the right one."""
    return int((epoch.own.argmax(axis=1) == epoch.labels).sum())


def read_epoch(path: Path, expected: str) -> KeptScores:
    """The scores that a training kept after an epoch.

    Args:
        path: File of the scores.
        expected: Digest of the file in the record of a test of the training.

    Raises:
        DataError: If the file is missing, no such file, or not the one that the record names.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"the scores of the epoch {path} cannot be read: {error.strerror}; {_AGAIN}") from error
    if digest(content) != expected:
        raise DataError(
            f"{path} has the digest {digest(content)}, and the record of a test of its training names {expected}; the"
            f" file is of another training or epoch: {_AGAIN}"
        )
    return parse_kept(content, path)


def epochs_beside(path: Path, kept: Mapping[str, str] | None, test: Subset) -> dict[str, str]:
    """The kept epochs of a training that lie in the results folder of a record, and are of its test videos.

    Args:
        path: Path of the record.
        kept: Files of the epochs that the training kept, and the digest of each; `None` without.
        test: Subset of the record.
    """
    return {
        name: digest
        for name, digest in (kept or {}).items()
        if (match := _NAME.fullmatch(name)) and match["subset"] == test.key and epoch_path(path, name).parent.is_dir()
    }


def epoch_path(path: Path, name: str) -> Path:
    """Where the scores of an epoch are.

    Args:
        path: Path of the record.
        name: Name of the file in the record.

    Raises:
        DataError: If the name is of something else than an epoch; records come from anywhere.
    """
    if _NAME.fullmatch(name) is None:
        raise DataError(f"{path}: details.epochs names {name!r}, which is no file of an epoch; {_AGAIN}")
    return path.parent.parent / "epochs" / name


def unnamed_epochs(folders: Sequence[Path], record: Record) -> Path | None:
    """A folder with an epoch that has the weights of a record, which the record does not name; `None` without.

    Args:
        folders: Results folders, searched for kept epochs.
        record: Record of a test that names no epochs.
    """
    for path in sorted({path for folder in folders for path in folder.rglob("epochs/*/epoch-*.safetensors")}):
        if path.stem.endswith(f"-{record.identity.test.key}") and read_metadata(path)[1] == record.identity.weights:
            return path.parent
    return None
