"""`vlbench compare draws`; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from vlbench.cli.consoles import console_of_tables
from vlbench.errors import DataError
from vlbench.ranges import COUNTS, SEEDS
from vlbench.results.comparison import ComparisonKey
from vlbench.results.options import differing, settings_of
from vlbench.results.pairs import read_records
from vlbench.results.record import MAP, Record
from vlbench.results.row import Setting


def compare_draws(a: str, b: str, folder: Path = Path("results"), resamples: int = 10_000, seed: int = 0) -> int:
    """Say whether two methods differ by more than chance on the same draws of training videos; from their records.

    Args:
        a: Name of a method, such as tip_adapter.
        b: Name of the other method.
        folder: Results folder whose records are read.
        resamples: Resampled sets of draws, and random signs of the test.
        seed: Seed of the resampling.

    Returns:
        0.
    """
    COUNTS.check("resamples", resamples)
    SEEDS.check("seed", seed)
    from vlbench.evaluation.draws import compare_draws as paired

    of_both = [record for record in read_records([folder]) if record.identity.method in (a, b)]
    # A video of the others may have several labels; they have a mean average precision instead.
    records = [record for record in of_both if MAP not in record.metrics]
    groups = {name: _draws(records, name) for name in (a, b)}
    for name, of_method in groups.items():
        if not of_method:
            known = ", ".join(sorted({record.identity.method for record in read_records([folder])})) or "none"
            raise DataError(
                f"{folder} has no records of trainings of {name!r} with a top-1 accuracy; its methods: {known}"
            )
    common = [key for key in groups[a] if key in groups[b]]
    if not common:
        raise DataError(
            f"{a} and {b} have no setting in common in {folder}: the same protocol, dataset, shots, lists and test"
            " videos"
        )
    columns = ("dataset", "shots", "draws", a, b, "B - A", "sd", "95 %", "p")
    table = Table(*columns, title="B - A over the same draws, in points")
    for key in common:
        outcome = paired(groups[a][key], groups[b][key], resamples=resamples, seed=seed)
        # One draw says nothing of the spread over draws.
        spread = ("", "", "") if outcome.draws == 1 else (
            f"{outcome.deviation:.2f}", f"[{outcome.low:+.2f}, {outcome.high:+.2f}]", f"{outcome.p_value:.3g}"
        )  # fmt: skip
        table.add_row(
            key.dataset, str(key.shots), str(outcome.draws), f"{outcome.mean_a:.2f}", f"{outcome.mean_b:.2f}",
            f"{outcome.difference:+.2f}", *spread,
        )  # fmt: skip
    console = console_of_tables(120, markup=False)
    console.print(table)
    if len(records) < len(of_both):
        left = len(of_both) - len(records)
        console.print(f"note: {left} records are left out, which have a mean average precision and no top-1 accuracy")
    return 0


def _draws(records: Sequence[Record], method: str) -> dict[ComparisonKey, dict[tuple[object, ...], float]]:
    """Top-1 of a method on each draw, for each setting that is compared.

    Raises:
        DataError: If a setting or a draw has results of several variants of the method.
    """
    groups: dict[ComparisonKey, dict[tuple[object, ...], float]] = {}
    first: dict[ComparisonKey, Record] = {}
    for record in records:
        identity = record.identity
        if identity.method != method or identity.train is None or identity.untrained:
            continue
        key = ComparisonKey.of([record], identity.shots)
        draw = (identity.seed, identity.train, identity.train_list)
        values, other = groups.setdefault(key, {}), first.setdefault(key, record)
        if Setting.of(record) != Setting.of(other):
            options = " and ".join(filter(None, differing([settings_of(other), settings_of(record)])))
            raise DataError(
                f"{method} has results of several variants at {key.shots} shots, {other.name} and {record.name}"
                f"{f' ({options})' if options else ''}; give a folder with one of them"
            )
        if draw in values:
            raise DataError(
                f"{method} has two results at {key.shots} shots with seed {identity.seed}, of other options; give a"
                " folder with one of them"
            )
        values[draw] = record.metrics["top1"]
    return dict(sorted(groups.items(), key=lambda pair: (pair[0].dataset, str(pair[0].shots).zfill(6))))
