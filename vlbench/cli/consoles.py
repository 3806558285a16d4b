"""Where tables are printed."""

from __future__ import annotations

import sys

from rich.console import Console


def console_of_tables(width: int = 140, *, markup: bool = True) -> Console:
    """A console for tables, as wide as the terminal.

    Args:
        width: Columns of a file or a pipe, which have no width of their own.
        markup: Whether square brackets are markup of rich.
    """
    return Console(width=None if sys.stdout.isatty() else width, highlight=False, markup=markup)
