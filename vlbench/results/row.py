"""A row of the leaderboard, and the setting that its records share."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vlbench.clips.options import NORMAL
from vlbench.results.comparison import ComparisonKey
from vlbench.results.record import Record, Shots, lineage, order_of_views, stored_as

Cell = str | int | float | None
"""A value of a row as files hold it; `None` is not known or does not apply."""


@dataclass(frozen=True)
class Setting:
    """What the records of one row have in common; its fields are columns of the row."""

    method: str
    backbone: str
    weights: str
    protocol: str
    dataset: str
    lists: str
    shots: Shots
    trained_on: str
    frames: int
    views: str
    stored: str
    selection: str
    deviations: str
    trainable_params: int | None
    settings: str
    training_settings: str

    @classmethod
    def of(cls, record: Record) -> Setting:
        """The setting of a record."""
        identity, train, shots = record.identity, record.identity.train, record.identity.shots
        lists, parts = [lineage(identity.train_list), lineage(identity.test_list)], [identity.train_dataset or ""]
        if train is not None and train.classes != "all":
            parts.append(f"{train.classes} classes")
        if train is not None and shots == 0:
            lists, parts = lists[1:], [*parts, f"{train.shots} a class" if train.shots else "", lists[0]]
        backbone, _, weights = identity.backbone.partition(":")
        order = order_of_views(record)
        return cls(
            method=f"{identity.method} (untrained)" if identity.untrained else identity.method,
            backbone=backbone,
            weights=weights,
            protocol=identity.protocol,
            dataset=identity.dataset,
            lists=" / ".join(filter(None, lists)),
            shots=shots,
            trained_on=", ".join(filter(None, parts)),
            frames=identity.frames,
            views=identity.views if order == NORMAL else f"{identity.views} {order}",
            stored=stored_as(record),
            selection=identity.selection,
            deviations=", ".join(f"{key}={value}" for key, value in record.details.deviations.items()),
            trainable_params=record.details.trainable_params,
            settings=identity.settings or "",
            # Without the options of a training nothing says that other weights are only those of another seed.
            training_settings=identity.training_settings or ("" if identity.weights is None else identity.weights[:16]),
        )


@dataclass(frozen=True)
class Row:
    """One method in one setting, over seeds and splits only; the fields are the leaderboard's columns, in their order.

    `docs/leaderboard.md` says what is in them.
    """

    method: str
    backbone: str
    weights: str
    protocol: str
    dataset: str
    lists: str
    shots: Shots
    trained_on: str
    top1: float | None
    top1_std: float | None
    runs_low: float | None
    runs_high: float | None
    top5: float | None
    mean_per_class: float | None
    map: float | None
    base: float | None
    base_std: float | None
    novel: float | None
    novel_std: float | None
    hm: float | None
    half_top1: float | None
    half_top1_std: float | None
    order_score: float | None
    time_score: float | None
    runs: int
    evaluated: int
    videos: int
    coverage: float
    upper_bound: float | None
    frames: int
    views: str
    stored: str
    selection: str
    deviations: str
    options: str
    trainable_params: int | None
    trainable_percent: float | None
    steps: int | None
    device_hours: float | None
    clips_per_second: float | None
    peak_memory_gb: float | None
    gflops_view: float | None
    gflops_video: float | None
    gflops_classes: float | None
    ece: float | None
    nll: float | None
    brier: float | None
    base_novel_auroc: float | None
    published: float | None
    published_source: str
    published_practice: str
    difference: float | None
    settings: str
    training_settings: str
    config_digests: str
    git_commits: str
    comparison: ComparisonKey
    rank: int | None = None

    @property
    def score(self) -> float | None:
        """What the row is ranked by: the harmonic mean where it has one, else top-1, or the mean average precision of
        videos that may have several labels; `None` if it has none of them."""
        return next((score for score in (self.hm, self.top1, self.map) if score is not None), None)

    def cells(self) -> dict[str, Cell]:
        """Column -> value, with the comparison by its digest."""
        return {**vars(self), "comparison": self.comparison.digest}


COLUMNS = tuple(field.name for field in fields(Row))
"""Columns of the leaderboard, in their order."""
