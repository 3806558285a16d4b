"""What `vlbench classify` prints: a table, JSON lines or CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from rich.markup import escape
from rich.table import Table

from vlbench.cli.consoles import console_of_tables
from vlbench.inference import Candidate, Classification, Model
from vlbench.names import one_line, quoted
from vlbench.results.escapes import csv_text

COLUMNS = ("video", "start", "end", "rank", "class", "probability", "score", "error")
"""Columns of the CSV form, a line for each class that is named."""

_DIGITS = 6


class Output(Protocol):
    """A form of the result; made of the model and of the number of classes that are named."""

    def __init__(self, model: Model, top: int) -> None: ...

    def add(self, result: Classification) -> None:
        """Takes the next result.

        Args:
            result: Classes of a video or of a window of one.
        """

    def end(self) -> None:
        """Ends after the last result, or where the reading was interrupted."""


class JSONLines:
    """A line of JSON for each video, or each window of one, printed at once.

    Args:
        model: Model of the results.
        top: Number of classes that are named.
    """

    def __init__(self, model: Model, top: int) -> None:  # noqa: ARG002 - as every form
        self.top = top

    def add(self, result: Classification) -> None:
        """Prints the line of a result."""
        start, end = _times(result)
        best = [
            {"class": name, "probability": _rounded(probability), "score": _rounded(score)}
            for name, probability, score in result.best(self.top)
        ]
        line = {"video": result.video, "start": start, "end": end, "best": best, "error": result.failure or None}
        print(json.dumps(line), flush=True)  # noqa: T201 - what was asked for

    def end(self) -> None:
        """Nothing is left."""


class CSVLines:
    """A line of CSV for each class that is named, printed at once; one with an error for a video that cannot be read.

    Args:
        model: Model of the results.
        top: Number of classes that are named.
    """

    def __init__(self, model: Model, top: int) -> None:  # noqa: ARG002 - as every form
        self.top = top
        self._write(COLUMNS)

    def add(self, result: Classification) -> None:
        """Prints the lines of a result."""
        place = (result.video, *_times(result))
        if result.failure:
            self._write((*place, None, None, None, None, result.failure))
        for rank, (name, probability, score) in enumerate(result.best(self.top), 1):
            self._write((*place, rank, name, _rounded(probability), _rounded(score), None))

    def end(self) -> None:
        """Nothing is left."""

    def _write(self, cells: tuple[object, ...]) -> None:
        print(csv_text([cells]), end="", flush=True)  # noqa: T201 - what was asked for


class PrintedTable:
    """A table, printed at the end.

    Args:
        model: Model of the results.
        top: Number of classes that are named.
    """

    def __init__(self, model: Model, top: int) -> None:
        self.top = top
        self.model = model
        self._results: list[Classification] = []

    def add(self, result: Classification) -> None:
        """Keeps a result."""
        self._results.append(replace(result, frames=None))

    def end(self) -> None:
        """Prints the table, if it has a result."""
        if not self._results:
            return
        parts = any(result.span is not None for result in self._results)
        method = self.model.method
        number = "score" if method.probability.source is None else "probability"
        columns = ("video", *(("from", "to") if parts else ()), "class", number)
        table = Table(*columns, title=escape(f"{method.name} on {one_line(method.backbone.identity.name)}"))
        for result in self._results:
            times = result.span or (None, None)
            place = [quoted(result.video), *(map(_time, times) if parts else ())]
            rows = [(one_line(each.name), _number(each)) for each in result.best(self.top)]
            for row in rows or [(f"cannot be read: {one_line(result.failure)}", "")]:
                table.add_row(*map(escape, (*place, *row)))
                place = [""] * len(place)
            table.add_section()
        table.columns[-1].justify = "right"
        console_of_tables().print(table)


OUTPUTS: Mapping[str, type[Output]] = {"table": PrintedTable, "jsonl": JSONLines, "csv": CSVLines}
"""Forms of the result by their names."""


def _times(result: Classification) -> tuple[float | None, float | None]:
    start, end = result.span or (None, None)
    return (None if start is None else round(start, 3)), (None if end is None else round(end, 3))


def _time(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _number(candidate: Candidate) -> str:
    value = candidate.score if candidate.probability is None else candidate.probability
    return f"{value:.3f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
