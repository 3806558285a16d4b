"""One JSON file an evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlbench.datasets.specs import Selection, Subset
from vlbench.errors import ConfigError, DataError
from vlbench.files import write_atomically
from vlbench.results.details import Details

SCHEMA_VERSION = 3
"""Version 2 added the names of the lists to the identity, version 3 the settings; an older record does not know its
own."""
_READABLE = (1, 2, 3)


@dataclass(frozen=True)
class Identity:
    """What an evaluation is of; two records with the same identity are the same evaluation.

    Attributes:
        method: Name of the method.
        backbone: Architecture and original weights of the backbone, `architecture:weights`.
        weights: Digest of the trained weights; `None` if nothing was trained.
        dataset: Tested dataset and variant of its class names, such as `ucf101/words`.
        train_dataset: Dataset and variant of the training videos; `None` if nothing was trained.
        train: Subset that was trained on; `None` if nothing was trained.
        test: Subset that was tested.
        views: Temporal clips and spatial crops of a test video, such as `4x3`.
        frames: Frames of a view.
        protocol: Versioned name of the protocol, such as `few_shot@1`; `custom` outside a protocol.
        seed: Seed of the run.
        selection: Which epoch of the training was tested.
        train_list: Name of the list of training videos, such as `vifi/train1_few_shot_16 (verified)` or
            `own/16-shot seed 0`; `None` if nothing was trained or the list is not known.
        test_list: Name of the list of test videos, such as `vifi/val1 (verified)` or `official/split 1`; `None` if the
            list is not known.
        test_videos: Digest of the test videos, their labels and the names of the classes; `None` if it is not known.
        settings: Digest of every option of the test that its scores depend on; `None` if the options are not known.
        training_settings: Digest of every option that the weights depend on, but for seed and videos; `None` if nothing
            was trained or the options are not known.
        untrained: Whether the weights are the initial ones of a method that trains, so that this is no result of it.
    """

    method: str
    backbone: str
    weights: str | None
    dataset: str
    train_dataset: str | None
    train: Subset | None
    test: Subset
    views: str
    frames: int
    protocol: str
    seed: int
    selection: Selection
    train_list: str | None = None
    test_list: str | None = None
    test_videos: str | None = None
    settings: str | None = None
    training_settings: str | None = None
    untrained: bool = False

    def digest(self) -> str:
        """Twelve hexadecimal characters that differ between evaluations."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def as_dict(self) -> dict[str, object]:
        """The identity as plain values, for the file."""
        return {**vars(self), "train": None if self.train is None else vars(self.train), "test": vars(self.test)}


@dataclass(frozen=True)
class Record:
    """One evaluation.

    Attributes:
        identity: Identity of what was evaluated.
        metrics: Metrics by their names, in per cent.
        expected: Number of videos in the test list.
        evaluated: Number of videos that were read and scored.
        failures: Id of each other video -> why it could not be read; these videos count as wrong.
        details: Everything else worth knowing: parameters, training, time, memory, device, versions, options.
        schema_version: Version of the layout of the file.
    """

    identity: Identity
    metrics: dict[str, float]
    expected: int
    evaluated: int
    failures: dict[str, str] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
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
        return record_name(self.identity)

    def write(self, folder: Path, name: str | None = None) -> Path:
        """Writes `folder/<name>.json` in one step: a reader sees the whole file or none."""
        values = {**vars(self), "identity": self.identity.as_dict(), "details": self.details.as_dict()}
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        path = folder / f"{name or self.name}.json"
        write_atomically(path, text.encode())
        return path

    @classmethod
    def read(cls, path: Path) -> Record:
        """A record from its file; an older schema is brought up to this version's.

        Raises:
            DataError: If it is not a record of a schema this version reads.
        """
        try:
            values = json.loads(path.read_bytes())
            version = values["schema_version"]
            if version not in _READABLE:
                readable = " and ".join(map(str, _READABLE))
                raise DataError(f"{path}: schema_version is {version}; this vlbench reads {readable}")
            train, test = values["identity"]["train"], values["identity"]["test"]
            subsets = {"train": None if train is None else Subset(**train), "test": Subset(**test)}
            identity = Identity(**{**values["identity"], **subsets})
            details = Details.from_dict(values.get("details", {}))
            return cls(**{**values, "identity": identity, "details": details, "schema_version": SCHEMA_VERSION})
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise DataError(
                f"{path} is not a record of vlbench: {error!r}; delete it and run the stage again"
            ) from error


def record_name(identity: Identity) -> str:
    """File name of a record without suffix: readable, and unique by the identity's digest.

    Args:
        identity: Identity of the evaluation.
    """
    shots = "0" if identity.train is None else identity.train.shots or "full"
    method = f"{identity.method}-untrained" if identity.untrained else identity.method
    dataset = identity.dataset.replace("/", "-")
    return f"{method}-{dataset}-{shots}shot-seed{identity.seed}-{identity.digest()}"


def lineage(list_name: str | None) -> str:
    """Whose list it is, so that results on lists of one lineage may be averaged and no others.

    The part before the slash, such as `vifi`, `own` or `official`; the whole name of an altered list, which compares
    with itself only; empty where the list is not known.
    """
    return (list_name or "").partition("/")[0]


def read_records(folders: Sequence[Path]) -> Iterator[Record]:
    """Every record below the folders, in the order of their paths.

    Raises:
        DataError: If a folder does not exist or a file in a `records` folder is no record.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give folders that hold records, such as results/demo")
        for path in sorted(folder.rglob("*.json")):
            if path.parent.name == "records":
                yield Record.read(path)
