"""Finds the declared commands by the words of a command line, and lists them; imports the standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from vlbench.cli.declaration import Command
from vlbench.cli.declared import DECLARED
from vlbench.errors import ConfigError

COMMANDS: dict[str, Command] = {command.name: command for command in DECLARED}
"""Commands by their names, in the order of `vlbench --help`."""


def find_command(arguments: Sequence[str]) -> Command:
    """The command that a command line begins with.

    Args:
        arguments: Words of the command line after `vlbench`.

    Raises:
        ConfigError: If there is no such command; the message suggests the nearest one.
    """
    for command in sorted(COMMANDS.values(), key=lambda command: -len(command.name.split())):
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
    for group in dict.fromkeys(command.group for command in DECLARED):
        commands = [command for command in DECLARED if command.group == group]
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
    return tuple(command.name for command in DECLARED if command.lightning)
