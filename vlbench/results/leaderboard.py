"""From records to the rows of the leaderboard, a pure function."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.errors import DataError
from vlbench.results.audits import AuditedRecord, AuditScores, audited_record, read_audits
from vlbench.results.comparison import ComparisonKey
from vlbench.results.costs import calibration_of, costs
from vlbench.results.options import differing, settings_of
from vlbench.results.pairs import read_records
from vlbench.results.published_values import published_beside
from vlbench.results.record import MAP, Record
from vlbench.results.row import COLUMNS, Row, Setting


def leaderboard_rows(folders: Sequence[Path], *, allow_dirty: bool = False, allow_mixed: bool = False) -> list[Row]:
    """Rows of all records below some folders; see `rows`.

    Args:
        folders: Results folders, searched for records.
        allow_dirty: Take records of code that differed from its commit.
        allow_mixed: Take records of different schemas in one table.

    Raises:
        DataError: If a folder does not exist, or a table should not rest on some of them.
    """
    records = list(read_records(folders))
    check_provenance(records, allow_dirty=allow_dirty, allow_mixed=allow_mixed)
    return rows(records, read_audits(folders))


def rows(records: Iterable[Record], audits: Mapping[AuditedRecord, AuditScores] | None = None) -> list[Row]:
    """One row for each method and setting, ranked among those it can be compared with.

    Seeds and test splits are averaged, and nothing else: evaluations that differ in an option, or in weights that seed
    and split do not tell apart, are rows of their own, and `options` says in what they differ. `*_std` is the
    population standard deviation, `None` of one run. Records of the base and the novel classes make one row. Rows
    compare if their `ComparisonKey` is the same: protocol, dataset and its variant, shots, origin of the training list,
    selection, and, test set by test set, videos, class names and unreadable videos. Order: protocol, dataset, lists,
    shots, then the best first.

    Args:
        records: Records of the table.
        audits: Scores of the audits of records, see `vlbench.results.audits`.

    Raises:
        DataError: If two records of one evaluation have different results.
    """
    groups: dict[Setting, list[Record]] = {}
    for record in _distinct(records):
        groups.setdefault(Setting.of(record), []).append(record)
    parts = [
        _Part(setting, members, told_apart)
        for setting, group in groups.items()
        for told_apart, members in _runs(group).items()
    ]
    table = [
        _row(part.setting, part.members, options, audits or {})
        for part, options in zip(parts, _options(parts), strict=True)
    ]
    return _ranked(sorted(table, key=_order))


class _Part(NamedTuple):
    """Records of one row.

    Attributes:
        setting: Setting of the row.
        members: Evaluations of the row.
        told_apart: Fields of the identity that tell the row from others of its setting, and their values.
    """

    setting: Setting
    members: list[Record]
    told_apart: tuple[tuple[str, object], ...]


def _runs(members: Sequence[Record]) -> dict[tuple[tuple[str, object], ...], list[Record]]:
    """Evaluations of one setting that seeds and splits tell apart; what else tells others apart, such as weights."""
    places: dict[object, list[Record]] = {}
    for record in members:
        places.setdefault((record.identity.seed, record.identity.train, record.identity.test), []).append(record)
    runs: dict[tuple[tuple[str, object], ...], list[Record]] = {}
    for same in places.values():
        values = [vars(record.identity) for record in same]
        differ = [name for name in values[0] if len(same) > 1 and any(one[name] != values[0][name] for one in values)]
        for record, identity in zip(same, values, strict=True):
            runs.setdefault(tuple((name, identity[name]) for name in differ), []).append(record)
    return runs


def _options(parts: Sequence[_Part]) -> list[str]:
    """For each row the options in which the rows of its method differ, where all else that rows show is the same."""
    scopes: dict[object, list[int]] = {}
    for index, part in enumerate(parts):
        each = part.setting
        scope = (each.method, each.backbone, each.weights, each.protocol, each.dataset, each.shots, each.trained_on)
        scopes.setdefault(scope, []).append(index)
    options = [""] * len(parts)
    for indices in scopes.values():
        if len(indices) == 1:
            continue
        known = [settings_of(parts[index].members[0]) for index in indices]
        apart = [dict(parts[index].told_apart) for index in indices]
        both = [None if one is None else {**one, **fields} for one, fields in zip(known, apart, strict=True)]
        for index, text in zip(indices, differing(both), strict=True):
            options[index] = text
    return options


def _order(row: Row) -> tuple[object, ...]:
    shots, cells = row.shots, row.cells()
    place = (row.protocol, row.dataset, row.lists, shots == "all", 0 if shots == "all" else shots)
    best = math.inf if row.score is None else -row.score
    return (*place, cells["comparison"], best, *(str(cells[column]) for column in COLUMNS))


def check_provenance(records: Sequence[Record], *, allow_dirty: bool = False, allow_mixed: bool = False) -> None:
    """Refuses records that a table should not rest on.

    Args:
        records: Records of the table.
        allow_dirty: Take records of code that differed from its commit.
        allow_mixed: Take records of different schemas in one table.

    Raises:
        DataError: Naming the records and the option that takes them.
    """
    dirty = [record.name for record in records if (record.details.git_commit or "").endswith("-dirty")]
    if dirty and not allow_dirty:
        raise DataError(
            f"{len(dirty)} of {len(records)} records were made by code that differs from its commit, such as"
            f" {dirty[0]}; commit and test again, or say --allow_dirty"
        )
    # Version 1 of the schema did not know the lists, version 2 not the options.
    for unknown, field in (("lists", "test_list"), ("options", "settings")):
        old = [record.name for record in records if getattr(record.identity, field) is None]
        if 0 < len(old) < len(records) and not allow_mixed:
            raise DataError(
                f"{len(old)} of {len(records)} records are of an older schema that names no {unknown}, such as"
                f" {old[0]}; test again, give folders of one schema, or say --allow_mixed"
            )


def _distinct(records: Iterable[Record]) -> list[Record]:
    """Each evaluation once, in an order that does not depend on that of the files.

    Of two copies the same one counts in every order: that with more metrics, and of equals the first by its text.
    """
    copies: dict[tuple[str, Setting | None], list[Record]] = {}
    for record in records:
        # The identity of an old record does not know the options, which its setting shows in part.
        setting = Setting.of(record) if record.identity.settings is None else None
        copies.setdefault((record.identity.digest(), setting), []).append(record)
    for of_one in copies.values():
        for first, second in combinations(of_one, 2):
            _check_same_results(first, second)
    ordered = sorted(copies.items(), key=lambda pair: pair[0][0])
    return [
        of_one[0] if len(of_one) == 1 else min(of_one, key=lambda each: (-len(each.metrics), each.as_json()))
        for _, of_one in ordered
    ]


def _check_same_results(first: Record, second: Record) -> None:
    """Refuses two records of one evaluation that contradict each other.

    Raises:
        DataError: Naming what differs.
    """
    shared = first.metrics.keys() & second.metrics.keys()  # such as without `half_classes` and with
    if first.details.bootstrap != second.details.bootstrap:
        shared -= {"top1_low", "top1_high"}
    differ = sorted(name for name in shared if first.metrics[name] != second.metrics[name])
    if differ:
        name = "top1" if "top1" in differ else differ[0]
        what = f"{name} {first.metrics[name]:.3f} and {second.metrics[name]:.3f}"
    elif first.expected != second.expected or first.failures.keys() != second.failures.keys():
        lost = [f"{len(record.failures)} of {record.expected}" for record in (first, second)]
        what = f"{lost[0]} and {lost[1]} videos could not be read, or others"
    else:
        return
    raise DataError(f"two records of {first.name} differ: {what}; give only the folder of one of them")


def _row(setting: Setting, members: Sequence[Record], options: str, audits: Mapping[AuditedRecord, AuditScores]) -> Row:
    everything, base, novel = (
        [record for record in members if record.identity.test.classes == classes]
        for classes in ("all", "base", "novel")
    )
    paired = bool(base) and sorted(map(_run, base)) == sorted(map(_run, novel))
    paired = paired and not any(MAP in record.metrics for record in (*base, *novel))
    top1, half_top1 = _spread(everything, "top1"), _spread(everything, "half_top1")
    if len(everything) == 1 and "half_top1_std" in everything[0].metrics:
        # The draws of the classes vary, not the runs.
        half_top1 = half_top1._replace(std=_rounded(everything[0].metrics["half_top1_std"]))
    of_base, of_novel = _spread(base, "top1"), _spread(novel, "top1")
    hm = _harmonic(base, novel, _top1) if paired else None
    of_one_label = [record for record in everything if MAP not in record.metrics]
    upper_bound = _harmonic(base, novel, _upper) if paired else _mean([_upper(record) for record in of_one_label])
    coverage = _coverage(members)
    return Row(
        **vars(setting),
        options=options,
        top1=top1.mean,
        top1_std=top1.std,
        runs_low=_quantile(of_one_label, 0),
        runs_high=_quantile(of_one_label, -1),
        top5=_spread(everything, "top5").mean,
        mean_per_class=_spread(everything, "mean_per_class").mean,
        map=_spread(everything, MAP).mean,
        base=of_base.mean,
        base_std=of_base.std,
        novel=of_novel.mean,
        novel_std=of_novel.std,
        hm=hm,
        half_top1=half_top1.mean,
        half_top1_std=half_top1.std,
        **_audited(everything, audits),
        runs=max(map(len, (everything, base, novel))),
        **coverage._asdict(),
        upper_bound=None if coverage.coverage == 1 else upper_bound,
        **costs(members)._asdict(),
        **calibration_of(members)._asdict(),
        **published_beside(setting, members[0].details.published_as, top1.mean, hm)._asdict(),
        config_digests=_short(record.details.config_digest for record in members),
        git_commits=_short(record.details.git_commit for record in members),
        comparison=ComparisonKey.of(members, setting.shots),
    )


def _audited(everything: Sequence[Record], audits: Mapping[AuditedRecord, AuditScores]) -> dict[str, Any]:
    """Mean order and time score of the runs; none where a run was not audited whose top-1 is in the row's mean."""
    scores = [audits[key] for key in map(audited_record, everything) if key in audits]
    whole = len(scores) == len(everything)
    return {name: _mean([getattr(score, name) for score in scores]) if whole else None for name in AuditScores._fields}


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


def _ranked(table: Sequence[Row]) -> list[Row]:
    """Ranks within each comparison; equal scores share one. What was not trained has none."""
    scores: dict[ComparisonKey, list[float]] = {}
    for row in table:
        if row.score is not None and not row.comparison.untrained:
            scores.setdefault(row.comparison, []).append(row.score)
    for members in scores.values():
        members.sort()
    return [
        row
        if row.score is None or row.comparison.untrained
        else replace(row, rank=1 + _better(scores[row.comparison], row.score))
        for row in table
    ]


def _better(ascending: Sequence[float], score: float) -> int:
    """Number of scores that are better than a score."""
    return len(ascending) - bisect_right(ascending, score)


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 2)


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(statistics.fmean(values)) if values else None


class Spread(NamedTuple):
    """Mean and population standard deviation of a metric over runs, none where one of them does not state the metric;
    one run has no deviation."""

    mean: float | None
    std: float | None


def _spread(records: Sequence[Record], metric: str) -> Spread:
    values = [record.metrics[metric] for record in records if metric in record.metrics]
    if len(values) < len(records):
        return Spread(None, None)
    return Spread(_mean(values), _rounded(statistics.pstdev(values)) if len(values) > 1 else None)


_FEWEST_RUNS = 20
"""Fewest runs whose spread is given as an interval: of fewer, 95 % is all of them."""


def _quantile(records: Sequence[Record], position: int) -> float | None:
    """An end of the central 95 % of the runs' top-1: the lower one at position 0, the upper one at -1."""
    if len(records) < _FEWEST_RUNS:
        return None
    return _rounded(statistics.quantiles(map(_top1, records), n=40, method="inclusive")[position])


class Coverage(NamedTuple):
    """Columns of a row: videos of the test sets, each set once, and how many of them every run could read."""

    evaluated: int
    videos: int
    coverage: float


def _coverage(members: Sequence[Record]) -> Coverage:
    sets: dict[tuple[object, ...], list[Record]] = {}
    for record in members:
        test = record.identity.test
        sets.setdefault((test.classes, test.split, record.identity.test_list), []).append(record)
    videos = sum(max(record.expected for record in records) for records in sets.values())
    evaluated = sum(min(record.evaluated for record in records) for records in sets.values())
    # Rounded down: 1 means that not one video is missing.
    return Coverage(evaluated, videos, math.floor(10_000 * evaluated / videos) / 10_000 if videos else 1.0)


def _short(values: Iterable[str | None]) -> str:
    """Distinct digests, the first twelve characters of each, and whether the tree was dirty."""
    return " ".join(
        sorted({value[:12] + ("-dirty" if value.endswith("-dirty") else "") for value in values if value is not None})
    )
