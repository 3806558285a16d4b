"""What a command of vlbench is: its function, its options, and what must be there before it starts."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlbench.cli.process import importing
from vlbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Input = Literal["configuration", "suite", "record", "file", "folder"]
"""What a parameter must name for a command to start: a configuration, a suite or a record by name, a file, a folder."""

RESULTS = Path("results")
"""Results folder in which the name of a record is looked up, unless another one is given."""


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

        words = list(arguments[len(self.name.split()) :])
        check_given_once(word for word in options_of(words) if "action" not in self.options.get(word[2:], {}))
        parser = self.parser()
        try:
            values = parser.parse_args(words).as_dict()
        except ArgumentError as error:
            raise ConfigError(explain(str(error), parser)) from error
        for parameter, kind in self.inputs.items():
            given = values[parameter]
            option = parameter.upper() if parameter in self.positional else f"--{parameter}"
            for value in given if isinstance(given, list | tuple) else [given]:
                if value is not None:
                    _check_input(option, value, kind, values.get("folder") or RESULTS)
        return self.load()(**values)


def options_of(words: Sequence[str]) -> list[str]:
    """Options of a command line, such as `--config`, without their values and without those that add to a list.

    Args:
        words: Words of the command line after the name of the command.
    """
    names = (word.partition("=")[0] for word in takewhile(lambda word: word != "--", words) if word.startswith("--"))
    return [name for name in names if not name.endswith("+")]


def check_given_once(options: Iterable[str]) -> None:
    """Refuses an option that is given twice.

    Args:
        options: Options of a command line whose values do not add up, each as often as it was given.

    Raises:
        ConfigError: Naming the option.
    """
    for option, count in Counter(options).items():
        if count > 1:
            raise ConfigError(
                f"{option} is given {count} times, of which the last one alone would count; give it once, with every"
                " value that is meant"
            )


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
        raise ConfigError(f"{option} is {value}, which is not a file{_neighbours(Path(value), Path.is_file)}")
    elif kind == "folder" and not Path(value).is_dir():
        raise ConfigError(f"{option} is {value}, which is not a folder{_neighbours(Path(value), Path.is_dir)}")


def _neighbours(path: Path, wanted: Callable[[Path], bool]) -> str:
    """What lies beside a path, is what it should be and is called almost the same."""
    names = [entry.name for entry in path.parent.iterdir() if wanted(entry)] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3)
    return f"; did you mean {' or '.join(str(path.with_name(name)) for name in near)}?" if near else ""
