"""The commands beside Lightning's. torch is imported only where it is needed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from vlbench.cli.configs import find_config
from vlbench.errors import ConfigError
from vlbench.results.leaderboard import COLUMNS, rows
from vlbench.results.record import read_records, write_atomically


def run(suite: str, out: Path, dry_run: bool = False) -> int:
    """Run every protocol of a suite that is not recorded yet, then write OUT/leaderboard.csv.

    Args:
        suite: name or path of a suite, such as demo.yaml.
        out: results folder; a second run with the same one goes on where the first ended.
        dry_run: print the commands, what is done and what remains; run nothing.

    Returns:
        1 if a stage failed, otherwise 0.
    """
    from vlbench.protocols.plans import plan
    from vlbench.protocols.runner import Runner

    console = Console()
    runner = Runner(plan(read_suite(suite)), out, find_config, console)
    if dry_run:
        for line in runner.describe():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return 0
    failed = runner.run()
    if (out / "records").is_dir():
        leaderboard([out], csv=out / "leaderboard.csv")
    if failed:
        console.print(f"[red]{len(failed)} of {len(runner.stages)} stages failed;[/] the same command tries them again")
    return 1 if failed else 0


def leaderboard(folders: Sequence[Path], csv: Path | None = None) -> int:
    """Make a table of all records below some folders.

    Args:
        folders: results folders.
        csv: file to write; the table is printed in any case.

    Returns:
        0.
    """
    table = rows(read_records(list(folders)))
    if csv is not None:
        write_atomically(csv, to_csv(table).encode())
    shown = ("protocol", "dataset", "shots", "method", "top1", "top5", "mean_per_class", "runs", "videos", "backbone")
    view = Table(*shown, title="leaderboard" if csv is None else str(csv))
    for row in table:
        view.add_row(*(f"{row[key]:.2f}" if isinstance(row[key], float) else str(row[key]) for key in shown))
    Console().print(view)
    return 0


def to_csv(table: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV with a header."""
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def synth(folder: Path, sets: list[str] | None = None, workers: int | None = None) -> int:
    """Render the synthetic dataset to mp4 files; files that exist are kept.

    Args:
        folder: where to; it becomes the `root` of SyntheticActions.
        sets: which of shapes-s, shapes-k and shapes-u; all by default.
        workers: processes; one a core by default.

    Returns:
        0.
    """
    from vlbench.synthetic.classes import SETS
    from vlbench.synthetic.generate import render_dataset

    render_dataset(folder, sets=tuple(sets or SETS), workers=workers)
    return 0


def read_suite(name: str) -> Any:
    """A suite by name or path.

    Raises:
        ConfigError: if there is no such file or it is no suite.
    """
    from vlbench.protocols.plans import Suite

    path = find_config(name, below="suite")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Suite, "suite")
    try:
        import yaml

        values = parser.parse_object({"suite": yaml.safe_load(path.read_text())})
        return parser.instantiate_classes(values).suite
    except Exception as error:
        raise ConfigError(f"{path} is not a suite: {error}") from error


def _parser(name: str, function: Callable[..., int], *positional: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"vlbench {name}", description=(function.__doc__ or "").split("\n\n")[0])
    for argument in positional:
        several = argument.endswith("s")
        parser.add_argument(argument, type=Path, nargs="+" if several else None, help="DIR")  # type: ignore[arg-type]
    parser.add_function_arguments(function, skip=set(positional))
    return parser


COMMANDS: dict[tuple[str, ...], tuple[Callable[..., int], tuple[str, ...]]] = {
    ("run",): (run, ()),
    ("leaderboard",): (leaderboard, ("folders",)),
    ("data", "synth"): (synth, ("folder",)),
}
"""Commands by their words, with the parameters that are given by position."""


def run_command(arguments: Sequence[str]) -> int:
    """Parses and runs a command.

    Raises:
        ConfigError: if there is no such command.
    """
    for words, (function, positional) in COMMANDS.items():
        if tuple(arguments[: len(words)]) == words:
            values = _parser(" ".join(words), function, *positional).parse_args(list(arguments[len(words) :]))
            return function(**values.as_dict())
    import difflib

    from vlbench.cli.main import TRAINER_COMMANDS

    known = [*TRAINER_COMMANDS, *(" ".join(words) for words in COMMANDS)]
    near = difflib.get_close_matches(" ".join(arguments[:2]), known, n=1) or difflib.get_close_matches(arguments[0], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(known)}"
    raise ConfigError(f"no command {' '.join(arguments[:2])!r}; {hint}")
