"""One JSON file an evaluation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlbench.errors import DataError
from vlbench.files import write_atomically

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Identity:
    """What an evaluation is of; two records with the same identity are the same evaluation.

    Attributes:
        method: name of the method.
        backbone: architecture and weights.
        weights: digest of the trained weights, `None` if nothing was trained.
        dataset: name and variant, `ucf101/words`.
        train_dataset: that of the training videos, `None` if nothing was trained.
        train: the training subset, `None` if nothing was trained.
        test: the test subset.
        views: `clips x crops`.
        frames: frames a view.
        protocol: versioned name, `few_shot@1`; `custom` outside a protocol.
        seed: of the run.
        selection: which checkpoint: `last` or `best_on_test`.
    """

    method: str
    backbone: str
    weights: str | None
    dataset: str
    train_dataset: str | None
    train: dict[str, Any] | None
    test: dict[str, Any]
    views: str
    frames: int
    protocol: str
    seed: int
    selection: str

    def digest(self) -> str:
        """Twelve hexadecimal characters."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Record:
    """One evaluation.

    Attributes:
        identity: what was evaluated.
        metrics: in per cent.
        expected: videos in the manifest.
        evaluated: videos that were read and scored.
        failures: id -> cause of the rest; they count as wrong.
        details: everything else worth knowing: parameters, steps, time, memory, device, versions, options.
        schema_version: of this file.
    """

    identity: Identity
    metrics: dict[str, float]
    expected: int
    evaluated: int
    failures: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.evaluated + len(self.failures) != self.expected:
            raise DataError(
                f"{self.identity.dataset}: {self.evaluated} videos evaluated and {len(self.failures)} unreadable, "
                f"but the manifest has {self.expected}; the record is refused"
            )

    @property
    def name(self) -> str:
        """File name without suffix: readable, and unique by the identity's digest."""
        identity = self.identity
        shots = (identity.train or {}).get("shots") or ("full" if identity.train else "0")
        dataset = identity.dataset.replace("/", "-")
        return f"{identity.method}-{dataset}-{shots}shot-seed{identity.seed}-{identity.digest()}"

    def write(self, folder: Path, name: str | None = None) -> Path:
        """Writes `folder/<name>.json` in one step: a reader sees the whole file or none."""
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"
        path = folder / f"{name or self.name}.json"
        write_atomically(path, text.encode())
        return path

    @classmethod
    def read(cls, path: Path) -> Record:
        """A record from its file.

        Raises:
            DataError: if it is not a record of a schema this version reads.
        """
        try:
            values = json.loads(path.read_text())
            version = values["schema_version"]
            if version != SCHEMA_VERSION:
                raise DataError(f"{path}: schema_version is {version}; this vlbench reads {SCHEMA_VERSION}")
            return cls(**{**values, "identity": Identity(**values["identity"])})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path} is not a record of vlbench: {error!r}; delete it and run the stage again"
            ) from error


def read_records(folders: Sequence[Path]) -> Iterator[Record]:
    """Every record below the folders, in the order of their paths.

    Raises:
        DataError: if a folder does not exist or a file in a `records` folder is no record.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give folders that hold records, such as results/demo")
        for path in sorted(folder.rglob("*.json")):
            if path.parent.name == "records":
                yield Record.read(path)
