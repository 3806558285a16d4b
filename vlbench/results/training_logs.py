"""Logs of trainings as Lightning's CSVLogger leaves them: a file for each start, a column for each logged value."""

from __future__ import annotations

import csv
import math
from pathlib import Path

COLUMNS = ("train/loss", "train/lr", "train/step_seconds", "train/data_share")
"""Columns of a log that are read: loss, learning rate, seconds of a step, share of them that it waited for data."""

Curve = list[tuple[int, float]]
"""Steps of a training and values, by ascending steps."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """Curves of a training by the columns of its log.

    A training that was continued has a file for each start, `version_0`, `version_1`, ...; from the first step of a
    later file on, that one counts. What cannot be read is left out: a log is no result.

    Args:
        folder: Default root folder of the training, which holds `lightning_logs`.
    """
    versions = [path for path in folder.glob("lightning_logs/version_*") if path.name[8:].isdecimal()]
    curves: dict[str, Curve] = {}
    for path in sorted(versions, key=lambda path: int(path.name[8:])):
        for name, points in _read(path / "metrics.csv").items():
            before = [point for point in curves.get(name, []) if point[0] < points[0][0]]
            curves[name] = before + points
    return curves


def _read(path: Path) -> dict[str, Curve]:
    """Curves of one file of a log, whose first line names its columns; a row has values of some of them."""
    curves: dict[str, dict[int, float]] = {}
    try:
        with path.open(newline="", errors="replace") as file:
            for row in csv.DictReader(file):
                for name in COLUMNS:
                    try:
                        step, value = int(row["step"]), float(row[name])
                    except (KeyError, TypeError, ValueError):  # another column's row, or a line that was cut off
                        continue
                    if math.isfinite(value):
                        curves.setdefault(name, {})[step] = value
    except (OSError, csv.Error):
        return {}
    return {name: sorted(points.items()) for name, points in curves.items()}
