"""What a list holds as text: lines, JSON, or the rows of a CSV file, by the names of its columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlbench.errors import DataError


def text_of(path: Path, newline: str | None = None) -> str:
    """A list's text, line ends as `open` makes them; a byte-order mark is dropped, which spreadsheets like to add."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it") from error


def json_of(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: If the file cannot be read or is not JSON.
    """
    try:
        return json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}; fetch it again") from error


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with `file:line`."""
    # Not splitlines(): that also splits at characters such as U+2028, which a file name may hold.
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, each with `file:line` (the last line, where a quoted field spans several)."""
    # StringIO yields lines with their ends as they are, so that a quoted field may hold any line break.
    reader = csv.reader(io.StringIO(text_of(path, newline=""), newline=""), strict=True)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV ({error}); check the quotes") from error


class NamedColumns:
    """A CSV file with a header line, read by the names of its columns; case and blanks around a name do not matter.

    Args:
        path: Path of the file.

    Attributes:
        names: Names of the columns in lower case, in their order.

    Raises:
        DataError: If the file cannot be read, or is not CSV.
    """

    def __init__(self, path: Path) -> None:
        self._rows = csv_rows(path)
        self._where, header = next(self._rows, (f"{path}:1", []))
        self.names = [name.strip().lower() for name in header]

    def check(self, *columns: Sequence[str]) -> list[int]:
        """Whether the file has some columns; returns their positions.

        Args:
            columns: Names, in lower case, that each of the columns may have.

        Raises:
            DataError: If a column is missing, or two columns have a name of one.
        """
        places = [[place for place, name in enumerate(self.names) if name in allowed] for allowed in columns]
        there = f"its columns: {', '.join(self.names) or 'none'}"
        missing = [" or ".join(allowed) for allowed, at in zip(columns, places, strict=True) if not at]
        if missing:
            raise DataError(
                f"{self._where}: the header lacks {', '.join(missing)}; {there}; rename them or fetch the file again"
            )
        for allowed, at in zip(columns, places, strict=True):
            if len(at) > 1:
                raise DataError(
                    f"{self._where}: the header has {len(at)} columns where one is allowed, {' or '.join(allowed)};"
                    f" {there}; rename or remove one"
                )
        return [place for (place,) in places]

    def rows(self, *columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """The fields of some columns in each row that is not blank, without blanks around them, with `file:line`.

        Args:
            columns: Names, in lower case, that each of the columns may have.

        Raises:
            DataError: If a column is missing, or a row has another number of fields than the header.
        """
        places = self.check(*columns)
        for where, row in self._rows:
            if len(row) != len(self.names):
                raise DataError(
                    f"{where}: {len(row)} fields where the header has {len(self.names)}; put a field with commas in"
                    " quotes, or fetch the file again"
                )
            yield where, [row[place].strip() for place in places]
