"""What a record says beside identity and metrics, with types; in the file it is the object `details`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vlbench.evaluation.measures import Calibration, Cost
from vlbench.results.fields import checked

T = TypeVar("T")


class Training(Protocol):
    """What results read of the training that evaluated weights come from.

    `evaluation.facts.TrainingFacts` is one, and `StoredTraining`, which is read from a record. A fact that is not known
    is `None`.
    """

    @property
    def steps(self) -> int | None:
        """Number of optimizer steps."""

    @property
    def seconds(self) -> float | None:
        """Duration of the training, in seconds."""

    @property
    def processes(self) -> int | None:
        """Number of processes that trained."""

    def as_dict(self) -> Mapping[str, object]:
        """The facts as plain values, for the file."""


@dataclass(frozen=True)
class StoredTraining:
    """What a file says of a training; an older vlbench told less.

    Attributes:
        steps: Number of optimizer steps.
        seconds: Duration of the training, in seconds.
        processes: Number of processes that trained.
        stored: All facts as plain values.
    """

    steps: int | None
    seconds: float | None
    processes: int | None
    stored: Mapping[str, object]

    def as_dict(self) -> Mapping[str, object]:
        """The facts as plain values, for the file."""
        return self.stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> StoredTraining:
        """The facts that a file holds.

        Raises:
            DataError: If a value is not of its type.
        """
        steps, processes = (_value(stored, key, int, "details.training.") for key in ("steps", "processes"))
        return cls(steps, _number(stored, "seconds", "details.training."), processes, stored)


@dataclass(frozen=True)
class Details:
    """What a record says beside identity and metrics; `None` and empty stand for what it does not say.

    Attributes:
        stage: Digest of the runner's stage that the record belongs to.
        classes: Class names in the order of the columns of the scores.
        test_digest: Digest of the test videos and their classes.
        features_depend_on_classes: Whether the features of a video depend on the list of classes it is scored against.
        deviations: Options whose value is not the paper's, by their names.
        views: Options of the test views.
        sampling: Rule that picked the frames of a clip.
        settings: Every option of the test that its scores depend on, by its name; `identity.settings` is their digest.
        training_settings: Every option that the tested weights depend on, by its name; `identity.training_settings` is
            their digest.
        published_as: Names that published tables have for the method as it was configured.
        training: Training that the weights come from.
        trainable_params: Number of parameters that train.
        total_params: Number of parameters of backbone and method.
        backbone_digest: Digest of the backbone's original weights.
        config_digest: Digest of the configuration of the test.
        command: Words of the command line of the test, after `vlbench`.
        seconds: Duration of the test, in seconds.
        videos_per_second: Videos tested in a second, decoding included.
        processes: Number of processes that tested.
        bootstrap: Number of resampled test sets that the interval of top-1 is of.
        train_test_overlap: Number of training videos that are tested; `None` where that is not known or means nothing.
        train_test_check: Lists that were compared for the overlap, or why none were.
        precision: Precision of the test, as Lightning calls it.
        device: Name of the device that tested.
        peak_memory_bytes: Peak memory of the test on its device, in bytes; without a GPU that of the process since its
            program started.
        vlbench: Version of vlbench that tested.
        git_commit: Commit of vlbench, ending in `-dirty` where files differed from it.
        python: Version of Python that tested.
        packages: Version of each package that results depend on.
        kept: Digest of the file of scores by view and templates; `None` if none were kept.
        epochs: Files of scores of the test videos after each epoch of the training, below `epochs` in the record's
            results folder, and the digest of each; empty if none lie there.
        calibration: Distance of the class probabilities of the readable videos from the truth.
        cost: Floating-point operations of the test.
        others: What a newer vlbench says, kept as it is.
    """

    stage: str | None = None
    classes: tuple[str, ...] = ()
    test_digest: str | None = None
    features_depend_on_classes: bool | None = None
    deviations: Mapping[str, object] = field(default_factory=dict)
    views: Mapping[str, object] = field(default_factory=dict)
    sampling: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    training_settings: Mapping[str, object] = field(default_factory=dict)
    published_as: tuple[str, ...] = ()
    training: Training | None = None
    trainable_params: int | None = None
    total_params: int | None = None
    backbone_digest: str | None = None
    config_digest: str | None = None
    command: tuple[str, ...] = ()
    seconds: float | None = None
    videos_per_second: float | None = None
    processes: int | None = None
    bootstrap: int | None = None
    train_test_overlap: int | None = None
    train_test_check: str | None = None
    precision: str | None = None
    device: str | None = None
    peak_memory_bytes: int | None = None
    vlbench: str | None = None
    git_commit: str | None = None
    python: str | None = None
    packages: Mapping[str, object] = field(default_factory=dict)
    kept: str | None = None
    epochs: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None
    cost: Cost | None = None
    others: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """The details as plain values, for the file."""
        values = {**self.others, **vars(self)}
        del values["others"]
        for name in ("kept", "epochs"):
            if not values[name]:
                del values[name]
        return {
            **values,
            "classes": list(self.classes),
            "published_as": list(self.published_as),
            "command": list(self.command),
            "training": {} if self.training is None else dict(self.training.as_dict()),
            "calibration": None if self.calibration is None else vars(self.calibration),
            "cost": None if self.cost is None else vars(self.cost),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> Details:
        """The details that a file holds.

        Raises:
            DataError: If a value is not of its type.
        """
        training = _mapping(stored, "training")
        return cls(
            stage=_value(stored, "stage", str),
            # Thousands of records repeat the names of few datasets.
            classes=tuple(map(sys.intern, _names(stored, "classes"))),
            test_digest=_value(stored, "test_digest", str),
            features_depend_on_classes=_value(stored, "features_depend_on_classes", bool),
            deviations=_mapping(stored, "deviations"),
            views=_mapping(stored, "views"),
            sampling=_value(stored, "sampling", str),
            settings=_mapping(stored, "settings"),
            training_settings=_mapping(stored, "training_settings"),
            published_as=tuple(_names(stored, "published_as")),
            training=StoredTraining.from_dict(training) if training else None,
            trainable_params=_value(stored, "trainable_params", int),
            total_params=_value(stored, "total_params", int),
            backbone_digest=_value(stored, "backbone_digest", str),
            config_digest=_value(stored, "config_digest", str),
            command=tuple(_names(stored, "command")),
            seconds=_number(stored, "seconds"),
            videos_per_second=_number(stored, "videos_per_second"),
            processes=_value(stored, "processes", int),
            bootstrap=_value(stored, "bootstrap", int),
            train_test_overlap=_value(stored, "train_test_overlap", int),
            train_test_check=_value(stored, "train_test_check", str),
            precision=_value(stored, "precision", str),
            device=_value(stored, "device", str),
            peak_memory_bytes=_value(stored, "peak_memory_bytes", int),
            vlbench=_value(stored, "vlbench", str),
            git_commit=_value(stored, "git_commit", str),
            python=_value(stored, "python", str),
            packages=_mapping(stored, "packages"),
            kept=_value(stored, "kept", str),
            epochs=checked(stored.get("epochs", {}), dict[str, str], "details.epochs"),
            calibration=checked(stored.get("calibration"), Calibration | None, "details.calibration"),
            cost=checked(stored.get("cost"), Cost | None, "details.cost"),
            others={key: stored[key] for key in stored.keys() - cls.__dataclass_fields__.keys()},
        )


def _value(stored: Mapping[str, object], key: str, kind: type[T], prefix: str = "details.") -> T | None:
    value = stored.get(key)
    if value is None or type(value) is kind:  # as nearly always
        return value
    other: T | None = checked(value, kind | None, prefix + key)
    return other


def _number(stored: Mapping[str, object], key: str, prefix: str = "details.") -> float | None:
    return _value(stored, key, float, prefix)


def _mapping(stored: Mapping[str, object], key: str) -> Mapping[str, object]:
    return _value(stored, key, dict) or {}


def _names(stored: Mapping[str, object], key: str) -> list[str]:
    names = _value(stored, key, list) or []
    if not {*map(type, names)} <= {str}:
        checked(names, tuple[str, ...], f"details.{key}")
    return names
