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

SCHEMA_VERSION = 2
"""Version 2 added the names of the lists to the identity; records of version 1 read as not knowing theirs."""
_READABLE = (1, 2)


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
        train_list: the list of the training videos, `vifi/train1_few_shot_16 (verified)` or `own/16-shot seed 0`;
            `None` if nothing was trained or it is not known.
        test_list: the list of the test videos, `vifi/val1 (verified)` or `official/split 1`; `None` if not known.
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
    train_list: str | None = None
    test_list: str | None = None

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
        """A record from its file; an older schema is brought up to this version's.

        Raises:
            DataError: if it is not a record of a schema this version reads.
        """
        try:
            values = json.loads(path.read_text())
            version = values["schema_version"]
            if version not in _READABLE:
                readable = " and ".join(map(str, _READABLE))
                raise DataError(f"{path}: schema_version is {version}; this vlbench reads {readable}")
            identity = Identity(**values["identity"])
            return cls(**{**values, "identity": identity, "schema_version": SCHEMA_VERSION})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path} is not a record of vlbench: {error!r}; delete it and run the stage again"
            ) from error


def lineage(list_name: str | None) -> str:
    """Whose list it is, so that results on lists of one lineage may be averaged and no others.

    The part before the slash, such as `vifi`, `own` or `official`; the whole name of an altered list, which compares
    with itself only; empty where the list is not known.
    """
    return (list_name or "").partition("/")[0]


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
