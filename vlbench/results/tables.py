"""The leaderboard as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from vlbench.names import one_line
from vlbench.results.costs import CalibrationColumns
from vlbench.results.escapes import csv_text, latex, markdown
from vlbench.results.row import COLUMNS, Row

_SHOWN = (
    "rank", "method", "backbone", "trained_on", "frames", "views", "deviations", "options", "top1", "runs_low",
    "runs_high", "top5", "map", "base",
    "novel", "hm", "half_top1", "order_score", "time_score", "runs", "coverage", "upper_bound", "ece",
    "base_novel_auroc", "gflops_video", "trainable_params", "published", "difference",
)  # fmt: skip


def to_csv(table: Sequence[Row]) -> str:
    """Every column of every row, with a header; what is not known is empty."""
    cells = (row.cells() for row in table)
    return csv_text([COLUMNS, *([each[column] for column in COLUMNS] for each in cells)])


def to_markdown(table: Sequence[Row]) -> str:
    """One table for each set of comparable rows, below a heading that says what is compared."""
    parts = []
    for title, columns, cells in _comparisons(table):
        lines = [f"### {markdown(title)}", "", _line(columns), _line(["---"] * len(columns))]
        parts.append("\n".join([*lines, *(_line(map(markdown, row)) for row in cells), ""]))
    return "\n".join(parts)


def to_latex(table: Sequence[Row]) -> str:
    """One `tabular` for each set of comparable rows; needs the package booktabs."""
    parts = []
    for title, columns, cells in _comparisons(table):
        lines = [
            f"% {one_line(title)}",
            rf"\begin{{tabular}}{{{'l' * len(columns)}}}",
            r"\toprule",
            _latex_line(columns),
            r"\midrule",
            *map(_latex_line, cells),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def filled(table: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Those of some columns that say something in at least one row."""
    cells = [row.cells() for row in table]
    return [column for column in columns if any(values[column] not in (None, "") for values in cells)]


def cell(row: Row, column: str) -> str:
    """A value as people read it: two decimals, `±` the deviation where the row has one."""
    values = row.cells()
    value = values[column]
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if column in CalibrationColumns._fields:
        return f"{value:.3f}"
    if column == "coverage":
        return f"{value:.4f}".rstrip("0").rstrip(".")
    spread = values.get(f"{column}_std")
    sign = "+" if column in ("difference", "order_score", "time_score") else ""
    return f"{value:{sign}.2f}" + (f" ± {spread:.2f}" if spread is not None else "")


def _comparisons(table: Sequence[Row]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and cells for each run of rows with one comparison."""
    tables = []
    for _, members in groupby(table, key=lambda row: row.comparison):
        group = list(members)
        columns = filled(group, _SHOWN)
        if all(row.coverage == 1 for row in group):
            columns.remove("coverage")
        tables.append((_title(group[0]), columns, [[cell(row, column) for column in columns] for row in group]))
    return tables


def _title(row: Row) -> str:
    shots = "all videos" if row.shots == "all" else f"{row.shots} shots"
    lists = f"lists {row.lists}" if row.lists else "lists not known"
    stored = f", videos stored as {row.stored}" if row.stored else ""
    return f"{row.protocol}, {row.dataset}, {shots}, {lists}, checkpoint {row.selection}{stored}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"
