"""Every command of vlbench, declared once; imports the standard library only, so that `vlbench --help` answers at once.

A declaration names the command's function, which is imported when the command runs: the function's parameters are the
command's options and its docstring is their help.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlbench.cli.process import importing
from vlbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Input = Literal["configuration", "suite", "record", "file", "folder"]
"""What a parameter must name for a command to start: a configuration, a suite or a record by name, a file, a folder."""


@dataclass(frozen=True)
class Command:
    """A command of vlbench.

    Attributes:
        name: Words of the command, such as `data check`.
        group: Heading of the command in `vlbench --help`.
        help: Line of the command in `vlbench --help`.
        function: Function of the command as `module:name`; returns the exit code.
        example: Command line that `vlbench --help` shows beside the help line.
        positional: Parameters that are given by position, with the arguments of their `add_argument`.
        options: Parameters that need another form than their type suggests, with the arguments of their `add_argument`.
        inputs: Parameters that name something that must be there before the function is called.
        lightning: Whether LightningCLI parses the options; the function then takes all words of the command line.
    """

    name: str
    group: str
    help: str
    function: str
    example: str = ""
    positional: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    options: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    lightning: bool = False

    def load(self) -> Callable[..., int]:
        """Imports the function of the command."""
        module, name = self.function.split(":")
        function: Callable[..., int] = getattr(import_module(module), name)
        return function

    def parser(self) -> ArgumentParser:
        """The parser of the options of a command that is not Lightning's."""
        from jsonargparse import ArgumentParser

        function = self.load()
        summary = (function.__doc__ or "").split("\n\n")[0]
        parser = ArgumentParser(
            prog=f"vlbench {self.name}", description=summary, exit_on_error=False, allow_abbrev=False
        )
        for argument, options in self.positional.items():
            parser.add_argument(argument, **{"type": Path, **options})
        for option, options in self.options.items():
            parser.add_argument(f"--{option}", **options)
        parser.add_function_arguments(function, skip={*self.positional, *self.options})
        return parser

    def run(self, arguments: Sequence[str]) -> int:
        """Parses the options and runs the command.

        Args:
            arguments: Words of the command line after `vlbench`.

        Returns:
            The exit code.

        Raises:
            ConfigError: If an option is wrong or an input is missing.
        """
        if self.lightning:
            from vlbench.cli.configs import resolve_arguments
            from vlbench.cli.preflight import check_command_line

            resolved = resolve_arguments(arguments)
            check_command_line(resolved)
            with importing():
                function = self.load()
            return function(resolved)
        from jsonargparse import ArgumentError

        from vlbench.cli.usage import explain

        parser = self.parser()
        try:
            values = parser.parse_args(list(arguments[len(self.name.split()) :])).as_dict()
        except ArgumentError as error:
            raise ConfigError(explain(str(error), parser)) from error
        for parameter, kind in self.inputs.items():
            given = values[parameter]
            option = parameter.upper() if parameter in self.positional else f"--{parameter}"
            for value in given if isinstance(given, list | tuple) else [given]:
                if value is not None:
                    _check_input(option, value, kind, values.get("folder", Path()))
        return self.load()(**values)


def _check_input(option: str, value: str | Path, kind: Input, folder: Path) -> None:
    """Whether what an option names is there; records are looked up in `folder`.

    Raises:
        ConfigError: If it is not.
    """
    from vlbench.cli.configs import find_config, read_config

    if kind in ("configuration", "suite"):
        read_config(find_config(str(value), below="suite" if kind == "suite" else ""))
    elif kind == "record":
        from vlbench.results.stored import find_record

        try:
            find_record(str(value), folder)
        except DataError as error:
            raise ConfigError(str(error)) from error
    elif kind == "file" and not Path(value).is_file():
        raise ConfigError(f"{option} is {value}, which is not a file{_neighbours(Path(value))}")
    elif kind == "folder" and not Path(value).is_dir():
        raise ConfigError(f"{option} is {value}, which is not a folder{_neighbours(Path(value))}")


def _neighbours(path: Path) -> str:
    """What lies beside a file that is not there and is called almost the same."""
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3)
    return f"; did you mean {' or '.join(str(path.with_name(name)) for name in near)}?" if near else ""


def _flag(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


_CONFIG: dict[str, Any] = {"nargs": "+", "type": str, "help": "dataset by name, such as data/ucf101.yaml"}
_RECORD: dict[str, Any] = {"type": str, "help": "path of a record, or the name of one below FOLDER"}

_ONE_RUN, _MANY_RUNS, _DATA, _METHODS, _WEIGHTS = "one run", "many runs", "data", "methods", "weights"


def _lightning(name: str, text: str, example: str = "") -> Command:
    return Command(name, _ONE_RUN, text, "vlbench.cli.trainer:run_trainer", example, lightning=True)


_DECLARED = (
    _lightning("fit", "train a method", "vlbench fit --config msta_fewshot.yaml"),
    _lightning("validate", "evaluate on the validation part"),
    _lightning("test", "evaluate on the test part and write a record"),
    _lightning("predict", "name the best class of every test video"),
    Command(
        "run",
        _MANY_RUNS,
        "every run of a suite, skipping what is recorded",
        "vlbench.cli.commands:run",
        "vlbench run --suite demo.yaml --out results/demo",
        options={
            "dry_run": _flag("print the commands, what is done and what remains; run nothing"),
            "overlays": {
                "nargs": "+",
                "type": str,
                "default": (),
                "help": "configurations that come after the suite's, such as trainer/ddp.yaml",
            },
        },
        inputs={"suite": "suite", "overlays": "configuration"},
    ),
    Command(
        "regress",
        _MANY_RUNS,
        "whether a suite's numbers still are what they were",
        "vlbench.cli.regress:regress",
        options={
            "update": _flag("write EXPECTED instead, from a run with each of SEEDS"),
            "seeds": {
                "nargs": "+",
                "type": int,
                "default": [0, 1, 2, 3, 4],
                "help": "seeds of the runs that --update makes bands of",
            },
        },
        inputs={"suite": "suite"},
    ),
    Command(
        "leaderboard",
        _MANY_RUNS,
        "records to a table",
        "vlbench.cli.results:leaderboard",
        "vlbench leaderboard results/demo --csv leaderboard.csv",
        positional={"folders": {"nargs": "+", "help": "results folders"}},
        options={
            "allow_dirty": _flag("take records of code that differed from its commit"),
            "allow_mixed": _flag("take records of different schemas in one table"),
        },
        inputs={"folders": "folder"},
    ),
    Command(
        "compare",
        _MANY_RUNS,
        "whether two evaluations differ by more than chance",
        "vlbench.cli.results:compare",
        "vlbench compare RECORD RECORD",
        positional={"a": _RECORD, "b": {"type": str, "help": "path or name of the other record"}},
        inputs={"a": "record", "b": "record"},
    ),
    Command(
        "report",
        _MANY_RUNS,
        "one evaluation class by class",
        "vlbench.cli.results:report",
        positional={"record": _RECORD},
        inputs={"record": "record"},
    ),
    Command(
        "rescore",
        _MANY_RUNS,
        "one evaluation under another list of classes",
        "vlbench.cli.results:rescore",
        positional={"record": _RECORD},
        options={
            "half": _flag("ten random halves of the classes, as MoTE draws them"),
            "config": {**_CONFIG, "default": (), "help": "configurations of the test, for the text tower"},
        },
        inputs={"record": "record", "classes": "file", "ckpt_path": "file", "config": "configuration"},
    ),
    Command("data list", _DATA, "datasets, their sizes, licences and sources", "vlbench.cli.data:list_datasets"),
    Command(
        "data describe",
        _DATA,
        "one of them in full",
        "vlbench.cli.data:describe_dataset",
        "vlbench data describe ucf101",
        positional={"dataset": {"type": str, "help": "name, such as ucf101"}},
    ),
    Command(
        "data check",
        _DATA,
        "what is wrong with lists and videos",
        "vlbench.cli.data:check",
        "vlbench data check --config data/ucf101.yaml --decode",
        options={
            "decode": _flag("decode every video from start to end"),
            "config": {**_CONFIG, "default": None},
            "lists": {"nargs": "+", "type": Path, "help": "published list files, or folders of them; needs --labels"},
        },
        inputs={"config": "configuration", "root": "folder", "labels": "file"},
    ),
    Command(
        "data prepare",
        _DATA,
        "a resized copy, faster to read",
        "vlbench.cli.data:prepare",
        "vlbench data prepare DIR COPY --resize 256",
        positional={
            "root": {"help": "folder of the dataset"},
            "out": {"help": "folder of the copy; same files, same names"},
        },
        inputs={"root": "folder"},
    ),
    Command(
        "data subset",
        _DATA,
        "a small copy for CI",
        "vlbench.cli.data:subset",
        positional={"out": {"help": "folder of the copy"}},
        options={"config": {**_CONFIG, "required": True}},
        inputs={"config": "configuration"},
    ),
    Command(
        "data synth",
        _DATA,
        "render the synthetic dataset",
        "vlbench.cli.data:synth",
        "vlbench data synth DIR",
        positional={"folder": {"help": "where to; it becomes the root of SyntheticActions"}},
    ),
    Command(
        "describe",
        _DATA,
        "sentences on every class from a language model, for MSTA",
        "vlbench.cli.commands:describe",
        positional={"dataset": {"type": str, "help": "name, such as UCF101"}},
    ),
    Command(
        "methods show",
        _METHODS,
        "trainable parameters of a method",
        "vlbench.cli.commands:methods_show",
        "vlbench methods show msta_fewshot.yaml",
        positional={
            "configs": {"type": str, "nargs": "+", "help": "configurations by name, such as msta_fewshot.yaml"}
        },
        inputs={"configs": "configuration"},
    ),
    Command(
        "weights import mote",
        _WEIGHTS,
        "a released MoTE file to a checkpoint",
        "vlbench.cli.commands:weights_import",
        positional={"file": {"help": "the released file, such as MoTE_B16.pt"}},
        inputs={"file": "file"},
    ),
    Command(
        "weights import viclip",
        _WEIGHTS,
        "a released ViCLIP file to a backbone's weights",
        "vlbench.cli.commands:viclip_import",
        positional={"file": {"help": "the released file, such as ViClip-InternVid-10M-FLT.pth"}},
        inputs={"file": "file"},
    ),
    Command(
        "weights export",
        _WEIGHTS,
        "a MoTE checkpoint with merged experts, as safetensors",
        "vlbench.cli.commands:weights_export",
        positional={"checkpoint": {"help": "a MoTE checkpoint"}},
        inputs={"checkpoint": "file"},
    ),
)

COMMANDS: dict[str, Command] = {command.name: command for command in _DECLARED}
"""Commands by their names, in the order of `vlbench --help`."""


def find_command(arguments: Sequence[str]) -> Command:
    """The command that a command line begins with.

    Args:
        arguments: Words of the command line after `vlbench`.

    Raises:
        ConfigError: If there is no such command; the message suggests the nearest one.
    """
    for command in COMMANDS.values():
        words = command.name.split()
        if list(arguments[: len(words)]) == words:
            return command
    below = [name for name in COMMANDS if name.split()[0] == arguments[0]]
    given = " ".join(arguments[: 2 if below else 1])
    near = difflib.get_close_matches(" ".join(arguments[:2]), COMMANDS, n=1)
    near = near or difflib.get_close_matches(arguments[0], COMMANDS, n=1)
    # A group alone, such as `data`, is near each of its commands.
    hint = f"did you mean {near[0]}?" if near and given not in (name.split()[0] for name in below) else (
        f"allowed: {', '.join(below or COMMANDS)}"
    )  # fmt: skip
    raise ConfigError(f"no command {given!r}; {hint}")


def overview() -> str:
    """What `vlbench --help` prints."""
    return "\n".join(_overview_lines())


def _overview_lines() -> Iterator[str]:
    yield "usage: vlbench COMMAND [options]"
    for group in dict.fromkeys(command.group for command in _DECLARED):
        commands = [command for command in _DECLARED if command.group == group]
        width = max(len(command.name) for command in commands) + 2
        help_width = max((len(command.help) for command in commands if command.example), default=0) + 2
        yield f"\n{group}"
        for command in commands:
            text = f"{command.help:{help_width}}{command.example}" if command.example else command.help
            yield f"  {command.name:{width}}{text}"
    yield (
        "\n`vlbench COMMAND --help` lists a command's options. Configurations are found by name and compose:\n"
        "  vlbench fit --config msta_fewshot.yaml --config data/synthetic.yaml --config backbone/tiny.yaml \\\n"
        "              --config trainer/cpu.yaml\n"
    )


def lightning_commands() -> tuple[str, ...]:
    """Names of the commands whose options LightningCLI parses."""
    return tuple(command.name for command in _DECLARED if command.lightning)
