"""The leaderboard as one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import vlbench
from vlbench.results.page_parts import asset, filled_in, script_data
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
    return filled_in(
        asset("leaderboard.html"),
        {"style": asset("leaderboard.css"), "script": asset("leaderboard.js"), "data": script_data(data)},
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
