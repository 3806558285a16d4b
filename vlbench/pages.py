"""What every HTML page begins with, and names as its text."""

from __future__ import annotations

import base64
from html import escape

from vlbench.names import one_line

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
"""


def head(title: str, style: str) -> str:
    """The beginning of a page without scripts, up to its body; a browser loads nothing for it from elsewhere.

    Args:
        title: Title of the page.
        style: Style sheet of the page.
    """
    return f"{_HEAD}<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"


def picture(content: bytes, alt: str, kind: str = "jpeg") -> str:
    """A picture that the page has in itself.

    Args:
        content: Bytes of the picture's file.
        alt: Words for readers who do not see the picture, as text.
        kind: Format of the picture.
    """
    return f'<img alt="{text(alt)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def text(value: str) -> str:
    """A name as text in HTML, in its line."""
    return escape(one_line(value))
