"""Curves of trainings as one HTML file that loads nothing: loss, learning rate, time of a step, waiting for data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from vlbench.pages import head, text
from vlbench.results.page_parts import asset
from vlbench.results.svg import label, round_ticks, stroke
from vlbench.results.training_logs import COLUMNS, read_curves

_TITLES = dict(zip(COLUMNS, ("loss", "learning rate", "seconds a step", "share of waiting for data"), strict=True))
"""Columns of a log that are drawn, and their titles."""
_FROM_ZERO = ("train/lr", "train/step_seconds", "train/data_share")
"""Columns whose scale begins at 0; that of a loss begins near its smallest value."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 340, 200, 56, 10, 28, 26
_MOST = 1000
"""Most points of a curve; of more, every n-th is drawn."""

_STYLE = """
main { padding-top: 24px; }
h2 { font-size: 15px; margin: 24px 0 8px; overflow-wrap: anywhere; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 12px; }
svg { display: block; width: 100%; height: auto; padding: 8px; font-size: 11px; background: var(--panel);
  border: 1px solid var(--line); border-radius: 8px; }
text { fill: var(--text); } .curve { fill: none; stroke: var(--c0); stroke-width: 1.5; } circle { fill: var(--c0); }
"""


def curves_section(name: str, folder: Path) -> str:
    """The part of a page with the curves of one training; one without a log says so.

    Args:
        name: Name of the training.
        folder: Default root folder of the training.
    """
    curves = read_curves(folder)
    drawn = [
        _drawn(title, curves[column], column in _FROM_ZERO) for column, title in _TITLES.items() if curves.get(column)
    ]
    body = f'<div class="curves">{"".join(drawn)}</div>' if drawn else "<p>no entry of a log</p>"
    return f"<section><h2>{text(name)}</h2>{body}</section>\n"


def curves_page(sections: Iterable[str]) -> str:
    """A page with the curves of trainings.

    Args:
        sections: What `curves_section` makes of each training.
    """
    beginning = head("vlbench trainings", asset("leaderboard.css") + _STYLE)
    return "".join([beginning, "<main>\n<h1>Trainings</h1>\n", *sections, "</main>\n</body>\n</html>\n"])


def _drawn(title: str, points: Sequence[tuple[int, float]], from_zero: bool) -> str:
    """A curve as SVG, whose scale begins below the smallest value or at 0."""
    points = [*points[: -1 : max(1, len(points) // _MOST)], points[-1]]
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    low, high = low - margin if low < 0 else max(0.0, low - margin), high + margin
    low = min(0.0, low) if from_zero else low
    span = max(1, steps[-1] - steps[0])

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - steps[0]) / span

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    root = Element("svg", {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "aria-label": title})
    label(root, _LEFT, 16, title)
    for tick in round_ticks(low, high):
        stroke(root, "grid", _LEFT, y(tick), _WIDTH - _RIGHT, y(tick))
        label(root, _LEFT - 4, y(tick) + 4, f"{tick:.4g}", "end")
    for step, anchor in ((steps[0], "start"), (steps[-1], "end")):
        label(root, x(step) if len(points) > 1 else _LEFT, _HEIGHT - 8, f"step {step}", anchor)
        if len(points) == 1:
            break
    if len(points) == 1:
        SubElement(root, "circle", {"cx": f"{x(steps[0]):.1f}", "cy": f"{y(values[0]):.1f}", "r": "2"})
    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    SubElement(root, "polyline", {"class": "curve", "points": path})
    return tostring(root, encoding="unicode")
