"""`vlbench regress`. torch is imported only where it is needed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vlbench.cli.configs import find_config
from vlbench.errors import ConfigError, VlbenchError
from vlbench.files import write_atomically
from vlbench.protocols.stages import Stage, checkpoint_folder
from vlbench.ranges import JOBS, SEEDS
from vlbench.results.pairs import read_records
from vlbench.results.regression import COLUMNS, Check, Expectation, cells, measure, to_json, to_junit, to_markdown

REGRESSION, BROKEN = 1, 2
"""Exit codes."""


def regress(
    suite: str,
    expected: Path,
    out: Path = Path("results/regression"),
    update: bool = False,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    jobs: int = 1,
) -> int:
    """Run a small suite and compare its numbers with the bands of a file.

    Args:
        suite: Name or path of a suite, such as smoke.yaml; it runs with the first seed of the file.
        expected: File of bands, such as benchmarks/expected/smoke.json.
        out: Folder for regression.xml (JUnit), regression.json and regression.md; the runs in OUT/runs are made anew.
        update: Write the file instead, from a run with each of SEEDS.
        seeds: Seeds of the runs that bands are made of.
        jobs: Number of stages at once.

    Returns:
        0 if every value lies in its band, 1 if not, 2 if a stage failed or the file does not fit the suite.
    """
    JOBS.check("jobs", jobs)
    for seed in seeds:
        SEEDS.check("seeds", seed)
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ConfigError(f"seeds are {', '.join(map(str, seeds)) or 'none'}; allowed: one or more different ones")
    try:
        return _update(suite, expected, out, seeds, jobs) if update else _check(suite, expected, out, jobs)
    except VlbenchError as error:
        print(f"vlbench: error: {error}", file=sys.stderr)  # noqa: T201
        return BROKEN


def _check(suite: str, expected: Path, out: Path, jobs: int) -> int:
    reports = {"xml": to_junit, "json": to_json, "md": to_markdown}
    for form in reports:
        (out / f"regression.{form}").unlink(missing_ok=True)
    expectation = Expectation.read(expected)
    measured = _measured(suite, expectation.seeds[:1], out / "runs", jobs)
    checks = expectation.compare({name: values for name, (values,) in measured.items()})
    for form, report in reports.items():
        write_atomically(out / f"regression.{form}", report(suite, checks).encode())
    console = Console()
    for table in _tables(checks):
        console.print(table)
    failed = sum(not check.passed for check in checks)
    console.print(f"{failed} of {len(checks)} values are out of their bands" if failed else "no regression")
    return REGRESSION if failed else 0


def _update(suite: str, expected: Path, out: Path, seeds: Sequence[int], jobs: int) -> int:
    measured = _measured(suite, seeds, out / "runs", jobs)
    Expectation.of(suite, seeds, measured, _made_with(out / "runs")).write(expected)
    Console().print(f"{expected}: bands of {len(measured)} evaluations from seeds {', '.join(map(str, seeds))}")
    return 0


def planned(suite: str, seeds: Sequence[int]) -> list[Stage]:
    """The stages of a suite, by name or path, with these seeds instead of its own."""
    from vlbench.cli.values import read_suite
    from vlbench.protocols.plans import plan

    read = read_suite(find_config(suite, below="suite"))
    return plan(replace(read, protocols=[replace(entry, seeds=list(seeds)) for entry in read.protocols]))


def names(stage: Stage) -> dict[str, str]:
    """Each record of a stage -> what it is called with any seed."""
    return {record: record.replace(f"-seed{stage.seed}", "") for record in stage.records}


def _measured(suite: str, seeds: Sequence[int], out: Path, jobs: int) -> dict[str, list[dict[str, float]]]:
    """Runs a suite: evaluations by their names -> what was measured, once for each seed.

    Nothing of an earlier run is used, as it may be another code's: neither records nor cached features and indices.

    Raises:
        ConfigError: If a stage failed.
    """
    from vlbench.protocols.launchers import LocalLauncher
    from vlbench.protocols.runner import Runner
    from vlbench.results.stored import StoredEvaluation

    stages = planned(suite, seeds)
    shutil.rmtree(out, ignore_errors=True)
    launcher = LocalLauncher(jobs)
    environment = launcher.environment
    # Weights that were downloaded may stay: records hold their digests.
    cache = Path(environment.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    environment.setdefault("HF_HOME", str(cache / "huggingface"))
    environment["XDG_CACHE_HOME"] = str(out.absolute() / "cache")
    failed = Runner(stages, out, find_config, launcher=launcher, jobs=jobs).run()
    if failed:
        raise ConfigError(f"{len(failed)} of {len(stages)} stages failed; their logs are in {out / 'logs'}")
    measured: dict[str, list[dict[str, float]]] = {}
    for stage in stages:
        weights = None if stage.weights_from is None else checkpoint_folder(out, stage.weights_from) / "last.ckpt"
        for record, name in names(stage).items():
            evaluation = StoredEvaluation.load(str(out / "records" / f"{record}.json"), out)
            measured.setdefault(name, []).append(measure(evaluation, weights))
    return measured


def _made_with(out: Path) -> dict[str, object]:
    details = next(read_records([out])).details.as_dict()
    return {key: details[key] for key in ("vlbench", "device", "python", "packages")}


def _tables(checks: Sequence[Check]) -> Iterator[Table]:
    """One for each evaluation: their names are too long for a column of a log's 80."""
    for evaluation, group in groupby(checks, key=lambda check: check.evaluation):
        table = Table(*COLUMNS[1:], title=evaluation, title_justify="left")
        for check in group:
            table.add_row(*cells(check)[1:], style=None if check.passed else "bold red")
        for column in table.columns[1:4]:
            column.justify = "right"
        yield table
