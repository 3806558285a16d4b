"""The multiverse of a comparison as one HTML file that loads nothing, with a figure of every method's accuracies."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from vlbench.pages import head, text
from vlbench.results.multiverse import Multiverse
from vlbench.results.page_parts import STYLE_OF_TABLES, asset, table
from vlbench.results.svg import label, round_ticks, stroke

_STYLE = """
.whole { stroke: var(--strong); }
.share { fill: var(--c0); opacity: .55; }
.recorded { fill: var(--text); }
"""
_WIDTH, _RIGHT, _ROW, _AXIS, _BINS = 760, 20, 34, 40, 60
_NAME, _LETTER = 28, 8
"""Letters of a method's name that have room in the figure, and the room of one."""


def multiverse_html(outcome: Multiverse) -> str:
    """A page of the accuracies of some methods in every universe: a figure, and the tables of the command.

    Args:
        outcome: Accuracies of the methods, whose names are shown as text.
    """
    count = f"{outcome.universes:,} universes of {len(outcome.methods)} methods"
    parts = [
        head("vlbench: would the rank survive?", asset("leaderboard.css") + STYLE_OF_TABLES + _STYLE), "<main>\n",
        "<h1>Would the rank survive?</h1>\n",
        f"<p>{text(outcome.setting)}: {count}. A universe is one option of each choice:</p>\n<ul>\n",
        *(f"<li>{text(choice.name)}: {text(', '.join(choice.options))}</li>\n" for choice in outcome.choices),
        f"</ul>\n<figure>{_figure(outcome)}</figure>\n", *_tables(outcome),
        "<ul>\n", *(f"<li>{text(note)}</li>\n" for note in outcome.notes), "</ul>\n",
        "<p class='muted'>The universes are no sample: a share of them is no probability, and all of them have the same"
        " videos. Whether two accuracies differ by more than chance is a question of <code>vlbench compare</code>.</p>"
        "\n</main>\n</body>\n</html>\n",
    ]  # fmt: skip
    return "".join(parts)


def _tables(outcome: Multiverse) -> list[str]:
    shares, spans = outcome.effects
    gain = outcome.best_on_test
    methods = list(enumerate(outcome.methods))
    ranges = [
        (
            name, f"{outcome.at_records[row]:.2f}", f"{outcome.flat[row].min():.2f}",
            f"{outcome.flat[row].max():.2f}", f"{outcome.ranks[row].min()} to {outcome.ranks[row].max()}",
            *([f"{gain[1][row]:+.2f} (mean {gain[0][row]:+.2f})"] if gain else []),
        )
        for row, name in methods
    ]  # fmt: skip
    leads = [
        (name, *("" if a == b else f"{100 * share:.1f}" for b, share in enumerate(outcome.leading[a])))
        for a, name in methods
    ]
    moved = [
        (name, *(f"{100 * share:.1f} ({span:.2f})" for share, span in zip(shares[row], spans[row], strict=True)))
        for row, name in methods
    ]
    added = ["best epoch on test adds"] if gain else []
    return [
        "<h2>Top-1 in %</h2>\n",
        table(("method", "as recorded", "lowest", "highest", "ranks", *added), ranges, words=1),
        "<h2>Share of the universes in which the method of the row leads the one of the column, in %</h2>\n",
        table(("", *outcome.methods), leads, words=1),
        "<h2>Variance of a method's accuracy that a choice explains alone, in % (points between its best and worst"
        " option)</h2>\n",
        table(("method", *(choice.name for choice in outcome.choices)), moved, words=1),
    ]


def _figure(outcome: Multiverse) -> str:
    """A row for each method, the best one as recorded first: where its accuracies lie, and a dot as recorded."""
    low = max(0.0, float(outcome.flat.min()) - 1)
    high = min(100.0, float(outcome.flat.max()) + 1)
    bottom = _ROW * len(outcome.methods) + 10
    height = bottom + _AXIS
    root = Element(
        "svg", {"role": "img", "viewBox": f"0 0 {_WIDTH} {height}", "aria-label": "top-1 of every method by universe"}
    )
    left = 24 + _LETTER * max(min(len(name), _NAME) for name in outcome.methods)
    room = _WIDTH - left - _RIGHT

    def x(value: float) -> float:
        return left + room * (value - low) / (high - low)

    for tick in round_ticks(low, high):
        stroke(root, "grid", x(tick), 10, x(tick), bottom)
        label(root, x(tick), bottom + 16, f"{tick:g}", "middle")
    for place, row in enumerate(np.argsort(-outcome.at_records, kind="stable").tolist()):
        base = 10 + _ROW * (place + 1) - 8
        values, name = outcome.flat[row], outcome.methods[row]
        recorded = float(outcome.at_records[row])
        counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
        bars = SubElement(root, "g")
        ends = f"{values.min():.2f} to {values.max():.2f}"
        SubElement(bars, "title").text = f"{name}: {ends}, as recorded {recorded:.2f}"
        stroke(bars, "whole", x(float(values.min())), base, x(float(values.max())), base)
        for count, edge in zip(counts.tolist(), edges.tolist(), strict=False):
            if count:
                size = (_ROW - 14) * count / int(counts.max())
                box = {"x": x(edge), "y": base - size, "width": room / _BINS - 1, "height": size}
                SubElement(bars, "rect", {"class": "share", **{key: f"{each:.1f}" for key, each in box.items()}})
        SubElement(bars, "circle", {"class": "recorded", "cx": f"{x(recorded):.1f}", "cy": f"{base:.1f}", "r": "4"})
        label(root, left - 10, base, name if len(name) <= _NAME else f"{name[: _NAME - 3]}...", "end")
    label(root, (left + _WIDTH) / 2, height - 4, "top-1 in %; bars: universes; dot: as recorded", "middle")
    return tostring(root, encoding="unicode")
