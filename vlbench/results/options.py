"""Options in which rows of one method differ, for people to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from vlbench.results.record import Record
from vlbench.settings import settings_digest, text_of

_LONGEST = 60


def settings_of(record: Record) -> dict[str, object] | None:
    """Every option that a record's number depends on, by its name; `None` where the record does not know its options.

    An option of the training that has another value in the test has `training.` before its name.
    """
    details = record.details
    if record.identity.settings is None:
        return None
    settings = {**details.settings}
    for name, value in details.training_settings.items():
        if name not in settings:
            settings[name] = value
        elif _comparable(settings[name]) != _comparable(value):
            settings[f"training.{name}"] = value
    return settings


def differing(rows: Sequence[Mapping[str, object] | None]) -> list[str]:
    """The options in which some rows differ, with their values, such as `lr=0.1, prompts=video`; one text for each row.

    Args:
        rows: Options of each row by their names; `None` where they are not known.
    """
    known = [row for row in rows if row is not None]
    names = sorted({name for row in known for name in row})
    differ = [name for name in names if len({_comparable(row[name]) if name in row else () for row in known}) > 1]
    return [
        "options not known"
        if row is None
        else ", ".join(f"{name}={shown(row[name])}" for name in differ if name in row)
        for row in rows
    ]


def _comparable(value: object) -> object:
    """A value that equals another one where the two change a number alike: 1 is 1.0 and not `true`."""
    if type(value) is int:
        return float(value)
    return value if value is None or type(value) in (str, float) else (text_of(value),)


def shown(value: object) -> str:
    """A value as the command line takes it; a long one is cut and has a digest."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 10]}... ({settings_digest({'': value})[:8]})"
