"""Finds a configuration by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import vlbench
from vlbench.errors import ConfigError

TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
"""Commands that take `--config`."""


def config_folders() -> list[Path]:
    """Folders searched, in order: `$VLBENCH_CONFIGS` (several, separated by `:`), the wheel's, the checkout's."""
    package = Path(vlbench.__file__).parent
    own = [Path(folder) for folder in os.environ.get("VLBENCH_CONFIGS", "").split(os.pathsep) if folder]
    return [folder for folder in (*own, package / "configs", package.parent / "configs") if folder.is_dir()]


def config_names() -> list[str]:
    """Every name that can be given, such as `msta_fewshot.yaml` and `data/synthetic.yaml`."""
    return sorted({str(path.relative_to(folder)) for folder in config_folders() for path in folder.rglob("*.yaml")})


def find_config(name: str, below: str = "") -> Path:
    """The file meant by a name.

    Args:
        name: a path, or a name below one of the configuration folders; `.yaml` may be left out.
        below: subfolder that is searched as well, such as `suite`.

    Raises:
        ConfigError: if there is none; the message suggests the nearest names.
    """
    for candidate in _candidates(name, below):
        if candidate.is_file():
            return candidate.absolute()
    known = config_names()
    near = difflib.get_close_matches(name, [*known, *(Path(other).name for other in known)], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else f"known: {', '.join(known)}"
    folders = ", ".join(map(str, config_folders()))
    raise ConfigError(f"no configuration {name!r}: {hint} (searched as a path and in {folders})")


def _candidates(name: str, below: str) -> Iterator[Path]:
    for spelling in (name, f"{name}.yaml"):
        yield Path(spelling)
        for folder in config_folders():
            yield folder / spelling
            yield folder / below / spelling


def resolve_arguments(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with the value of every `--config` made a path."""
    resolved = list(arguments)
    for index, argument in enumerate(resolved):
        if argument.startswith("--config="):
            resolved[index] = f"--config={find_config(argument.removeprefix('--config='))}"
        elif argument in ("--config", "-c") and index + 1 < len(resolved):
            resolved[index] = "--config"
            resolved[index + 1] = str(find_config(resolved[index + 1]))
    return resolved
