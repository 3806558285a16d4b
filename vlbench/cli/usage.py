"""One sentence for each way in which an option can be wrong, from what the parser says about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


_KEY = re.compile(r'[Kk]ey "([^"]+)"')
_CLASS = re.compile(r"class_path '([^']+)'")
_GOT = re.compile(r"^(?P<indent> *)(?:- )?Expected an? (?P<types>.+?)\. Got value: (?P<value>.*)", re.MULTILINE)
_UNION = re.compile(
    r"^(?=(?P<indent> *)Subtypes: \[(?P<types>.*)\]$(?:.|\n)*?^(?P=indent)Given value: (?P<value>.*))", re.MULTILINE
)
_CLASS_PROBLEM = re.compile(r"class_path '([^']+)':\s+(?=\S)(?!Problem with|Parser key|Does not validate)(.+)")
_GROUP = re.compile(r"Unable to load config (?P<quote>['\"])(?P<value>.*)(?P=quote)")
_NO_CLASS = re.compile(r"(?:Not a valid|correspond to a) subclass of (\w+)")
_NO_OPTIONS = re.compile(r"object has no attribute 'keys'")
_NESTED = re.compile(r"NestedArg\(key='[^']*', val=(.*)\)")
_UNKNOWN = (
    re.compile(r"[Uu]nrecognized arguments: -*(?P<name>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept (?:nested key|option) '(?P<name>[^']+)'"),
    re.compile(r"Option '(?P<name>[^']+)' is not accepted"),
    re.compile(r"does not accept (?:nested key|option) '(?P<name>[^']+)'"),
    re.compile(r"[Kk]ey '(?P<name>[^']+)' is not expected"),
)
_LONGEST = 300
"""Characters of a message that this module has no sentence for."""
_LONGEST_VALUE = 60
"""Characters of a value that a message repeats."""
_MOST_NAMES = 20
"""Names of options that a message lists."""
_BASES = {"VideoDataModule": "data", "VideoTextMethod": "model", "DualEncoder": "model.backbone"}
"""Base classes of vlbench, and the option that names a class derived from each."""


def explain(message: str, parser: ArgumentParser) -> str:
    """One sentence on a wrong option: which one it is, the value received and what is allowed.

    Args:
        message: What the parser says of the error.
        parser: The parser; its options are suggested where a name is wrong.
    """
    keys = _path(message)
    prefix = "".join(f"{key}." for key in keys)
    if "required" in message and (names := re.findall(r"required: (.*)", message)):
        missing = ", ".join(prefix + name.split(".")[-1] for name in names[0].split(", "))
        return f"missing: {missing}; `{parser.prog.replace('[options] ', '')} --help` lists the options"
    if match := re.search(r"argument (?:\S+/)?--(\S+): expected (.*)", message):
        return f"--{match[1]} has no value; expected: {match[2]}"
    if match := re.search(r"[Uu]nrecognized arguments: ([^-\s]\S*)", message):
        return f"{match[1]!r} is no option and no value of one; options begin with --"
    if keys and "Option 'class_path' is not accepted" in message:
        return f"--{'.'.join(keys)} has options beside class_path; options of a class are below init_args"
    for pattern in _UNKNOWN:
        if match := pattern.search(message):
            group = match.groupdict().get("group")
            return _unknown([*keys, group] if group else keys, match["name"], _accepted(message, parser, group))
    option = "--" + ".".join(keys)
    # A wrong option of a class is wrong for the class too: the innermost complaint names the option.
    got = max(_GOT.finditer(message), key=_depth, default=None)
    union = max(_UNION.finditer(message), key=_depth, default=None)
    if match := _NO_CLASS.search(message):
        if got is not None:
            union = None
        elif keys:
            value = re.findall(r"Got value: (.*)|Import path (\S+) does|Given value: (.*)", message)
            given = next(("".join(groups) for groups in value if any(groups)), "")
            return f"{option} is {_given(given)}; allowed: {_derived(match[1], message)}"
    inner = max((each for each in (got, union) if each is not None), key=_depth, default=None)
    if keys and _NO_OPTIONS.search(message):
        return f"{option}.init_args holds no names and values; allowed: {_listed(_accepted(message, parser))}"
    if (match := _GROUP.search(message)) and got is None:
        names = _accepted(message, parser, keys[-1] if keys else None)
        return f"{option} is {_given(match['value'])}; allowed: a group of {_listed(names)}"
    if keys and inner is not None:
        base = next(iter(re.findall(r"\bvlbench[\w.]*\.(\w+)", inner["types"])), None)
        allowed = _allowed(inner["types"], inner["value"]) if base is None else _derived(base, message)
        return f"{option} is {_given(inner['value'])}; allowed: {allowed}"
    text = plain_types(" ".join(message.split()))
    if keys and (problems := _CLASS_PROBLEM.findall(message)):
        path, problem = problems[-1]
        text = f"{option}.class_path is {_given(path)}, which cannot be used: {problem}"
    elif keys:
        text = f"{option} cannot be read: " + text.rpartition('": ')[2]
        if "ubtypes" in text or "Problem with" in text:
            text = f"{option} cannot be used as it was given; `--help` explains it"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _depth(match: re.Match[str]) -> tuple[int, int]:
    return len(match["indent"]), match.start()


def _path(message: str) -> list[str]:
    """Names of the options from the outermost to the innermost; a parser repeats some of them."""
    keys: list[str] = []
    for key in _KEY.findall(message):
        if keys and (key == keys[-1] or key.startswith(f"{keys[-1]}.")):
            keys[-1] = key
        elif key != "init_args":
            keys.append(key)
    return keys


def _given(value: str) -> str:
    given = _NESTED.sub(r"\1", value).strip("'\"")
    return repr(given if len(given) <= _LONGEST_VALUE else f"{given[:_LONGEST_VALUE]} ...")


def _listed(names: Sequence[str]) -> str:
    """Names of options without what is below them, the first ones of many."""
    tops = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return ", ".join(tops[:_MOST_NAMES]) + (", .." if len(tops) > _MOST_NAMES else "")


def _unknown(keys: Sequence[str], name: str, accepted: Sequence[str]) -> str:
    prefix = "".join(f"{key}." for key in keys)
    # A name without its group, or of another group, is a mistake like any other.
    last = {candidate.rpartition(".")[2]: candidate for candidate in reversed(accepted)}
    near = difflib.get_close_matches(name, accepted, n=2, cutoff=0.7)
    near += [last[match] for match in difflib.get_close_matches(name.rpartition(".")[2], last, n=2, cutoff=0.8)]
    if near:
        hint = f"did you mean {' or '.join(f'--{prefix}{match}' for match in dict.fromkeys(near))}?"
    elif keys:
        hint = f"allowed: {_listed(accepted)}"
    else:
        hint = "`--help` lists the options"
    return f"no option --{prefix}{name}; {hint}"


def _accepted(message: str, parser: ArgumentParser, group: str | None = None) -> list[str]:
    """Names of the options where a wrong one was given: of the innermost class, otherwise of the parser.

    Args:
        message: What the parser says of the error.
        parser: Parser of the whole command line.
        group: Group of options that the wrong one is in.
    """
    from jsonargparse import ArgumentParser

    classes = _CLASS.findall(message)
    if classes:
        inner = ArgumentParser(exit_on_error=False)
        inner.add_class_arguments(resolve_name(classes[-1]), fail_untyped=False)
        parser = inner
    names = sorted(
        {action.dest for action in parser._actions if action.dest.rpartition(".")[2] not in ("help", "subcommand")}
    )
    return names if group is None else [
        name.removeprefix(f"{group}.") for name in names if name.startswith(f"{group}.")
    ]  # fmt: skip


def _derived(base: str, message: str) -> str:
    """What an option may be that takes a class, or a group of options, given the class that the parser names."""
    from vlbench.cli.preflight import classes_of_option

    if base in _BASES:
        return ", ".join([*classes_of_option(_BASES[base]), "or package.module.Class"])
    path = re.search(rf"[\w.]+\.{base}\b", message)
    if path is not None and is_dataclass(group := resolve_name(path[0])):
        return f"a group of {', '.join(each.name for each in fields(group))}" + (
            ", or a list of them" if f"list[{path[0]}]" in message else ""
        )
    return f"a class derived from {base}"


def _allowed(types: str, given: str) -> str:
    """The allowed values in the words of a configuration; of many names the nearest ones."""
    if literals := re.findall(r"'([^']*)'", "".join(re.findall(r"Literal\[(.*?)\]", types))):
        near = difflib.get_close_matches(given, literals, n=1)
        return ", ".join(literals) + (f"; did you mean {near[0]}?" if near else "")
    return plain_types(types)


def plain_types(types: str) -> str:
    """Types without the modules and brackets of Python.

    Example:
        >>> plain_types("<class 'int'>, list[vlbench.datasets.specs.Subset], typing.Literal[1, 3], <class 'NoneType'>")
        'int, list[Subset], 1, 3, null'
    """
    plain = re.sub(r"<class '([\w.]+)'>", r"\1", types)
    plain = re.sub(r"\b(?:[a-z_]\w*\.)+([A-Za-z_]\w*)", r"\1", plain)
    plain = re.sub(r"Literal\[([^\]]*)\]", r"\1", plain)
    plain = re.sub(r"tuple with (\d+) elements", r"a list of \1 values", plain)
    return plain.replace("NoneType", "null")
