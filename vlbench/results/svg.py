"""Accuracy over shots as a picture: SVG that loads nothing and follows the reader's light or dark setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from vlbench.errors import DataError
from vlbench.names import one_line
from vlbench.results.page_parts import colours
from vlbench.results.record import Shots
from vlbench.results.row import Row

_STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
text { fill: var(--text); }
.muted { fill: var(--muted); }
.panel { fill: var(--panel); }
.grid { stroke: var(--line); }
.axis { stroke: var(--strong); }
.line { fill: none; stroke-width: 1.5; opacity: 0.6; }
.flat { stroke-dasharray: 5 4; }
.interval { stroke-width: 2; opacity: 0.7; }
"""
_WIDTH, _LEFT, _RIGHT, _TOP, _PLOT, _BOTTOM = 760, 48, 230, 40, 320, 44
_COLOURS = 8
_SPREAD = 0.7
"""Share of the room of a number of shots in which the lines' points stand side by side."""


_TOLD_APART = ("backbone", "weights", "trained_on", "lists", "views", "stored", "frames", "selection", "options")
"""Columns in which lines of one method may differ, which then name them."""
_ENTRY = 18
"""Height of an entry of the legend."""


class _Line(NamedTuple):
    """Rows that differ in their shots alone.

    Attributes:
        name: Name of the line in the legend.
        colour: Colour of the line, as CSS writes it.
        points: Rows in the order of their shots.
    """

    name: str
    colour: str
    points: list[Row]


def to_svg(table: Sequence[Row]) -> str:
    """Accuracy over the shots, a panel for each protocol and dataset and a line for each method.

    Bars are the central 95 % of the runs, where there are enough of them for an interval; what trains on no video of
    the dataset is a dashed line.

    Args:
        table: Rows of the leaderboard.

    Raises:
        DataError: If no row has a number of shots and an accuracy.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in table:
        if row.score is not None:
            groups.setdefault((row.protocol, row.dataset), []).append(row)
    panels = {key: rows for key, rows in groups.items() if any(row.shots != 0 for row in rows)}
    if not panels:
        raise DataError(
            "the records have no accuracy after a training on some videos of a class, which the picture is of; give"
            " folders with few-shot records"
        )
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "width": str(_WIDTH)})
    SubElement(root, "style").text = colours() + _STYLE
    SubElement(root, "rect", {"class": "panel", "width": "100%", "height": "100%", "rx": "8"})
    height = 0
    for (protocol, dataset), rows in panels.items():
        panel = SubElement(root, "g", {"transform": f"translate(0 {height})"})
        bars = "" if all(row.runs_low is None for row in rows) else "; bars: the central 95 % of the draws"
        label(panel, _LEFT, 22, f"{protocol} on {dataset}, accuracy in %{bars}")
        lines = _lines(rows)
        _draw(panel, rows, lines)
        height += _TOP + max(_PLOT, _ENTRY * len(lines)) + _BOTTOM
    root.set("viewBox", f"0 0 {_WIDTH} {height}")
    return tostring(root, encoding="unicode") + "\n"


def _draw(panel: Element, rows: Sequence[Row], lines: Sequence[_Line]) -> None:
    shots: list[Shots] = sorted({row.shots for row in rows if row.shots != 0}, key=_order)
    low, high = _ends(rows)
    bottom, right = _TOP + _PLOT, _WIDTH - _RIGHT
    room = (right - _LEFT) / len(shots)

    def y(value: float) -> float:
        return bottom - _PLOT * (value - low) / (high - low)

    for tick in round_ticks(low, high):
        stroke(panel, "grid", _LEFT, y(tick), right, y(tick))
        label(panel, _LEFT - 6, y(tick) + 4, f"{tick:g}", anchor="end")
    stroke(panel, "axis", _LEFT, bottom, right, bottom)
    for place, value in enumerate(shots):
        label(panel, _LEFT + room * (place + 0.5), bottom + 16, str(value), anchor="middle")
    label(panel, (_LEFT + right) / 2, bottom + 34, "training videos a class", anchor="middle")
    trained = [line for line in lines if line.points[0].shots != 0]

    def x(line: _Line, row: Row) -> float:
        side = (trained.index(line) + 0.5) / len(trained) - 0.5
        return _LEFT + room * (shots.index(row.shots) + 0.5 + _SPREAD * side)

    for place, line in enumerate(lines):
        legend = _TOP + 12 + _ENTRY * place
        stroke(
            panel,
            "line" if line in trained else "line flat",
            right + 12,
            legend - 4,
            right + 32,
            legend - 4,
            stroke=line.colour,
        )
        label(panel, right + 38, legend, line.name)
        _curve(panel, line, y, partial(x, line) if line in trained else None)


def _curve(panel: Element, line: _Line, y: Callable[[float], float], x: Callable[[Row], float] | None) -> None:
    """The points of a line with their intervals; a line across where nothing depends on the shots."""
    if x is None:
        height = y(_score(line.points[0]))
        flat = stroke(panel, "line flat", _LEFT, height, _WIDTH - _RIGHT, height, stroke=line.colour)
        SubElement(flat, "title").text = _said(line, line.points[0])
        return
    path = " ".join(f"{x(row):.1f},{y(_score(row)):.1f}" for row in line.points)
    SubElement(panel, "polyline", {"class": "line", "points": path, "stroke": line.colour})
    for row in line.points:
        point = SubElement(panel, "g")
        SubElement(point, "title").text = _said(line, row)
        if row.runs_low is not None and row.runs_high is not None:
            stroke(point, "interval", x(row), y(row.runs_low), x(row), y(row.runs_high), stroke=line.colour)
        SubElement(
            point, "circle", {"cx": f"{x(row):.1f}", "cy": f"{y(_score(row)):.1f}", "r": "3", "fill": line.colour}
        )


def _lines(rows: Sequence[Row]) -> list[_Line]:
    """Lines of a panel, the one that ends highest first."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = (row.method, row.shots == 0, row.deviations, *(getattr(row, field) for field in _TOLD_APART))
        groups.setdefault(key, []).append(row)
    methods = sorted({row.method for row in rows})
    names = [_name(members[0], groups.values()) for members in groups.values()]
    lines = [
        _Line(
            name if names.count(name) == 1 else f"{name} ({names[:place].count(name) + 1})",
            f"var(--c{methods.index(members[0].method) % _COLOURS})",
            sorted(members, key=lambda row: _order(row.shots)),
        )
        for place, (name, members) in enumerate(zip(names, groups.values(), strict=True))
    ]
    return sorted(lines, key=lambda line: -_score(line.points[-1]))


def _name(row: Row, groups: Iterable[Sequence[Row]]) -> str:
    """Name of a method, with what else tells it apart where several lines are of it."""
    same = [members[0] for members in groups if members[0].method == row.method]
    parts = [row.method]
    for field in _TOLD_APART:
        if len({getattr(other, field) for other in same}) > 1:
            parts.append(str(getattr(row, field)))
    return one_line(", ".join(filter(None, parts)))


def _said(line: _Line, row: Row) -> str:
    """What a point says when it is pointed at."""
    text = f"{line.name}, {row.shots} shots: {_score(row):.2f}"
    if row.runs_low is None or row.runs_high is None:
        return text
    return f"{text}, 95 % of {row.runs} draws in {row.runs_low:.2f} to {row.runs_high:.2f}"


def _score(row: Row) -> float:
    assert row.score is not None
    return row.score


def _order(shots: Shots) -> float:
    return math.inf if shots == "all" else shots


def _ends(rows: Sequence[Row]) -> tuple[float, float]:
    """Lowest and highest accuracy of a panel, with some room."""
    values = [value for row in rows for value in (_score(row), row.runs_low, row.runs_high) if value is not None]
    margin = max(2.0, 0.05 * (max(values) - min(values)))
    return max(0.0, min(values) - margin), min(100.0, max(values) + margin)


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, some six of them.

    Args:
        low: Lower end of the scale.
        high: Upper end of the scale, above the lower one.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (high - low) / 6)
    return [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def label(parent: Element, x: float, y: float, text: str, anchor: str = "start") -> None:
    """Draws a text in one line.

    Args:
        parent: Element of the picture that the text becomes a part of.
        x: Place from the left, in units of the picture.
        y: Place of the base line from the top, in units of the picture.
        text: Text that is drawn; signs that move a line or a cursor are replaced.
        anchor: Part of the text that is at the place: `start`, `middle` or `end`.
    """
    places = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    SubElement(parent, "text", places).text = one_line(text)


def stroke(parent: Element, kind: str, x1: float, y1: float, x2: float, y2: float, **others: str) -> Element:
    """Draws a straight line.

    Args:
        parent: Element of the picture that the line becomes a part of.
        kind: Classes of the line in the style sheet.
        x1: Place of its beginning from the left, in units of the picture.
        y1: Place of its beginning from the top.
        x2: Place of its end from the left.
        y2: Place of its end from the top.
        **others: Other attributes of the element.
    """
    places = {name: f"{value:.1f}" for name, value in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2))}
    return SubElement(parent, "line", {"class": kind, **places, **others})
