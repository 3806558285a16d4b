"""Options that several commands have, and forms of declarations; imports the standard library only."""

from __future__ import annotations

from typing import Any

from vlbench.cli.declaration import Command

CONFIG: dict[str, Any] = {
    "nargs": "+",
    "type": str,
    "action": "extend",
    "help": "dataset by name, such as data/ucf101.yaml",
}
"""Names of configurations: several behind one option, and the option as often as need be."""

RECORD: dict[str, Any] = {"type": str, "help": "path of a record, or the name of one below FOLDER"}
"""A record, by position."""


def flag(text: str) -> dict[str, Any]:
    """An option that takes no value.

    Args:
        text: Help of the option.
    """
    return {"action": "store_true", "help": text}


def lightning(name: str, text: str, example: str = "") -> Command:
    """A command whose options LightningCLI parses.

    Args:
        name: Name of the command, which is Lightning's.
        text: Line of the command in `vlbench --help`.
        example: Command line that `vlbench --help` shows beside the help line.
    """
    return Command(name, "one run", text, "vlbench.cli.trainer:run_trainer", example, lightning=True)
