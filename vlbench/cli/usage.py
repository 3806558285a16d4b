"""One sentence for each way in which an option can be wrong, from what the parser says about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_KEY = re.compile(r'[Kk]ey "([^"]+)"')
_CLASS = re.compile(r"class_path '([^']+)'")
_GOT = re.compile(r"Expected an? (?P<types>.+?)\. Got value: (?P<value>.*)")
_UNION = re.compile(r"Subtypes: \[(?P<types>.*)\](?:.|\n)*?Given value: (?P<value>.*)")
_NESTED = re.compile(r"NestedArg\(key='[^']*', val='(.*)'\)")
_UNKNOWN = (
    re.compile(r"[Uu]nrecognized arguments: -*(?P<name>[^\s=]+)"),
    re.compile(r"Option '(?P<name>[^']+)' is not accepted"),
    re.compile(r"does not accept (?:nested key|option) '(?P<name>[^']+)'"),
    re.compile(r"[Kk]ey '(?P<name>[^']+)' is not expected"),
)
_LONGEST = 300
"""Characters of a message that this module has no sentence for."""


def explain(message: str, parser: ArgumentParser) -> str:
    """One sentence on a wrong option: which one it is, the value received and what is allowed.

    Args:
        message: What the parser says of the error.
        parser: The parser; its options are suggested where a name is wrong.
    """
    if "required" in message and (names := re.findall(r"required: (.*)", message)):
        missing = ", ".join(name.split(".")[-1] for name in names[0].split(", "))
        return f"missing: {missing}; `{parser.prog.replace('[options] ', '')} --help` lists the options"
    if match := re.search(r"argument (?:\S+/)?--(\S+): expected (.*)", message):
        return f"--{match[1]} has no value; expected: {match[2]}"
    if match := re.search(r"[Uu]nrecognized arguments: ([^-\s]\S*)", message):
        return f"{match[1]!r} is no option and no value of one; options begin with --"
    keys = [key for key in _KEY.findall(message) if key != "init_args"]
    for pattern in _UNKNOWN:
        if match := pattern.search(message):
            return _unknown(keys, match["name"], _accepted(message, parser))
    option = "--" + ".".join(keys)
    values = [*_GOT.finditer(message), *_UNION.finditer(message)]
    # A union inside the options of a class is named after the union that the class itself is an entry of.
    inner = [value for value in values if "vlbench." not in value["types"]]
    if keys and inner:
        value = max(inner, key=lambda match: match.start())
        given = _NESTED.sub(r"\1", value["value"]).strip("'\"")
        return f"{option} is {given!r}; allowed: {_allowed(value['types'], given)}"
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", " ".join(message.split()))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _unknown(keys: Sequence[str], name: str, accepted: Sequence[str]) -> str:
    prefix = "".join(f"{key}." for key in keys)
    # A name without its group, or of another group, is a mistake like any other.
    last = {candidate.rpartition(".")[2]: candidate for candidate in reversed(accepted)}
    near = difflib.get_close_matches(name, accepted, n=2, cutoff=0.7)
    near += [last[match] for match in difflib.get_close_matches(name.rpartition(".")[2], last, n=2, cutoff=0.8)]
    if near:
        hint = f"did you mean {' or '.join(f'--{prefix}{match}' for match in dict.fromkeys(near))}?"
    elif keys:
        hint = f"allowed: {', '.join(dict.fromkeys(option.split('.')[0] for option in accepted))}"
    else:
        hint = "`--help` lists the options"
    return f"no option --{prefix}{name}; {hint}"


def _accepted(message: str, parser: ArgumentParser) -> list[str]:
    """Names of the options where a wrong one was given: of the innermost class, otherwise of the parser."""
    from jsonargparse import ArgumentParser

    classes = _CLASS.findall(message)
    if classes:
        inner = ArgumentParser(exit_on_error=False)
        inner.add_class_arguments(resolve_name(classes[-1]), fail_untyped=False)
        parser = inner
    return sorted({action.dest for action in parser._actions if action.dest not in ("help", "subcommand")})


def _allowed(types: str, given: str) -> str:
    """The allowed values in the words of a configuration; of many names the nearest ones."""
    if literals := re.findall(r"'([^']*)'", "".join(re.findall(r"Literal\[(.*?)\]", types))):
        near = difflib.get_close_matches(given, literals, n=1)
        return ", ".join(literals) + (f"; did you mean {near[0]}?" if near else "")
    plain = re.sub(r"<class '(?:[\w]+\.)*(\w+)'>", r"\1", types)
    plain = re.sub(r"(?:typing|collections\.abc)\.", "", plain)
    return plain.replace("NoneType", "null").replace("PositiveInt", "int above 0")
