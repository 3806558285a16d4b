"""Settings: the options of a run that can change a number, as plain values, and a digest of them; imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Literal

Side = Literal["training", "validation", "test", "both"]
"""What an option can change: the weights that a `training` ends with; which epoch is the best in the `validation`; the
scores that given weights get in a `test`, which a validation is one of; `both`, the weights and the scores."""


def flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    """An option by its name; the fields of a dataclass each by theirs, such as `clip.views.crops`.

    Args:
        name: Name of the option.
        value: Value of the option.

    Example:
        >>> from vlbench.clips.options import Views
        >>> dict(flat("views", Views(clips=4)))
        {'views.clips': 4, 'views.crops': 1, 'views.right_edge': 'exact', 'views.order': 'normal'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from flat(f"{name}.{field.name}", getattr(value, field.name))
    else:
        yield name, value


def of_side(options: Mapping[str, object], sides: Mapping[str, Side], side: Side) -> dict[str, object]:
    """The options that can change something, as plain values.

    Args:
        options: Values of the options by their names.
        sides: What each option can change; an option that is not named can change `both`.
        side: What is asked for. The `validation` has what a `test` has, too.
    """
    wanted = {side, "both", *(["test"] if side == "validation" else [])}
    return {name: plain(value) for name, value in options.items() if sides.get(name, "both") in wanted}


def plain(value: object) -> object:
    """A value as a JSON file holds it: numbers, strings, lists and mappings."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, frozenset | set):
        return sorted(map(str, value))
    if isinstance(value, Enum):
        return plain(value.value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def text_of(value: object) -> str:
    """A value as JSON, a whole number like the same number with a point: a parser that takes both may give either."""
    return json.dumps(_with_points(plain(value)), sort_keys=True)


def settings_digest(settings: Mapping[str, object]) -> str:
    """Sixteen hexadecimal characters that differ between settings.

    Args:
        settings: Values of the options by their names, in any order.

    Example:
        >>> settings_digest({"lr": 1}) == settings_digest({"lr": 1.0}) != settings_digest({"lr": True})
        True
    """
    return hashlib.blake2b(text_of(settings).encode(), digest_size=8).hexdigest()


def _with_points(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_points(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_points(entry) for entry in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
