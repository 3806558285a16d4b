"""The multiverse of a comparison as JSON, as CSV and as an HTML page with a figure that loads nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

import vlbench
from vlbench.results.escapes import csv_cell
from vlbench.results.multiverse import Multiverse

_STYLE = Path(__file__).parent / "assets" / "leaderboard.css"
_WIDTH, _LEFT, _RIGHT, _ROW, _BINS = 900, 240, 20, 34, 60
_MORE_STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
svg { font: 12px system-ui, sans-serif; max-width: 100%; }
svg text { fill: var(--text); }
.grid { stroke: var(--line); }
.whole { stroke: var(--strong); }
.share { fill: var(--c0); opacity: .55; }
.recorded { fill: var(--text); }
"""


def to_json(outcome: Multiverse) -> str:
    """Everything that the command shows, with full precision, and all pairs of methods."""
    return json.dumps(_values(outcome), indent=2, ensure_ascii=False) + "\n"


def _values(outcome: Multiverse) -> dict[str, object]:
    shares, spans = outcome.effects
    gain = outcome.best_on_test
    numbers = range(len(outcome.methods))
    return {
        "setting": outcome.setting,
        "universes": outcome.universes,
        "choices": {choice.name: list(choice.options) for choice in outcome.choices},
        "recorded": {c.name: c.options[place] for c, place in zip(outcome.choices, outcome.recorded, strict=True)},
        "methods": [
            {
                "method": name,
                "recorded": float(outcome.at_records[row]),
                "lowest": float(outcome.flat[row].min()),
                "highest": float(outcome.flat[row].max()),
                "best_rank": int(outcome.ranks[row].min()),
                "worst_rank": int(outcome.ranks[row].max()),
                "best_epoch_on_test_adds": None if gain is None else float(gain[1][row]),
                "best_epoch_on_test_adds_mean": None if gain is None else float(gain[0][row]),
                "variance_shares": dict(zip((c.name for c in outcome.choices), shares[row].tolist(), strict=True)),
                "spans": dict(zip((c.name for c in outcome.choices), spans[row].tolist(), strict=True)),
            }
            for row, name in enumerate(outcome.methods)
        ],
        "pairs": [
            {
                "a": outcome.methods[a],
                "b": outcome.methods[b],
                "a_leads": float(outcome.leading[a, b]),
                "equal": float((outcome.flat[a] == outcome.flat[b]).mean()),
                "b_leads": float(outcome.leading[b, a]),
            }
            for a in numbers
            for b in numbers
            if a < b
        ],
        "notes": list(outcome.notes),
        "vlbench": vlbench.__version__,
    }


def to_csv(outcome: Multiverse) -> str:
    """A line for each universe: its options, and the accuracy of every method in per cent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in (*(choice.name for choice in outcome.choices), *outcome.methods)])
    writer.writerows([*map(csv_cell, options), *values.tolist()] for options, values in outcome.each())
    return text.getvalue()


def to_html(outcome: Multiverse) -> str:
    """A page with the distribution of every method's accuracy over the universes, and the tables of the command."""
    page = Element("html", {"lang": "en"})
    head, body = SubElement(page, "head"), SubElement(page, "body")
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "title").text = "vlbench multiverse"
    SubElement(head, "style").text = _STYLE.read_text().partition(':root[data-theme="dark"]')[0] + _MORE_STYLE
    SubElement(body, "h1").text = "Would the rank survive?"
    count = f"{outcome.universes:,} universes of {len(outcome.methods)} methods"
    SubElement(body, "p").text = f"{outcome.setting}: {count}. A universe is one option of each choice:"
    choices = SubElement(body, "ul")
    for choice in outcome.choices:
        SubElement(choices, "li").text = f"{choice.name}: {', '.join(choice.options)}"
    body.append(_figure(outcome))
    _tables(body, outcome)
    notes = SubElement(body, "ul")
    for note in outcome.notes:
        SubElement(notes, "li").text = note
    SubElement(body, "p").text = (
        "The universes are no sample: a share of them is no probability, and all of them have the same videos. Whether"
        " two accuracies differ by more than chance is a question of `vlbench compare`."
    )
    return "<!doctype html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def _tables(body: Element, outcome: Multiverse) -> None:
    shares, spans = outcome.effects
    gain = outcome.best_on_test
    _table(
        body,
        "Top-1 in %",
        ("method", "as recorded", "lowest", "highest", "ranks", *(["best epoch on test adds"] if gain else [])),
        [
            (
                name, f"{outcome.at_records[row]:.2f}", f"{outcome.flat[row].min():.2f}",
                f"{outcome.flat[row].max():.2f}", f"{outcome.ranks[row].min()} to {outcome.ranks[row].max()}",
                *([f"{gain[1][row]:+.2f} (mean {gain[0][row]:+.2f})"] if gain else []),
            )
            for row, name in enumerate(outcome.methods)
        ],
    )  # fmt: skip
    _table(
        body,
        "Share of the universes in which the method of the row leads the one of the column, in %",
        ("", *outcome.methods),
        [
            (name, *("" if a == b else f"{100 * share:.1f}" for b, share in enumerate(outcome.leading[a])))
            for a, name in enumerate(outcome.methods)
        ],
    )
    _table(
        body,
        "Variance of a method's accuracy that a choice explains alone, in % (points between its best and worst option)",
        ("method", *(choice.name for choice in outcome.choices)),
        [
            (name, *(f"{100 * share:.1f} ({span:.2f})" for share, span in zip(shares[row], spans[row], strict=True)))
            for row, name in enumerate(outcome.methods)
        ],
    )


def _table(body: Element, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    SubElement(body, "h2").text = title
    table = SubElement(body, "table")
    for kind, cells in (("th", columns), *(("td", row) for row in rows)):
        line = SubElement(table, "tr")
        for cell in cells:
            SubElement(line, kind).text = cell


def _figure(outcome: Multiverse) -> Element:
    """A row for each method: where its accuracies lie, and a dot where the records have it."""
    low, high = float(outcome.flat.min()), float(outcome.flat.max())
    low, high = max(0.0, low - 1), min(100.0, high + 1)
    height = _ROW * len(outcome.methods) + 40
    figure = Element("svg", {"role": "img", "width": str(_WIDTH), "viewBox": f"0 0 {_WIDTH} {height}"})

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)

    bottom = height - 30
    for tick in np.linspace(low, high, 6).tolist():
        SubElement(figure, "line", {"class": "grid", **_ends(x(tick), 10, x(tick), bottom)})
        _text(figure, x(tick), bottom + 16, f"{tick:.1f}", "middle")
    for row in np.argsort(-outcome.at_records, kind="stable").tolist():
        place = int((outcome.at_records > outcome.at_records[row]).sum())
        place += int((outcome.at_records[:row] == outcome.at_records[row]).sum())
        base = 10 + _ROW * (place + 1) - 8
        values = outcome.flat[row]
        counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
        bars = SubElement(figure, "g")
        ends, recorded = f"{values.min():.2f} to {values.max():.2f}", f"{outcome.at_records[row]:.2f}"
        SubElement(bars, "title").text = f"{outcome.methods[row]}: {ends}, as recorded {recorded}"
        SubElement(bars, "line", {"class": "whole", **_ends(x(values.min()), base, x(values.max()), base)})
        for count, edge in zip(counts.tolist(), edges.tolist(), strict=False):
            if count:
                size = (_ROW - 14) * count / int(counts.max())
                width = (_WIDTH - _LEFT - _RIGHT) / _BINS - 1
                box = {"x": x(edge), "y": base - size, "width": width, "height": size}
                SubElement(bars, "rect", {"class": "share", **{name: f"{each:.1f}" for name, each in box.items()}})
        dot = {"cx": f"{x(float(outcome.at_records[row])):.1f}", "cy": f"{base:.1f}", "r": "4"}
        SubElement(bars, "circle", {"class": "recorded", **dot})
        name = outcome.methods[row]
        _text(figure, _LEFT - 10, base, name if len(name) <= 36 else f"{name[:33]}...", "end")
    _text(figure, (_LEFT + _WIDTH) / 2, height - 2, "top-1 in %; bars: universes; dot: as recorded", "middle")
    return figure


def _ends(x1: float, y1: float, x2: float, y2: float) -> dict[str, str]:
    return {name: f"{value:.1f}" for name, value in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2))}


def _text(parent: Element, x: float, y: float, text: str, anchor: str) -> None:
    node = SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})
    node.text = text
