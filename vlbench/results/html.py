"""The leaderboard as one HTML file that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import vlbench
from vlbench.results.page_parts import asset, filled_in
from vlbench.results.published_values import contradictions, practices, published_results, sources
from vlbench.results.row import COLUMNS, Row


def to_html(table: Sequence[Row]) -> str:
    """A page with the rows, charts and the published results: sortable, filterable, light and dark.

    Names reach the page as JSON and are shown as text, never as markup.
    """
    data = {
        "columns": COLUMNS,
        "rows": [{**row.cells(), "score": row.score} for row in table],
        "published": _published(),
        "version": vlbench.__version__,
    }
    # In a script element only `<` could end the data; JSON may escape it in strings, and it occurs nowhere else.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return filled_in(
        asset("leaderboard.html"), {"style": asset("leaderboard.css"), "script": asset("leaderboard.js"), "data": text}
    )


def _published() -> list[dict[str, object]]:
    titles = sources()
    return [
        {
            **{key: value for key, value in asdict(result).items() if value not in (None, "")},
            "source": titles[result.source][0],
            "practice": practices().get(result.method, ""),
            "contradicted_by": "; ".join(
                f"{other.value} in {titles[other.source][0]} ({other.origin})" for other in contradictions(result)
            ),
        }
        for result in published_results()
    ]
