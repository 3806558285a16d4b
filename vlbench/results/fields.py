"""Values of files that anybody may have written: JSON read strictly, and fields checked against their types."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from reprlib import Repr
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vlbench.errors import DataError

T = TypeVar("T")

LARGEST = 2**63
"""Numbers of this size or larger are refused: no field needs one, and sums of larger ones leave the floats."""

_brief = Repr()
_brief.maxstring = _brief.maxother = 60


def shown(value: object) -> str:
    """A value in a message, cut to some sixty characters."""
    return _brief.repr(value)


def parse_json(content: bytes, *, file_names: bool = False) -> Any:
    """The value of a JSON text that says everything once, in UTF-8, with finite numbers below `LARGEST`.

    Args:
        content: Bytes of the text.
        file_names: Whether strings may be names of files whose bytes are no UTF-8, which no table can hold.

    Raises:
        DataError: If it does not; the message says what is wrong, and the caller names the file.
    """
    try:
        text = content.decode()
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refused, parse_float=_float, parse_int=_integer
        )
        if not file_names:
            check_text(content, value)
    except UnicodeDecodeError as error:
        raise DataError(f"it is not UTF-8 from byte {error.start} on") from error
    except json.JSONDecodeError as error:
        raise DataError(f"it is not JSON in line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise DataError("its values are nested too deeply") from error
    return value


def check_text(content: bytes, value: Any) -> None:
    """Refuses strings that are no text: they hold half a pair of UTF-16.

    Args:
        content: Bytes of the JSON text that the value, or what it was made of, comes from.
        value: Value as JSON has it.

    Raises:
        DataError: If there is such a string.
    """
    if not re.search(rb"\\u[dD][89a-fA-F]", content):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError("it holds half a pair of UTF-16, which is no character") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"the field {shown(twice)} is there twice")
    return values


def _refused(name: str) -> Any:
    raise DataError(f"it holds the number {name}; allowed: finite ones")


def _float(digits: str) -> float:
    value = float(digits)
    if not abs(value) < LARGEST:
        raise DataError(f"it holds the number {shown(digits)}; allowed: below 2^63")
    return value


def _integer(digits: str) -> int:
    # Python refuses to convert thousands of digits.
    if len(digits) > 20 or not abs(int(digits)) < LARGEST:
        raise DataError(f"it holds the number {shown(digits)}; allowed: below 2^63")
    return int(digits)


def checked(value: object, kind: Any, name: str) -> Any:
    """A value of a JSON file as a type of Python.

    Args:
        value: Value as JSON has it.
        kind: Type of the field: a plain type, `None`, `Literal`, a union, a tuple or a mapping of such, or a dataclass.
        name: Name of the field in messages, such as `identity.test.split`.

    Raises:
        DataError: If it is not of that type.
    """
    if type(value) in _plain(kind):
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for option in arguments:
            if _plausible(value, option):
                return checked(value, option, name)
    elif origin is Literal:
        # `1 == True`, and a list compares with nothing that is hashed.
        if any(type(value) is type(option) and value == option for option in arguments):
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(checked(entry, arguments[0], f"{name}[{index}]") for index, entry in enumerate(value))
    elif origin is not None and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            plain = _plain(arguments[1])
            return {
                key: entry if type(entry) in plain else checked(entry, arguments[1], f"{name}.{key}")
                for key, entry in value.items()
            }
    elif hasattr(kind, "__dataclass_fields__"):
        if isinstance(value, Mapping):
            return kind(**checked_fields(value, kind, name))
    elif _plausible(value, kind):
        return value
    raise DataError(f"{name} is {shown(value)}; allowed: {_described(kind)}")


def checked_fields(values: Mapping[str, object], kind: type, name: str, leave: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass from a JSON object that has these and no others; those with a default may be missing.

    Args:
        values: Object as JSON has it.
        kind: Dataclass whose fields are read.
        name: Name of the object in messages; empty for the whole file.
        leave: Names of fields that somebody else checks.

    Raises:
        DataError: If a field is missing, unknown or not of its type.
    """
    hints, prefix = _hints(kind), f"{name}." if name else ""
    unknown = sorted(map(str, values.keys() - hints.keys()))
    if unknown:
        raise DataError(f"{prefix}{unknown[0]} is no field that this vlbench knows")
    missing = [field for field in hints if field not in values and not _has_default(kind, field)]
    if missing:
        raise DataError(f"{prefix}{missing[0]} is missing")
    # Thousands of records are read at once: nearly all of their fields end at the look at the type.
    return {
        field: value
        if field in leave or type(value) in _plain(hints[field])
        else checked(value, hints[field], f"{prefix}{field}")
        for field, value in values.items()
    }


@cache
def _plain(kind: Any) -> frozenset[type]:
    """Types whose values are all of a type, for the many fields that need no closer look."""
    if get_origin(kind) in (Union, UnionType):
        return frozenset[type]().union(*map(_plain, get_args(kind)))
    if kind is float:
        return frozenset((int, float))
    return frozenset((kind,)) if kind in (str, int, bool, list, dict, type(None)) else frozenset()


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _has_default(kind: type, name: str) -> bool:
    from dataclasses import MISSING, fields

    field = next(field for field in fields(kind) if field.name == name)
    return field.default is not MISSING or field.default_factory is not MISSING


def _plausible(value: object, kind: Any) -> bool:
    """Whether a value is of the outermost type; a bool is no number, and an integer is a float."""
    if kind is object:
        return True
    if kind is type(None) or kind is None:
        return value is None
    origin = get_origin(kind)
    if origin is Literal:
        return any(type(value) is type(option) for option in get_args(kind))
    if origin is tuple:
        return isinstance(value, list | tuple)
    if hasattr(kind, "__dataclass_fields__") or (origin is not None and issubclass(origin, Mapping)):
        return isinstance(value, Mapping)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)


def _described(kind: Any) -> str:
    """A type in the words of JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(map(_described, arguments))
    if origin is Literal:
        return ", ".join(json.dumps(option) for option in arguments)
    if origin is tuple:
        return "a list"
    if hasattr(kind, "__dataclass_fields__") or origin is not None:
        return "an object"
    words = {str: "a string", int: "an integer", float: "a number", bool: "true or false", list: "a list"}
    return {**words, dict: "an object", type(None): "null"}[kind]
