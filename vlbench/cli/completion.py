"""`vlbench completion`: a script by which a shell completes commands, options, values and names of configurations.

The script has everything but the names in it, since building the parsers takes seconds and a TAB has a tenth of one.
shtab, which jsonargparse uses, writes scripts from a tree of parsers. Ours is none: `compare` takes two records and
has `compare draws` below it, `weights import` takes a method and has `weights import viclip`, and options that take
several configurations go on completing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from vlbench.cli.completion_scripts import FUNCTIONS, SCRIPTS
from vlbench.cli.declaration import Command
from vlbench.cli.process import importing
from vlbench.cli.registry import COMMANDS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_LISTED = {"configuration": "@configurations", "suite": "@suites"}
"""What an option names -> the word in place of its values for which a script asks `vlbench completion configs`."""


@dataclass(frozen=True)
class Argument:
    """An option, or a command's arguments by position.

    Attributes:
        names: Names of the option with their dashes, none for what is given by position.
        number: Values it takes: `0`, `1`, or `+` for one and more.
        values: Values that a script offers; files are offered where there are none.
    """

    names: tuple[str, ...]
    number: str
    values: tuple[str, ...]


def completion(shell: Literal["bash", "zsh", "fish"]) -> int:
    """Print a script that completes commands, options and configurations in a shell; it takes some seconds.

    Args:
        shell: Shell that the script is for.

    Returns:
        0.
    """
    print(script(shell, {name: arguments_of(command) for name, command in COMMANDS.items()}), end="")  # noqa: T201
    return 0


def script(shell: Literal["bash", "zsh", "fish"], arguments: Mapping[str, Sequence[Argument]]) -> str:
    """The script of a shell.

    Args:
        shell: Shell that the script is for.
        arguments: Names of commands -> what `arguments_of` says of each.
    """
    write = _write_fish if shell == "fish" else _write_cases
    return SCRIPTS[shell].replace("@GENERATED@", "\n".join(write(arguments)))


def arguments_of(command: Command) -> list[Argument]:
    """Options of a command, then what it takes by position."""
    actions = [action for action in _parser(command)._actions if action.help != "==SUPPRESS=="]
    arguments: list[Argument] = []
    by_position: tuple[str, ...] | None = None
    for action in actions:
        values = _values(action, command)
        if action.option_strings:
            names = tuple(name for name in action.option_strings if not name.endswith("+"))  # as the help has it
            arguments.append(Argument(names, _number(action, values), values))
        else:
            by_position = (*(by_position or ()), *values)
    return [*arguments, Argument((), "0" if by_position is None else "+", by_position or ())]


def _parser(command: Command) -> ArgumentParser:
    if not command.lightning:
        return command.parser()
    with importing():
        from vlbench.cli.sweep import SweepCLI
        from vlbench.cli.trainer import VlbenchCLI, run_lightning
    parsers: list[ArgumentParser] = []
    sweeps = command.name == "sweep"

    class Built(SweepCLI if sweeps else VlbenchCLI):  # type: ignore[misc]
        """A command line that is left as soon as its parser is there."""

        def parse_arguments(self, *_: Any) -> None:
            parsers.extend(self._subcommand_parsers.values())
            raise SystemExit

    with suppress(SystemExit):
        run_lightning("fit" if sweeps else command.name, Path(), Built)
    return parsers[0]


def _number(action: Any, values: Sequence[str]) -> str:
    if action.nargs in ("+", "*"):
        return "+"
    return "0" if action.nargs == 0 or (action.nargs == "?" and not values) else "1"


def _values(action: Any, command: Command) -> tuple[str, ...]:
    """Values of an argument that are few, or the word for those that are looked up."""
    kind = command.inputs.get(action.dest) or ("configuration" if action.dest == "config" else None)
    if kind in _LISTED:
        return (_LISTED[kind],)
    values = action.choices or _literals(getattr(action, "_typehint", None))
    return tuple(dict.fromkeys(str(value) for value in values))


def _literals(hint: Any) -> Iterator[str]:
    """What a type enumerates, also as one of several types."""
    if hint is bool:
        yield from ("true", "false")
    elif get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    else:
        for inner in get_args(hint):
            yield from _literals(inner)


def _prefixes() -> dict[str, list[str]]:
    """First words of commands -> the words that can come next, such as `data` -> `list`, `check`, and so on."""
    following: dict[str, dict[str, None]] = {}
    for name in COMMANDS:
        words = name.split()
        for length, word in enumerate(words):
            following.setdefault(" ".join(words[:length]), {})[word] = None
        following.setdefault(name, {})
    return {prefix: list(words) for prefix, words in following.items()}


def _write_cases(arguments: Mapping[str, Sequence[Argument]]) -> Iterator[str]:
    """Functions of bash and zsh: what follows the words of a command, its options, and what an option takes."""
    yield from _function("_vlbench_words", {prefix: words for prefix, words in _prefixes().items() if words})
    yield from _function("_vlbench_prefix", {prefix: ["yes"] for prefix in _prefixes() if prefix})
    yield from _function(
        "_vlbench_options", {name: [each for one in given for each in one.names] for name, given in arguments.items()}
    )
    takes = {
        f"{name} {each}": [argument.number, *argument.values]
        for name, given in arguments.items()
        for argument in given
        for each in argument.names or ("",)
        if argument.values or argument.number != "1"
    }
    yield from _function("_vlbench_takes", takes)
    yield FUNCTIONS


def _function(name: str, cases: dict[str, list[str]]) -> Iterator[str]:
    """A function that prints, a line each, what belongs to its argument."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for case, lines in cases.items():
        alike.setdefault(tuple(lines), []).append(case)
    yield f'{name}() {{\n    case "$1" in'
    for each, names in alike.items():
        yield f"    {'|'.join(_quoted(names))}) printf '%s\\n' {' '.join(_quoted(each))} ;;"
    yield "    esac\n}"


def _quoted(words: Iterable[str]) -> list[str]:
    return [f"'{word}'" for word in words]


def _write_fish(arguments: Mapping[str, Sequence[Argument]]) -> Iterator[str]:
    """Lines of fish that say what a command is followed by, and each of its options."""
    prefixes = _prefixes()
    yield f"set -g __vlbench_prefixes {' '.join(_quoted(filter(None, prefixes)))}"
    for prefix, words in prefixes.items():
        if words:
            yield f"""complete -c vlbench -n '__vlbench_at "{prefix}"' -f -a '{" ".join(words)}'"""
    looked_up = {"@configurations": "(__vlbench_configurations)", "@suites": "(__vlbench_suites)"}
    for command, given in arguments.items():
        for argument in given:
            words = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in argument.names]
            words += ["-r"] if words and argument.number != "0" else []
            if argument.number == "0" or (argument.values and not set(argument.values) & set(looked_up)):
                words.append("-f")  # no files
            offered = f"-a '{' '.join(looked_up.get(value, value) for value in argument.values)}'"
            if argument.values:
                words.append(offered)
            at = f'__vlbench_at "{command}"'
            yield f"complete -c vlbench -n '{at}' {' '.join(words)}"
            if argument.names and argument.values and argument.number == "+":  # the second value and those after it
                yield f"complete -c vlbench -n '{at}; and __vlbench_after {' '.join(argument.names)}' {offered}"
