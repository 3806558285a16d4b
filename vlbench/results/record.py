"""One JSON file an evaluation."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vlbench.clips.options import NORMAL
from vlbench.datasets.specs import Selection, Subset, collection
from vlbench.errors import ConfigError, DataError
from vlbench.files import write_atomically
from vlbench.names import one_line
from vlbench.results.details import Details
from vlbench.results.fields import check_text, checked_fields, parse_json, shown

SCHEMA_VERSION = 3
"""Version 2 added the names of the lists to the identity, version 3 the settings; an older record does not know its
own."""
_READABLE = (1, 2, 3)

ACCURACIES = ("top1", "top5", "mean_per_class")
"""Metrics of every evaluation of videos of one label each."""

MAP = "map"
"""Metric of an evaluation of videos that may have several labels, the mean average precision, in the place of those."""

Shots = int | Literal["all"]
"""Training videos a class of the tested dataset; 0 if none of its videos train."""


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

    @property
    def collection(self) -> str:
        """Name of the tested dataset without the variant of its class names."""
        return collection(self.dataset)

    @property
    def shots(self) -> Shots:
        """Training videos a class of the tested dataset, whatever the variant of its class names."""
        if self.train is None or collection(self.train_dataset or "") != self.collection:
            return 0
        return "all" if self.train.shots is None else self.train.shots

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
        predictions: Digest of the file of scores that lies beside the record; `None` in records of an older vlbench.
        schema_version: Version of the layout of the file.
    """

    identity: Identity
    metrics: dict[str, float]
    expected: int
    evaluated: int
    failures: dict[str, str] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
    predictions: str | None = None
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

    def as_json(self) -> str:
        """The record as the text of its file.

        Raises:
            DataError: If a metric is not a finite number.
        """
        lost = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        if lost:
            raise DataError(
                f"{self.name}: metrics.{lost[0]} is {self.metrics[lost[0]]}; a record holds finite numbers only, so"
                " test videos and weights with which the method gives such"
            )
        values = {**vars(self), "identity": self.identity.as_dict(), "details": self.details.as_dict()}
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    def write(self, folder: Path, name: str | None = None) -> Path:
        """Writes `folder/<name>.json` in one step: a reader sees the whole file or none."""
        path = folder / f"{name or self.name}.json"
        write_atomically(path, self.as_json().encode())
        return path

    @classmethod
    def read(cls, path: Path) -> Record:
        """A record from its file; an older schema is brought up to this version's.

        Raises:
            DataError: If it cannot be read, or is not a record of a schema this version reads.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Record:
        """A record from the bytes of its file.

        Args:
            content: Bytes of the file, JSON in UTF-8.
            path: Path of the file, for messages.

        Raises:
            DataError: If they are not those of a record of a schema this version reads; names the file and the field.
        """
        try:
            values = parse_json(content, file_names=True)
            if isinstance(values, dict):
                # Videos are named here and in what a training skipped, files in the command.
                details = values.get("details")
                rest = {**details, "training": None, "command": None} if isinstance(details, dict) else details
                check_text(content, {**values, "failures": None, "details": rest})
            return cls._parse(values)
        except (DataError, ConfigError) as error:
            raise DataError(
                f"{path} is not a record of vlbench: {one_line(str(error))}; delete it and run `vlbench test` again"
            ) from error

    @classmethod
    def _parse(cls, values: object) -> Record:
        if not isinstance(values, dict):
            raise DataError(f"it holds {shown(values)}; allowed: an object")
        if (version := values.get("schema_version")) not in _READABLE or isinstance(version, bool | float):
            readable = " and ".join(map(str, _READABLE))
            raise DataError(f"schema_version is {shown(version)}; this vlbench reads {readable}")
        for name in ("identity", "details"):
            if not isinstance(values.get(name, {}), dict):
                raise DataError(f"{name} is {shown(values[name])}; allowed: an object")
        typed = checked_fields(values, cls, "", leave=("identity", "details"))
        typed["identity"] = Identity(**checked_fields(values["identity"], Identity, "identity"))
        typed["details"] = Details.from_dict(values.get("details", {}))
        record = cls(**{**typed, "schema_version": SCHEMA_VERSION})
        record._check_ranges()
        return record

    def _check_ranges(self) -> None:
        """Refuses numbers that no evaluation has.

        Raises:
            DataError: Naming the field.
        """
        for name in ACCURACIES:
            if MAP not in self.metrics and name not in self.metrics:
                raise DataError(f"metrics.{name} is missing")
            if MAP in self.metrics and name in self.metrics:
                raise DataError(
                    f"metrics has {MAP} and {name}; allowed: one, a video has one label or may have several"
                )
        for name, value in self.metrics.items():
            if not -1e-3 <= value <= 100.001:  # single precision may round beyond
                raise DataError(f"metrics.{name} is {value}; allowed: 0 to 100")
        for name, count in (("expected", self.expected), ("evaluated", self.evaluated)):
            if count < 0:
                raise DataError(f"{name} is {count}; allowed: 0 or more")
        if self.identity.frames < 1:
            raise DataError(f"identity.frames is {self.identity.frames}; allowed: 1 or more")
        if not re.fullmatch("[1-9][0-9]{0,5}x[1-9][0-9]{0,5}", self.identity.views):
            raise DataError(f"identity.views is {shown(self.identity.views)}; allowed: clips x crops, such as 4x3")


def order_of_views(record: Record) -> str:
    """Order of the frames of the tested views, `normal` where the record names none."""
    return str(record.details.settings.get("data.clip.views.order", NORMAL))


def stored_as(record: Record) -> str:
    """What the tested videos were on the disk: `frames`, pictures of each frame, or nothing to say, video files."""
    return "frames" if record.details.settings.get("data.loading.backend") == "rawframes" else ""


def record_name(identity: Identity) -> str:
    """File name of a record without suffix: readable, and unique by the identity's digest.

    Args:
        identity: Identity of the evaluation.
    """
    shots = "0" if identity.train is None else identity.train.shots or "full"
    method = f"{identity.method}-untrained" if identity.untrained else identity.method
    # A dataset may have the name of a folder, which may hold anything; the digest tells two names apart.
    dataset = "".join(sign if sign.isprintable() and sign != "/" else "-" for sign in identity.dataset)[:40]
    return f"{method}-{dataset}-{shots}shot-seed{identity.seed}-{identity.digest()}"


def lineage(list_name: str | None) -> str:
    """Whose list it is, so that results on lists of one lineage may be averaged and no others.

    The part before the slash, such as `vifi`, `own` or `official`; the whole name of an altered list, which compares
    with itself only; empty where the list is not known.
    """
    return (list_name or "").partition("/")[0]
