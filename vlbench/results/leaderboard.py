"""From records to rows, a pure function."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from vlbench.results.record import Record, lineage

COLUMNS = (
    "protocol", "dataset", "lists", "shots", "method", "backbone", "views", "frames", "selection",
    "top1", "top1_std", "top5", "mean_per_class", "runs", "videos", "unreadable", "trainable_params", "deviations",
)  # fmt: skip
"""Columns of the leaderboard, in this order."""


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row for each protocol, test set, origin of its lists, number of shots, method and setting.

    Seeds are averaged; `top1_std` is the population standard deviation over the runs. Order: protocol, dataset, lists,
    shots, then the best first.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        identity = record.identity
        shots = (identity.train or {}).get("shots") if identity.train else 0
        deviations = ", ".join(f"{key}={value}" for key, value in record.details.get("deviations", {}).items())
        dataset = identity.dataset
        if identity.train_dataset not in (None, dataset):
            dataset = f"{identity.train_dataset} -> {dataset}"
        lists = " / ".join(filter(None, (lineage(identity.train_list), lineage(identity.test_list))))
        key = (
            identity.protocol, dataset, lists, "all" if shots is None else shots, identity.method, identity.backbone,
            identity.views, identity.frames, identity.selection, deviations,
            record.details.get("trainable_params"),
        )  # fmt: skip
        groups.setdefault(key, []).append(record)
    table = [_row(key, members) for key, members in groups.items()]

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        shots = row["shots"]
        return (
            row["protocol"],
            row["dataset"],
            row["lists"],
            shots == "all",
            shots if shots != "all" else 0,
            -row["top1"],
            row["method"],
        )

    return sorted(table, key=order)


def _row(key: tuple[Any, ...], members: list[Record]) -> dict[str, Any]:
    protocol, dataset, lists, shots, method, backbone, views, frames, selection, deviations, trainable = key

    def mean(metric: str) -> float:
        return round(statistics.fmean(record.metrics[metric] for record in members), 2)

    values = {
        "protocol": protocol, "dataset": dataset, "lists": lists, "shots": shots,
        "method": method, "backbone": backbone,
        "views": views, "frames": frames, "selection": selection,
        "top1": mean("top1"),
        "top1_std": round(statistics.pstdev(record.metrics["top1"] for record in members), 2),
        "top5": mean("top5"),
        "mean_per_class": mean("mean_per_class"),
        "runs": len(members),
        "videos": members[0].expected,
        "unreadable": max(len(record.failures) for record in members),
        "trainable_params": trainable,
        "deviations": deviations,
    }  # fmt: skip
    return {column: values[column] for column in COLUMNS}
