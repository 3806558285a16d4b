"""Columns of a row of the leaderboard beside its accuracies: what it cost, and what its probabilities are worth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vlbench.results.record import Record


class Costs(NamedTuple):
    """Columns of a row: what training and testing cost, means over the runs, of the memory the most.

    A multiply-add counts once in the columns of GFLOPs, as in the papers' tables.
    """

    trainable_percent: float | None
    steps: int | None
    device_hours: float | None
    clips_per_second: float | None
    peak_memory_gb: float | None
    gflops_view: float | None
    gflops_video: float | None
    gflops_classes: float | None


def costs(members: Sequence[Record]) -> Costs:
    """What the runs of a row cost.

    Args:
        members: Records of the row.
    """
    details = [record.details for record in members]
    trainings = [each.training for each in details if each.training is not None]
    counted = [(record, record.details.cost) for record in members if record.details.cost is not None]
    view = [cost.view / 2e9 for _, cost in counted if cost.view is not None]
    video = [_views(record) * cost.view / 2e9 for record, cost in counted if cost.view is not None]
    steps = [training.steps for training in trainings if training.steps is not None]
    memory = [each.peak_memory_bytes for each in details if each.peak_memory_bytes is not None]
    return Costs(
        trainable_percent=_mean(
            100 * each.trainable_params / each.total_params
            for each in details
            if each.trainable_params is not None and each.total_params
        ),
        steps=round(statistics.fmean(steps)) if steps else None,
        device_hours=_mean(
            (
                training.seconds * training.processes / 3600
                for training in trainings
                if training.seconds is not None and training.processes is not None
            ),
            3,
        ),
        clips_per_second=_mean(
            record.details.videos_per_second * _views(record)
            for record in members
            if record.details.videos_per_second is not None
        ),
        peak_memory_gb=round(max(memory) / 1e9, 3) if memory else None,
        gflops_view=_mean(view, 4),
        gflops_video=_mean(video, 4),
        gflops_classes=_mean((cost.classes / 2e9 for _, cost in counted if cost.classes is not None), 4),
    )


class CalibrationColumns(NamedTuple):
    """Columns of a row: what its class probabilities are worth, means over the runs and test sets; none where one of
    them does not state it."""

    ece: float | None
    nll: float | None
    brier: float | None
    base_novel_auroc: float | None


def calibration_of(members: Sequence[Record]) -> CalibrationColumns:
    """What the class probabilities of the runs of a row are worth.

    Args:
        members: Records of the row.
    """
    stated = [record.details.calibration for record in members]

    def mean(name: str) -> float | None:
        values = [value for each in stated if (value := getattr(each, name, None)) is not None]
        return _mean(values, 4) if len(values) == len(members) else None

    return CalibrationColumns(*map(mean, CalibrationColumns._fields))


def _views(record: Record) -> int:
    """Number of views of a test video."""
    return math.prod(map(int, record.identity.views.split("x")))


def _mean(values: Iterable[float], digits: int = 2) -> float | None:
    known = [*values]
    return round(statistics.fmean(known), digits) if known else None
