"""The confusion matrix as a picture with a cell a few pixels wide, and as data for the page's script."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from vlbench.evaluation.stored_scores import Integers
from vlbench.pages import text
from vlbench.results.png import palette_png

_LEVELS = 85
"""Shades of a colour; a palette of 256 has three colours and the ground."""
_GROUND = {"light": "#ffffff", "dark": "#1a1f26"}
_COLOURS = {"light": ("#0b4aa2", "#b83a06", "#444c57"), "dark": ("#8fbbff", "#ffab70", "#c3cbd5")}
"""Colours of right ones, of wrong ones and of videos that could not be read."""
_FAINTEST = 0.3
_CELLS = (2, 3, 4, 6, 8, 12, 16, 24)
"""Widths of a cell in pixels that the page offers."""
_WIDEST = 820
"""Width of the picture in pixels that the first width of a cell keeps to where it can."""
_NUMBER = 22
"""Pixels that the number of a class takes."""
_STEPS = (1, 2, 5, 10, 20, 50, 100)
"""Of how many classes one has its number beside the picture."""
_NAMED = 12
"""Width of a cell in pixels from which rows have names."""


def cell_width(classes: int) -> int:
    """Width of a cell in pixels, as large as a usual window takes, 2 to 24."""
    return max([width for width in _CELLS if width * classes <= _WIDEST] or [_CELLS[0]])


def picture(matrix: Integers) -> str:
    """The picture element of a confusion matrix `(C, C + 1)`, for light and dark pages.

    Shades show shares of a class's videos, by their square roots, so that one of fifty is seen. Unreadable videos are a
    column apart at the right, if there are any.
    """
    pixels = _pixels(matrix)
    sources = {theme: _data(palette_png(pixels, _palette(theme))) for theme in _GROUND}
    size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{sources["dark"]}">'
        f'<img {size} alt="Confusion matrix; the tables on this page say the same in words" src="{sources["light"]}">'
        "</picture>"
    )


def frame(matrix: Integers, names: Sequence[str]) -> str:
    """The picture with the numbers of its columns and the numbers and names of its rows.

    Args:
        matrix: Confusion matrix `(C, C + 1)` in the order of the page.
        names: Names of the classes in the same order.
    """
    width = cell_width(len(names))
    step = next((step for step in _STEPS if step * width >= _NUMBER), _STEPS[-1])
    places = [place for place in range(len(names)) if place == 0 or (place + 1) % step == 0]
    lost = bool(matrix[:, -1].any())
    columns = "".join(
        f'<span style="--at:{place}"{"" if place in places else " hidden"}>{place + 1}</span>'
        for place in range(len(names))
    )
    if lost:
        columns += f'<span class="lost" style="--at:{len(names) + 1}">not read</span>'
    rows = "".join(
        f'<li{" class=tick" if place in places else ""} title="{text(name)}"><b>{place + 1}</b>'
        f" <span>{text(name)}</span></li>"
        for place, name in enumerate(names)
    )
    columns_drawn = len(names) + 2 * lost
    sizes = f"--cell:{width}px;--classes:{len(names)};--columns:{columns_drawn}"
    return (
        f'<div id="map" class="{"named" if width >= _NAMED else "small"}" style="{sizes}">'
        f'<div class="columns" aria-hidden="true">{columns}</div><ol class="rows">{rows}</ol>'
        f'<div id="picture">{picture(matrix)}<i id="row" hidden></i>'
        '<i id="column" hidden></i><i id="cursor" hidden></i></div></div>'
    )


def cells(matrix: Integers) -> list[list[int]]:
    """Columns and numbers of the cells of each row that are not zero, one after the other: `[column, n, ..]`."""
    return [np.column_stack([np.flatnonzero(row), row[np.flatnonzero(row)]]).ravel().tolist() for row in matrix]


def widths(classes: int) -> dict[str, object]:
    """Widths of a cell that the page offers, the first one, the one from which rows have names; room of numbers."""
    return {"all": _CELLS, "first": cell_width(classes), "named": _NAMED, "number": _NUMBER, "steps": _STEPS}


def _pixels(matrix: Integers) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    size = len(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shades = np.ceil(np.sqrt(shares) * _LEVELS).astype(np.uint8)
    kinds = np.full((size, size), _LEVELS, np.uint8)
    np.fill_diagonal(kinds, 0)
    known = np.where(shades[:, :-1] > 0, shades[:, :-1] + kinds, 0).astype(np.uint8)
    if not matrix[:, -1].any():
        return known
    lost = np.where(shades[:, -1:] > 0, shades[:, -1:] + np.uint8(2 * _LEVELS), 0).astype(np.uint8)
    return np.hstack([known, np.zeros((size, 1), np.uint8), lost])


def _palette(theme: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    ground = _rgb(_GROUND[theme])
    strength = _FAINTEST + (1 - _FAINTEST) * np.linspace(0, 1, _LEVELS)[:, None]
    ramps = [ground + strength * (_rgb(colour) - ground) for colour in _COLOURS[theme]]
    return np.round(np.vstack([ground[None], *ramps])).astype(np.uint8)


def _rgb(colour: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([*bytes.fromhex(colour[1:])], np.float64)


def _data(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
