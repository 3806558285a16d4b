"""The leaderboard as CSV, Markdown and LaTeX."""

import csv
import io
import re

import pytest

from tests.results.fakes import half, record
from vlbench.results.leaderboard import rows
from vlbench.results.row import COLUMNS
from vlbench.results.tables import to_csv, to_latex, to_markdown

pytestmark = pytest.mark.quick

RECORDS = [
    record(50), record(60, seed=1), record(70, method="mote"), record(30, shots=2),
    *(half(classes, top1, seed) for seed in range(2) for classes, top1 in (("base", 80 + seed), ("novel", 60))),
]  # fmt: skip


def test_csv_has_every_column_and_nothing_for_what_is_not_known():
    table = rows(RECORDS)
    found = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert list(found[0]) == list(COLUMNS)
    assert [{key: value or None for key, value in line.items()} for line in found] == [
        {key: None if value in (None, "") else str(value) for key, value in row.cells().items()} for row in table
    ]


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_has_a_table_for_each_comparison():
    text = to_markdown(rows(RECORDS))
    assert text.count("### ") == 3
    tables = [part.strip().splitlines() for part in text.split("### ")[1:]]
    for _, _, header, line, *body in tables:
        assert set(cells(line)) == {"---"}
        assert all(len(cells(row)) == len(cells(header)) for row in body)
    base, two, eight = tables
    assert "harmonic" not in base[2]
    assert dict(zip(cells(base[2]), cells(base[4]), strict=True))["base"] == "80.50 ± 0.50"
    assert [cells(row)[:2] for row in eight[4:]] == [["1", "mote"], ["2", "msta"]]
    assert dict(zip(cells(eight[2]), cells(eight[5]), strict=True))["top1"] == "55.00 ± 5.00"
    assert dict(zip(cells(two[2]), cells(two[4]), strict=True))["top1"] == "30.00"  # one run has no deviation
    assert "hm" in cells(base[2])
    assert "hm" not in cells(eight[2])


def test_signs_that_mean_something_are_escaped():
    table = rows([record(50, deviations={"a_b": "50% of {x} & $y | #1 ~ ^ \\ <i>"})])
    latex = to_latex(table).splitlines()[5]
    for sign in (r"a\_b", r"50\%", r"\{x\}", r"\&", r"\$y", r"\#1", r"\textasciitilde{}", r"\textasciicircum{}",
                 r"\textbackslash{}", r"\textless{}i\textgreater{}"):  # fmt: skip
        assert sign in latex
    assert r"\|" in to_markdown(table)
    assert "<i>" not in to_markdown(table).replace(r"\<i\>", "")


def test_latex_lines_have_as_many_cells_as_columns():
    text = to_latex(rows(RECORDS))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    for table in text.split("% ")[1:]:
        columns = re.search(r"\{tabular\}\{(l+)\}", table)[1]
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert lines
        assert all(line.count(" & ") == len(columns) - 1 for line in lines)


def test_unreadable_videos_show():
    table = rows([record(50, evaluated=9, failures={"x": "empty"})])
    text = to_markdown(table)
    assert "0.9" in cells(text.splitlines()[4])
    assert "60.00" in cells(text.splitlines()[4])
