"""What the pages and pictures of results are made of: files that the package ships, and colours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vlbench.pages import text

_ASSETS = Path(__file__).parent / "assets"


def asset(name: str) -> str:
    """The text of a shipped file.

    Args:
        name: File name, such as leaderboard.css.
    """
    return (_ASSETS / name).read_text()


def colours() -> str:
    """The colours as CSS variables, light and, where the reader prefers them, dark: the head of leaderboard.css."""
    return asset("leaderboard.css").partition(':root[data-theme="dark"]')[0]


def filled_in(template: str, parts: Mapping[str, str]) -> str:
    """A template with its marks `{{name}}` replaced once: what a part holds is never taken for a mark.

    Args:
        template: Text that holds the marks.
        parts: Text for each mark.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], template)


def script_data(data: object) -> str:
    """Data as JSON that stands in a script element of a page.

    Only `<` could end it there; JSON may escape it in strings, and it occurs nowhere else.

    Args:
        data: Plain values without numbers that JSON does not have.

    Raises:
        ValueError: If a number is infinite or none.
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


STYLE_OF_TABLES = """
main { max-width: 1300px; padding-top: 24px; padding-bottom: 40px; }
h1 { overflow-wrap: anywhere; }
td.number, th.number { text-align: right; }
th { padding: 7px 9px; }
figure { margin: 12px 0; padding: 12px; background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  max-width: 926px; overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 520px; height: auto; font-size: 14px; }
figure text { fill: var(--text); }
"""
"""Style of pages of figures and tables without scripts, after leaderboard.css."""


def table(names: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """A table in HTML whose first columns are words and whose others are numbers.

    Args:
        names: Heads of the columns, as text.
        rows: Cells of each row, as text.
        words: Number of columns of words.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = ("" if place < words else ' class="number"' for place in range(len(cells)))
        return "".join(f"<{tag}{kind}>{text(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', cells)}</tr>\n" for cells in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{line("th", names)}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'
    )
