"""Finds a configuration by name."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import vlbench
from vlbench.errors import ConfigError
from vlbench.yaml_files import read_yaml

_OF_PROTOCOL = re.compile(r"_(fewshot|base2novel|zeroshot|fully_supervised)\.yaml")

_DEEPEST = 20
"""Levels of a configuration; those that ship have five."""


def config_folders() -> list[Path]:
    """Folders searched, in order: `$VLBENCH_CONFIGS` (several, separated by `:`), the wheel's, the checkout's."""
    package = Path(vlbench.__file__).parent
    users = [Path(folder) for folder in os.environ.get("VLBENCH_CONFIGS", "").split(os.pathsep) if folder]
    return [folder for folder in (*users, package / "configs", package.parent / "configs") if folder.is_dir()]


def config_names() -> list[str]:
    """Every name that can be given, such as `msta_fewshot.yaml` and `data/synthetic.yaml`."""
    return sorted({str(path.relative_to(folder)) for folder in config_folders() for path in folder.rglob("*.yaml")})


def find_config(name: str, below: str = "") -> Path:
    """The file meant by a name.

    Args:
        name: A path, or a name below one of the configuration folders; `.yaml` may be left out.
        below: Subfolder that is searched as well, such as `suite`.

    Raises:
        ConfigError: If there is none; the message suggests the nearest names.
    """
    for candidate in _candidates(name, below):
        if candidate.is_file():
            return candidate.absolute()
    known = config_names()
    near = difflib.get_close_matches(name, [*known, *(Path(other).name for other in known)], n=3, cutoff=0.5)
    top = list(dict.fromkeys(_OF_PROTOCOL.sub("_*.yaml", other) for other in known if "/" not in other))
    folders = sorted({f"{other.partition('/')[0]}/" for other in known if "/" in other})
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else f"known: {', '.join([*top, *folders])}"
    places = ", ".join(map(str, config_folders()))
    raise ConfigError(f"no configuration {name!r}; {hint} (looked for as a path and in {places})")


def _candidates(name: str, below: str) -> Iterator[Path]:
    for spelling in (name, f"{name}.yaml"):
        yield Path(spelling)
        for folder in config_folders():
            yield folder / spelling
            yield folder / below / spelling


def read_config(path: Path) -> dict[str, Any]:
    """What a configuration says.

    Args:
        path: File of the configuration.

    Raises:
        ConfigError: If the file is no YAML or holds something else than named values.
    """
    content = read_yaml(path)
    _check_names(path, content)
    if not isinstance(content, dict | None):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}; a configuration holds names and values, such as `trainer:` "
            "with `max_epochs: 3` below it"
        )
    return content or {}


def _check_names(path: Path, content: Any, depth: int = 0) -> None:
    """Whether the names in a configuration are text, and no deeper below each other than those of any that ships."""
    if depth > _DEEPEST:
        raise ConfigError(f"{path} is nested more than {_DEEPEST} deep, as no configuration is")
    if isinstance(content, dict):
        for name in content:
            if not isinstance(name, str):
                raise ConfigError(f"{path} has the name {name!r}; names in a configuration are text")
    for inner in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _check_names(path, inner, depth + 1)


def config_name(path: str) -> str:
    """The name by which a configuration of the package is found anywhere; another word as it is.

    Args:
        path: Path of a configuration as `resolve_arguments` gives it, also with `--config=` before it.
    """
    if path.startswith("--config="):
        return f"--config={config_name(path.removeprefix('--config='))}"
    package = Path(vlbench.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if Path(path).is_relative_to(folder):
            name = str(Path(path).relative_to(folder))
            # A user's file of that name would be found first.
            return name if find_config(name) == Path(path) else path
    return path


def resolve_arguments(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with the value of every `--config` made a path.

    Raises:
        ConfigError: If there is no such configuration, or no value after `--config`.
    """
    resolved: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("--config="):
            resolved.append(f"--config={find_config(word.removeprefix('--config='))}")
        elif word in ("--config", "-c"):
            name = next(words, None)
            if name is None:
                raise ConfigError("--config has no value; give a configuration by name, such as msta_fewshot.yaml")
            resolved += ["--config", str(find_config(name))]
        else:
            resolved.append(word)
    return resolved
