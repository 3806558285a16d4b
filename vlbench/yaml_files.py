"""Reads YAML that somebody wrote or sent, and refuses what YAML permits and nobody means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from vlbench.errors import ConfigError

_LARGEST = 1_000_000
"""Bytes of a file; a suite of a paper has a few thousand."""
_MOST_VALUES = 100_000
"""Values of a file, those that aliases repeat counted as often as they are repeated."""
_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> Any:
    """What a YAML file says, in plain values.

    Args:
        path: File of a suite or a configuration.

    Raises:
        ConfigError: If the file is unreadable, larger than a megabyte or no YAML, has a key twice, or has aliases that
            make it large or contain themselves; the message names the line.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise ConfigError(f"{path} has {size:,} bytes; allowed: {_LARGEST:,}, more than any suite or configuration")
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not YAML: {error.reason}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """What a YAML text says, in plain values.

    Args:
        text: Text that is parsed, all of it.
        source: Place of the text, for messages.

    Raises:
        ConfigError: If it is no YAML or says what `read_yaml` refuses.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, source, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise ConfigError(f"{source} is not YAML{place}: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{source} is nested too deeply; allowed: a few hundred levels") from error
    except (ValueError, TypeError) as error:  # a date such as 2026-13-45; a key that is a list
        raise ConfigError(f"{source} is not YAML: {str(error).partition(';')[0]}") from error


def check_yaml(text: str, source: str) -> None:
    """Whether a YAML text that another parser is going to read says nothing that `read_yaml` refuses.

    Args:
        text: Text to look at; one that is no YAML is left to the other parser.
        source: Place of the text, for messages.

    Raises:
        ConfigError: If it is too large, has a key twice, or has aliases that make it large or contain themselves.
    """
    if len(text) > _LARGEST:
        raise ConfigError(f"{source} has {len(text):,} characters; allowed: {_LARGEST:,}")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _check(node, source, {})
    except (yaml.YAMLError, RecursionError):
        return


def _check(node: Node, source: str, sizes: dict[int, int]) -> int:
    """Number of values in a node, those that aliases repeat counted each time; `sizes` has those that are known."""
    if isinstance(node, ScalarNode):
        return 1
    known = sizes.get(id(node))
    if known is not None:
        if known == 0:
            raise ConfigError(f"{source}, {_line(node)}: a value contains itself by its alias; write it out")
        return known
    sizes[id(node)] = 0  # being counted
    if isinstance(node, MappingNode):
        _check_keys(node, source)
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value
    size = 1 + sum(_check(child, source, sizes) for child in children)
    if size > _MOST_VALUES:
        raise ConfigError(
            f"{source}, {_line(node)}: this is {size:,} values, with those that aliases repeat; allowed: "
            f"{_MOST_VALUES:,}; write out what is meant"
        )
    sizes[id(node)] = size
    return size


def _check_keys(node: MappingNode, source: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode) or key.tag == _MERGE:
            continue
        line = key.start_mark.line + 1
        if (key.tag, key.value) in lines:
            first = lines[key.tag, key.value]
            raise ConfigError(f"{source}, line {line}: {key.value} is there already, in line {first}; keep one of them")
        lines[key.tag, key.value] = line


def _line(node: Node) -> str:
    return f"line {node.start_mark.line + 1}"
