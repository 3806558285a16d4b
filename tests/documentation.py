"""The README and the pages of the documentation: their blocks, and what they tell a reader to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))

SHORTER = {
    "fit": ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--data.num_workers=0"],
    "test": ["--data.num_workers=0"],
    # Whoever works on vlbench has a changed checkout.
    "leaderboard": ["--allow_dirty"],
    "multiverse": ["--allow_dirty"],
}
"""Options that a command gets beside what the page says: a training would take minutes."""


class Block(NamedTuple):
    """A fenced block of a page; `title` is the name of the file it is, or of commands what they need."""

    language: str
    title: str
    text: str


def blocks(text: str) -> list[Block]:
    found = re.findall(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found]


def lines(text: str) -> list[list[str]]:
    """Words of every command of a block; a backslash continues one in the next line."""
    text = re.sub(r"\\\n *", "", text)
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def commands(text: str) -> list[list[str]]:
    """Words of every command that a page tells the reader to type, without where its output goes."""
    indented = re.findall(r"^    ((?:vlbench|make) .*)", re.sub(r"\\\n *", "", text), re.MULTILINE)
    typed = [block.text for block in blocks(text) if block.language == "bash"]
    return [
        words[: words.index(">")] if ">" in words else words for part in (*typed, *indented) for words in lines(part)
    ]


def inline(text: str) -> list[str]:
    """Inline code of a page, without its blocks; a span may go on in the next line."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def leaves(entry: Any) -> list[str]:
    """Files of a part of the navigation, in its order."""
    if isinstance(entry, str):
        return [entry]
    return [leaf for part in (entry.values() if isinstance(entry, dict) else entry) for leaf in leaves(part)]


def navigation() -> list[Any]:
    """The navigation of the site."""
    nav: list[Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    return nav


def task_pages() -> list[Path]:
    """Pages of the navigation's part "By task", and the README: all that they tell a reader to type is run."""
    (section,) = (part["By task"] for part in navigation() if "By task" in part)
    return [README, *(ROOT / "docs" / name for name in leaves(section))]
