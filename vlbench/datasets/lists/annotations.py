"""Readers of annotation lists: what is on disk -> `VideoItem`s with zero-based labels.

A reader checks a list against itself and against the class names, and refuses a doubtful line instead of skipping
it: a dropped line changes an accuracy without anyone noticing. Whether the videos exist is checked elsewhere.

Paths in a list are relative to the dataset's root and use forward slashes. `VideoItem.id` is that path, normalised
(`./a//b.avi` and `a/b.avi` are one video), so it is the same on every machine.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from vlbench.datasets.specs import VideoItem
from vlbench.errors import DataError

VIDEO_EXTENSIONS: tuple[str, ...] = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""What counts as a video in a class-folder tree; upper case counts too."""

PATH_COLUMNS: tuple[str, ...] = ("path", "video")
"""Header names of a CSV's path column."""

LABEL_COLUMNS: tuple[str, ...] = ("label",)
"""Header names of a CSV's column of zero-based integer labels."""

CLASS_COLUMNS: tuple[str, ...] = ("class", "class_name")
"""Header names of a CSV's column of class names."""


def read_path_label(
    list_file: str | Path, root: str | Path, *, class_names: Sequence[str] | None = None
) -> list[VideoItem]:
    """Read a list of `path label` lines; the label counts from 0 and is the last field, so a path may hold spaces.

    Blank lines are ignored. Without `class_names` a label has no upper limit.

    Raises:
        DataError: If the list is missing, empty or not UTF-8 text, or a line has no label, a label that is not an
            integer in range, an absolute path, a path that leaves the root or a video that was listed before.
    """
    listed = ItemList(root)
    for where, line in lines_of(Path(list_file)):
        fields = line.rsplit(maxsplit=1)
        if len(fields) != 2:
            raise DataError(f"{where}: {line!r} has one field; allowed: a path, a space and a label counted from 0")
        listed.add(where, fields[0], _label(where, fields[1], class_names))
    return listed.finish(list_file)


def read_csv(list_file: str | Path, root: str | Path, *, class_names: Sequence[str]) -> list[VideoItem]:
    """Read a CSV file with a header line.

    The header names one path column, `path` or `video`, and one column that says the class: `label` (an integer
    counted from 0), or `class` or `class_name` (one of `class_names`). Case and surrounding spaces do not matter in
    the header; columns with other names are ignored.

    Raises:
        DataError: If the file is missing, empty, not UTF-8 or not CSV, its header lacks a column or is ambiguous, a
            row has too many or too few fields, or a row breaks the rules of `read_path_label`.
    """
    path = Path(list_file)
    rows = _csv_rows(path)
    where, header = next(rows, (str(path), []))
    columns = [name.strip().lower() for name in header]
    path_column, class_column = _csv_columns(where, columns)
    by_name = labels_by_name(class_names)
    listed = ItemList(root)
    for where, row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"{where}: {len(row)} fields where the header has {len(columns)}; put a field with commas in quotes"
            )
        value = row[class_column].strip()
        if columns[class_column] in LABEL_COLUMNS:
            label = _label(where, value, class_names)
        else:
            label = named_label(where, value, by_name)
        listed.add(where, row[path_column].strip(), label)
    return listed.finish(path)


def read_class_folders(
    root: str | Path, *, extensions: Collection[str] = VIDEO_EXTENSIONS
) -> tuple[tuple[str, ...], list[VideoItem]]:
    """Read a tree of one folder a class; a folder's name is the class name.

    Classes are in code-point order and so are the videos of a class, whatever order the file system gives. Videos may
    lie in deeper folders. Hidden files and folders and files with other extensions are ignored.

    Raises:
        DataError: If the root is no folder or has no class folders, a class has no video, or a video lies directly
            below the root and thus in no class.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; allowed: a folder with one folder of videos a class")
    suffixes = frozenset(extension.lower() for extension in extensions)
    visible = sorted((entry for entry in root.iterdir() if not entry.name.startswith(".")), key=lambda e: e.name)
    folders = [entry for entry in visible if entry.is_dir()]
    for entry in visible:
        if entry.suffix.lower() in suffixes and not entry.is_dir():
            raise DataError(f"{entry} lies in no class folder; move it into the folder of its class or out of {root}")
    if not folders:
        raise DataError(f"{root} has no folders; allowed: one folder of videos a class")
    items = [item for label, folder in enumerate(folders) for item in _folder_items(root, folder, label, suffixes)]
    return tuple(folder.name for folder in folders), items


class ItemList:
    """Collects items below one root and refuses bad paths and second mentions."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._first: dict[str, str] = {}
        self._items: list[VideoItem] = []

    def add(self, where: str, path: str, label: int) -> None:
        """Append a video; `where` is the place that errors name."""
        relative = PurePosixPath(path)
        if not relative.name or relative.is_absolute() or ".." in relative.parts:
            raise DataError(f"{where}: path {path!r}; allowed: a path relative to {self._root} that stays below it")
        video_id = str(relative)
        if video_id in self._first:
            raise DataError(
                f"{where}: {video_id!r} was listed before, at {self._first[video_id]}; a video may be listed once,"
                " remove one of the lines"
            )
        self._first[video_id] = where
        self._items.append(VideoItem(self._root / relative, label, video_id))

    def finish(self, list_file: str | Path) -> list[VideoItem]:
        """The items in the list's order; an empty list is an error, for it is always a wrong or cut-off file."""
        if not self._items:
            raise DataError(f"{list_file} lists no videos; give a list with at least one, or fetch it again")
        return self._items


def _text(path: Path) -> str:
    """A list's text; a byte-order mark is dropped, which spreadsheets like to add."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it") from error


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with `file:line`."""
    # Not splitlines(): that also splits at characters such as U+2028, which a file name may hold.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def _csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, each with `file:line` (the last line, where a quoted field spans several)."""
    # StringIO yields lines with their ends, as csv asks for, so that a quoted field may hold a line break.
    reader = csv.reader(io.StringIO(_text(path)), strict=True)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV ({error}); check the quotes") from error


def _csv_columns(where: str, columns: Sequence[str]) -> tuple[int, int]:
    """Positions of the path column and of the column that says the class."""
    return (
        _one_column(where, columns, PATH_COLUMNS, "path"),
        _one_column(where, columns, (*LABEL_COLUMNS, *CLASS_COLUMNS), "class"),
    )


def _one_column(where: str, columns: Sequence[str], allowed: Sequence[str], kind: str) -> int:
    positions = [position for position, name in enumerate(columns) if name in allowed]
    if len(positions) != 1:
        raise DataError(
            f"{where}: the header has {len(positions)} {kind} columns; found: {', '.join(columns) or 'nothing'};"
            f" allowed: exactly one of {', '.join(allowed)}; rename the header's columns"
        )
    return positions[0]


def _label(where: str, text: str, class_names: Sequence[str] | None) -> int:
    allowed = "0 or more" if class_names is None else f"0 to {len(class_names) - 1}"
    # int() also accepts "1_0" and digits of other scripts, which in a list are slips
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        raise DataError(f"{where}: label {text!r} is not an integer; allowed: {allowed}")
    label = int(text)
    if label < 0 or (class_names is not None and label >= len(class_names)):
        raise DataError(f"{where}: label {label} is out of range; allowed: {allowed}; do the labels count from 0?")
    return label


def labels_by_name(class_names: Sequence[str]) -> dict[str, int]:
    """Label of each class name.

    Raises:
        DataError: If two classes have one name.
    """
    by_name: dict[str, int] = {}
    for label, name in enumerate(class_names):
        if by_name.setdefault(name, label) != label:
            raise DataError(f"class name {name!r} stands for labels {by_name[name]} and {label}; names must differ")
    return by_name


def named_label(where: str, name: str, by_name: Mapping[str, int]) -> int:
    """Label of a class that a list calls by its name.

    Args:
        where: Place in the list that errors name, `file:line`.
        name: Class name in the list.
        by_name: Labels by class name, see `labels_by_name`.

    Raises:
        DataError: If no class has this name; the message suggests the nearest one.
    """
    if name not in by_name:
        close = difflib.get_close_matches(name, by_name, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the first is {next(iter(by_name), None)!r}"
        raise DataError(f"{where}: class {name!r}; allowed: one of the dataset's {len(by_name)} class names; {hint}")
    return by_name[name]


def _folder_items(root: Path, folder: Path, label: int, suffixes: Collection[str]) -> Iterable[VideoItem]:
    ids = sorted(
        path.relative_to(root).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file() and not _hidden(path.relative_to(root))
    )
    if not ids:
        raise DataError(
            f"class folder {folder} holds no video; allowed extensions: {', '.join(sorted(suffixes))}; add videos or"
            " remove the folder"
        )
    return (VideoItem(root / video_id, label, video_id) for video_id in ids)


def _hidden(relative: Path) -> bool:
    # macOS leaves "._video.avi" beside each video it copies: right extension, no video
    return any(part.startswith(".") for part in relative.parts)
