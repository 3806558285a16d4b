"""Names as text in the formats that other programs read and execute: Markdown, LaTeX, CSV and XML.

A name in a record is whatever somebody called a method, a dataset or a class. Control characters and line breaks become
JSON's escapes everywhere, so that a name stays in its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from vlbench.names import one_line

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip
_MARKDOWN = re.compile(r"[\\|*_<>`\[\]#~&$!]|:(?=//)|(?<=www)\.|@(?=\S*\.)", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Signs that a cell begins with which a spreadsheet takes for a formula; the second half in full width."""


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a cell or a heading: no code, link, picture, formula or HTML."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def latex(text: str) -> str:
    """Text that LaTeX typesets as it is, in a cell."""
    typeset = "".join(_LATEX.get(sign, sign) for sign in one_line(text))
    # At the beginning of a line they would be arguments of the one before.
    return re.sub(r"^(\s*)([\[*])", r"\1{\2}", typeset)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Lines of a CSV file, each cell as `csv_cell` has it.

    Args:
        rows: Cells of each line; `None` is empty.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def csv_cell(value: object) -> object:
    """A cell that a spreadsheet shows and does not compute: a name like a formula gets an apostrophe in front.

    Numbers stay numbers, negative ones too, and so does text that is a number.
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    formula = text.lstrip().startswith(_FORMULA) and not re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text)
    return f"'{text}" if formula else text
