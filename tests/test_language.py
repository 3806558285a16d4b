"""Docstrings and identifiers are written for a reader who sees one line."""

import ast
import re
from pathlib import Path

import pytest

import vlbench

pytestmark = pytest.mark.quick

PACKAGE = Path(vlbench.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts)

VAGUE = {"chosen", "found", "held", "most", "own", "told"}
"""Participles that name no thing of the field."""


def entries(docstring: str) -> list[tuple[str, str]]:
    """Names and descriptions of the `Args:` and `Attributes:` sections of a docstring."""
    found, section, name, text = [], False, None, []
    for line in [*docstring.splitlines(), "End:"]:
        indent = len(line) - len(line.lstrip())
        if line.strip() and (match := re.fullmatch(r"\s*([A-Z]\w+):", line)):
            if name:
                found.append((name, " ".join(text)))
            section, name, base = match[1] in ("Args", "Attributes"), None, indent
        elif section and (match := re.match(r"\s*\*{0,2}([a-z_][\w, ]*?): (.*)", line)) and indent == base + 4:
            if name:
                found.append((name, " ".join(text)))
            name, text = match[1], [match[2]]
        elif name:
            text.append(line.strip())
    return found


def docstrings(tree: ast.AST) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [text for node in ast.walk(tree) if isinstance(node, kinds) and (text := ast.get_docstring(node))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_argument_lines_stand_alone(path):
    """Four words or more, the first one a word: `Width D of the tokens.` and neither `of the tokens` nor `D, a width`.

    A symbol or a dtype in front could not keep its case at the beginning of a sentence.
    """
    lines = [entry for text in docstrings(ast.parse(path.read_text())) for entry in entries(text)]
    bad = [
        f"{name}: {text}"
        for name, text in lines
        if len(text.split()) < 4
        or re.match(r"(of|in|by|as|with|that|for|from|how|see|likewise|where|its|their|it|they)\b", text, re.IGNORECASE)
        or re.match(r"([A-Z]|(Float|Uint|Int|Bool)\d*)[ ,;.`(]", text.removeprefix("A "))
    ]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_identifiers_are_nouns_of_the_field(path):
    names = {
        node.id if isinstance(node, ast.Name) else node.arg
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)) or isinstance(node, ast.arg)
    }
    assert not names & VAGUE


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_first_lines_name_what_they_are_about(path):
    """`Digest of the weights.` and not `Of the weights.`"""
    first = [text.splitlines()[0] for text in docstrings(ast.parse(path.read_text()))]
    assert not [line for line in first if re.match(r"(Of|By|In|As|With|Its|Their|It|They|Likewise|See)\b", line)]
