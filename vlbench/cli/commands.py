"""The commands beside Lightning's. torch is imported only where it is needed."""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Sequence
from csv import DictWriter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from vlbench.cli.configs import TRAINER_COMMANDS, find_config
from vlbench.errors import ConfigError
from vlbench.files import write_atomically
from vlbench.results.leaderboard import COLUMNS, rows
from vlbench.results.record import read_records


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
    table = rows(read_records(folders))
    if csv is not None:
        write_atomically(csv, to_csv(table).encode())
    shown = ("protocol", "dataset", "shots", "method", "top1", "top5", "runs", "videos")
    view = Table(*shown, title="leaderboard" if csv is None else str(csv))
    for row in table:
        view.add_row(*(f"{row[key]:.2f}" if isinstance(row[key], float) else str(row[key]) for key in shown))
    Console().print(view)
    return 0


def to_csv(table: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV with a header."""
    text = io.StringIO()
    writer = DictWriter(text, COLUMNS, lineterminator="\n")
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


def weights_import(file: Path, out: Path, backbone: str, pretrained: str = "openai") -> int:
    """Turn a released MoTE file into a checkpoint for `vlbench test` and `vlbench run`.

    Args:
        file: the released file, such as MoTE_B16.pt.
        out: checkpoint to write.
        backbone: architecture of open_clip, such as ViT-B-16-quickgelu, or a CLIP file in OpenAI's format.
        pretrained: the backbone's original weights, a tag or a file; MoTE needs its text tower and blends in its image
            tower.

    Returns:
        0.
    """
    from vlbench.cli.weights import import_mote

    Console().print(import_mote(file, backbone, out, pretrained), markup=False, highlight=False, soft_wrap=True)
    return 0


def weights_export(checkpoint: Path, out: Path) -> int:
    """Merge the experts of a trained MoTE once and write safetensors; evaluation then costs one plain MLP a layer.

    Args:
        checkpoint: of `vlbench fit` or `vlbench weights import`.
        out: safetensors file to write; `vlbench test --ckpt_path` takes it.

    Returns:
        0.
    """
    from vlbench.cli.weights import export_merged

    Console().print(export_merged(checkpoint, out), markup=False, highlight=False, soft_wrap=True)
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
        values = parser.parse_object({"suite": yaml.safe_load(path.read_text())})
        return parser.instantiate(values).suite
    except Exception as error:
        raise ConfigError(f"{path} is not a suite: {error}") from error


@dataclass(frozen=True)
class Command:
    """A function on the command line.

    Attributes:
        function: its parameters become options.
        positional: parameters given by position instead, as `add_argument` wants them.
        flags: parameters that are options without a value.
    """

    function: Callable[..., int]
    positional: dict[str, dict[str, Any]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)

    def parser(self, name: str) -> ArgumentParser:
        """Of the command's own arguments."""
        summary = (self.function.__doc__ or "").split("\n\n")[0]
        parser = ArgumentParser(prog=f"vlbench {name}", description=summary)
        for argument, options in self.positional.items():
            parser.add_argument(argument, type=Path, **options)
        for flag, text in self.flags.items():
            parser.add_argument(f"--{flag}", action="store_true", help=text)
        parser.add_function_arguments(self.function, skip={*self.positional, *self.flags})
        return parser


COMMANDS: dict[tuple[str, ...], Command] = {
    ("run",): Command(run, flags={"dry_run": "print the commands, what is done and what remains; run nothing"}),
    ("leaderboard",): Command(leaderboard, {"folders": {"nargs": "+", "help": "results folders"}}),
    ("data", "synth"): Command(synth, {"folder": {"help": "where to; it becomes the root of SyntheticActions"}}),
    ("weights", "import", "mote"): Command(
        weights_import, {"file": {"help": "the released file, such as MoTE_B16.pt"}}
    ),
    ("weights", "export"): Command(weights_export, {"checkpoint": {"help": "a MoTE checkpoint"}}),
}
"""Commands by their words."""


def run_command(arguments: Sequence[str]) -> int:
    """Parses and runs a command.

    Raises:
        ConfigError: if there is no such command.
    """
    for words, command in COMMANDS.items():
        if tuple(arguments[: len(words)]) == words:
            values = command.parser(" ".join(words)).parse_args(list(arguments[len(words) :]))
            return command.function(**values.as_dict())
    known = [*TRAINER_COMMANDS, *(" ".join(words) for words in COMMANDS)]
    near = difflib.get_close_matches(" ".join(arguments[:2]), known, n=1) or difflib.get_close_matches(
        arguments[0], known, n=1
    )
    hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(known)}"
    raise ConfigError(f"no command {' '.join(arguments[:2])!r}; {hint}")
