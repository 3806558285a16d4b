"""What the pages and pictures of results are made of: files that the package ships, and colours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

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
