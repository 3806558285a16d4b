"""From records to rows, a pure function."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vlbench.errors import DataError
from vlbench.results.published_values import contradictions, published_for
from vlbench.results.record import Record, lineage

COLUMNS = (
    "method", "backbone", "weights", "protocol", "dataset", "lists", "shots", "trained_on",
    "top1", "top1_std", "top5", "mean_per_class",
    "base", "base_std", "novel", "novel_std", "hm", "half_top1", "half_top1_std",
    "runs", "evaluated", "videos", "coverage", "upper_bound",
    "frames", "views", "selection", "deviations",
    "trainable_params", "trainable_percent", "steps", "device_hours", "clips_per_second",
    "published", "published_source", "difference", "config_digests", "git_commits", "comparison", "rank",
)  # fmt: skip
"""Columns of the leaderboard, in this order; `docs/leaderboard.md` says what is in them."""

Row = dict[str, Any]


def rows(records: Iterable[Record]) -> list[Row]:
    """One row for each method and setting, ranked among those it can be compared with.

    Seeds and test splits are averaged; `*_std` is the population standard deviation. Records of the base and the novel
    classes make one row. Rows compare if protocol, dataset and its variant, shots, origin of the training list,
    selection, and, test set by test set, videos, class names and unreadable videos are the same. Order: protocol,
    dataset, lists, shots, then the best first.

    Raises:
        DataError: if two records of one evaluation have different results.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(_setting(record).items()), []).append(record)
    table = [_row(dict(key), _distinct(members)) for key, members in groups.items()]

    def order(row: Row) -> tuple[Any, ...]:
        shots, value = row["shots"], score(row)
        place = (row["protocol"], row["dataset"], row["lists"], shots == "all", 0 if shots == "all" else shots)
        best = math.inf if value is None else -value
        return (*place, row["comparison"], best, *(str(row[column]) for column in COLUMNS))

    return _ranked(sorted(table, key=order))


def score(row: Row) -> float | None:
    """What a row is ranked by: the harmonic mean where it has one, else top-1; `None` if it has neither."""
    value: float | None = row["top1"] if row["hm"] is None else row["hm"]
    return value


def check_provenance(records: Sequence[Record], *, allow_dirty: bool = False, allow_mixed: bool = False) -> None:
    """Refuses records that a table should not rest on.

    Args:
        records: all of the table.
        allow_dirty: take records of code that differed from its commit.
        allow_mixed: take records of different schemas in one table.

    Raises:
        DataError: naming the records and the option that takes them.
    """
    dirty = [record.name for record in records if str(record.details.get("git_commit")).endswith("-dirty")]
    if dirty and not allow_dirty:
        raise DataError(
            f"{len(dirty)} of {len(records)} records were made by code that differs from its commit, such as"
            f" {dirty[0]}; commit and test again, or say --allow_dirty"
        )
    # Only version 1 of the schema did not know the lists.
    old = [record.name for record in records if record.identity.test_list is None]
    if 0 < len(old) < len(records) and not allow_mixed:
        raise DataError(
            f"{len(old)} of {len(records)} records are of an older schema that names no lists, such as {old[0]}; test"
            " again, give folders of one schema, or say --allow_mixed"
        )


def _setting(record: Record) -> Row:
    """What records of one row have in common; the first columns of the row."""
    identity, details = record.identity, record.details
    train = identity.train
    shots: int | str = 0
    if train is not None and _collection(identity.train_dataset) == _collection(identity.dataset):
        shots = "all" if train.get("shots") is None else train["shots"]
    lists, parts = [lineage(identity.train_list), lineage(identity.test_list)], [identity.train_dataset or ""]
    if train is not None and train.get("classes") != "all":
        parts.append(f"{train.get('classes')} classes")
    if train is not None and shots == 0:
        lists, parts = lists[1:], [*parts, f"{train['shots']} a class" if train.get("shots") else "", lists[0]]
    backbone, _, weights = identity.backbone.partition(":")
    return {
        "protocol": identity.protocol,
        "dataset": identity.dataset,
        "lists": " / ".join(filter(None, lists)),
        "shots": shots,
        "method": identity.method,
        "backbone": backbone,
        "weights": weights,
        "trained_on": ", ".join(filter(None, parts)),
        "frames": identity.frames,
        "views": identity.views,
        "selection": identity.selection,
        "deviations": ", ".join(f"{key}={value}" for key, value in details.get("deviations", {}).items()),
        "trainable_params": details.get("trainable_params"),
    }


def _collection(dataset: str | None) -> str:
    """The dataset without its variant."""
    return (dataset or "").partition("/")[0]


def _distinct(members: Sequence[Record]) -> list[Record]:
    """Each evaluation once, in an order that does not depend on that of the files."""
    found: dict[str, Record] = {}
    for record in members:
        other = found.setdefault(record.identity.digest(), record)
        if other.metrics != record.metrics:
            raise DataError(
                f"two records of {record.name} differ: top-1 {other.metrics['top1']:.3f} and"
                f" {record.metrics['top1']:.3f}; give only the folder of one of them"
            )
    return [found[digest] for digest in sorted(found)]


def _row(setting: Row, members: Sequence[Record]) -> Row:
    by_classes = {
        classes: [record for record in members if record.identity.test["classes"] == classes]
        for classes in ("all", "base", "novel")
    }
    everything, base, novel = by_classes.values()
    paired = bool(base) and sorted(map(_run, base)) == sorted(map(_run, novel))
    values: Row = {
        **setting,
        "comparison": _comparison(setting, members),
        "rank": None,
        **_spread("top1", everything, "top1"),
        "top5": _mean([record.metrics["top5"] for record in everything]),
        "mean_per_class": _mean([record.metrics["mean_per_class"] for record in everything]),
        **_spread("base", base, "top1"),
        **_spread("novel", novel, "top1"),
        "hm": _harmonic(base, novel, _top1) if paired else None,
        **_spread("half_top1", everything, "half_top1"),
        "runs": max(len(records) for records in by_classes.values()),
        **_counts(members),
        "upper_bound": _rounded(
            _harmonic(base, novel, _upper) if paired else _mean([_upper(record) for record in everything])
        ),
        **_costs(members),
        "config_digests": _short(record.details.get("config_digest") for record in members),
        "git_commits": _short(record.details.get("git_commit") for record in members),
    }
    # The draws of the classes vary, not the runs.
    if len(everything) == 1 and "half_top1_std" in everything[0].metrics:
        values["half_top1_std"] = _rounded(everything[0].metrics["half_top1_std"])
    if values["coverage"] == 1:
        values["upper_bound"] = None
    values |= _published(values)
    return {column: values[column] for column in COLUMNS}


def _run(record: Record) -> tuple[int, str]:
    return record.identity.seed, record.identity.weights or ""


def _top1(record: Record) -> float:
    return record.metrics["top1"]


def _upper(record: Record) -> float:
    """Top-1 if every unreadable video had been right; they count as wrong."""
    return record.metrics["top1"] + 100 * len(record.failures) / max(1, record.expected)


def _harmonic(base: Sequence[Record], novel: Sequence[Record], metric: Callable[[Record], float]) -> float | None:
    """Harmonic mean of the mean over the base classes' records and that over the novel ones'."""
    means = [statistics.fmean(map(metric, records)) for records in (base, novel)]
    return _rounded(statistics.harmonic_mean(means))


def _comparison(setting: Row, members: Sequence[Record]) -> str:
    """Names what a row may be ranked with: rows that compare have the same eight characters."""
    in_domain = setting["shots"] != 0
    train = {(record.identity.train or {}).get("classes") for record in members} if in_domain else ()
    lists = {lineage(record.identity.train_list) for record in members} if in_domain else ()
    tests = {
        (
            record.identity.test["classes"],
            record.identity.test["split"],
            record.identity.test_list,
            record.expected,
            tuple(record.details.get("classes", ())),
            tuple(sorted(record.failures)),
            record.details.get("test_digest"),
        )
        for record in members
    }
    same = [setting[key] for key in ("protocol", "dataset", "shots", "selection")]
    key = repr((same, sorted(map(str, train)), sorted(lists), sorted(map(repr, tests))))
    return hashlib.blake2b(key.encode(), digest_size=4).hexdigest()


def _ranked(table: list[Row]) -> list[Row]:
    """Ranks within each comparison; equal scores share one."""
    scores: dict[str, list[float]] = {}
    for row in table:
        value = score(row)
        if value is not None:
            scores.setdefault(row["comparison"], []).append(value)
    for row in table:
        value = score(row)
        if value is not None:
            row["rank"] = 1 + sum(other > value for other in scores[row["comparison"]])
    return table


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 2)


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(statistics.fmean(values)) if values else None


def _spread(column: str, records: Sequence[Record], metric: str) -> Row:
    values = [record.metrics[metric] for record in records if metric in record.metrics]
    mean = _mean(values)
    return {column: mean, f"{column}_std": None if mean is None else _rounded(statistics.pstdev(values))}


def _counts(members: Sequence[Record]) -> Row:
    """Videos of the test sets, each set once, and how many of them every run could read."""
    sets: dict[tuple[Any, ...], list[Record]] = {}
    for record in members:
        test = record.identity.test
        sets.setdefault((test["classes"], test["split"], record.identity.test_list), []).append(record)
    videos = sum(max(record.expected for record in records) for records in sets.values())
    evaluated = sum(min(record.evaluated for record in records) for records in sets.values())
    # Rounded down: 1 means that not one video is missing.
    coverage = math.floor(10_000 * evaluated / videos) / 10_000 if videos else 1.0
    return {"evaluated": evaluated, "videos": videos, "coverage": coverage}


def _costs(members: Sequence[Record]) -> Row:
    details = [record.details for record in members]
    trainings = [entry.get("training") or {} for entry in details]
    shares = [
        100 * entry["trainable_params"] / entry["total_params"]
        for entry in details
        if entry.get("trainable_params") is not None and entry.get("total_params")
    ]
    hours = [
        training["seconds"] * training["processes"] / 3600
        for training in trainings
        if training.get("seconds") is not None
    ]
    clips = [
        record.details["videos_per_second"] * math.prod(map(int, record.identity.views.split("x")))
        for record in members
        if "videos_per_second" in record.details
    ]
    steps = [training["steps"] for training in trainings if "steps" in training]
    return {
        "trainable_percent": _mean(shares),
        "steps": round(statistics.fmean(steps)) if steps else None,
        "device_hours": round(statistics.fmean(hours), 3) if hours else None,
        "clips_per_second": _mean(clips),
    }


def _short(values: Iterable[str | None]) -> str:
    """Distinct digests, the first twelve characters of each, and whether the tree was dirty."""
    return " ".join(
        sorted({value[:12] + ("-dirty" if value.endswith("-dirty") else "") for value in values if value is not None})
    )


def _published(row: Row) -> Row:
    """The published value for the score of a row, whose it is, and every value that contradicts it."""
    value = score(row)
    found = published_for(
        shots=row["shots"] if isinstance(row["shots"], int) and row["shots"] > 0 else None,
        metrics=("top1",) if row["hm"] is None else ("hm",),
        **{
            key: row[key]
            for key in ("protocol", "dataset", "method", "backbone", "weights", "frames", "views", "selection")
        },
    )
    if not found or value is None:
        return {"published": None, "published_source": "", "difference": None}
    best = found[0]
    others = {(other.value, other.source, other.origin) for other in (*found[1:], *contradictions(best))}
    told = [f"{other} in {source} ({origin})" for other, source, origin in sorted(others) if other != best.value]
    return {
        "published": best.value,
        "published_source": "; ".join([f"{best.source} ({best.origin})", *told]),
        "difference": round(value - best.value, 2),
    }
