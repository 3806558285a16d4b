"""Readers of annotation lists: what is on disk -> `VideoItem`s with zero-based labels.

A reader checks a list against itself and against the class names, and refuses a doubtful line instead of skipping
it: a dropped line changes an accuracy without anyone noticing. Whether the videos exist is checked elsewhere.

Paths in a list are relative to the dataset's root and use forward slashes. `VideoItem.id` is that path, normalised
(`./a//b.avi` and `a/b.avi` are one video), so it is the same on every machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from vlbench.datasets.frames import PICTURE_EXTENSIONS, TAR, frame_places
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.lists.text import NamedColumns, lines_of
from vlbench.datasets.specs import VIDEO_EXTENSIONS, Stored, VideoItem
from vlbench.errors import DataError
from vlbench.files import stays_below
from vlbench.names import is_text, quoted

PATH_COLUMNS: tuple[str, ...] = ("path", "video")
"""Header names of a CSV's path column."""

LABEL_COLUMNS: tuple[str, ...] = ("label",)
"""Header names of a CSV's column of zero-based integer labels."""

CLASS_COLUMNS: tuple[str, ...] = ("class", "class_name")
"""Header names of a CSV's column of class names."""

_LONGEST_LABEL = 18  # digits


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
        listed.add(where, fields[0], listed_label(where, fields[1], class_names))
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
    table = NamedColumns(Path(list_file))
    columns = (PATH_COLUMNS, (*LABEL_COLUMNS, *CLASS_COLUMNS))
    table.check(*columns)
    numbered = any(name in LABEL_COLUMNS for name in table.names)
    by_name = labels_by_name(class_names)
    listed = ItemList(root)
    for where, (video, value) in table.rows(*columns):
        label = listed_label(where, value, class_names) if numbered else named_label(where, value, by_name)
        listed.add(where, video, label)
    return listed.finish(list_file)


def read_class_folders(
    root: str | Path,
    *,
    prefix: str = "",
    extensions: Collection[str] = VIDEO_EXTENSIONS,
    stored: Stored = "videos",
) -> tuple[tuple[str, ...], list[VideoItem]]:
    """Read a tree of one folder a class; a folder's name is the class name.

    Classes are in code-point order and so are the videos of a class, whatever order the file system gives. Videos may
    lie in deeper folders, and links to folders are followed. Hidden files and folders and files with other extensions
    are ignored. A video is what is named like one: a link to nothing, a folder or a named pipe with such a name is
    listed, so that it counts as unreadable.

    Args:
        root: Folder of the class folders.
        prefix: Beginning of every video's id, before its path below the root.
        extensions: Extensions of videos, with their dot; upper case counts too.
        stored: What a video is on the disk; of videos that are kept as frames, those that `frame_places` names.

    Raises:
        DataError: If the root is no folder or has no class folders, a class has no video or a name that is no UTF-8, a
            folder cannot be read, a link to nothing lies where a class folder may be meant, or a video lies directly
            below the root and thus in no class.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; allowed: a folder with one folder of videos a class")
    kinds = extensions if stored == "videos" else (TAR, *PICTURE_EXTENSIONS)
    suffixes = frozenset(extension.lower() for extension in kinds)
    try:
        return _class_folders(root, prefix, suffixes, stored)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; its videos would be missing, mend it") from error


class ItemList:
    """Collects items below one root and refuses bad paths and second mentions."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._first: dict[str, str] = {}
        self._items: list[VideoItem] = []

    def add(self, where: str, path: str, label: int, video_id: str | None = None) -> None:
        """Append a video; `where` is the place that errors name, and the path is the id of a video without one."""
        relative = PurePosixPath(path)
        if not relative.name or not stays_below(path):
            raise DataError(f"{where}: path {path!r}; allowed: a path relative to {self._root} that stays below it")
        video_id = str(relative) if video_id is None else video_id
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


def listed_label(where: str, text: str, class_names: Sequence[str] | None) -> int:
    """Label that a list states as a number counted from 0.

    Args:
        where: Place in the list that errors name, `file:line`.
        text: Number in the list.
        class_names: Class names in label order; without them a label has no upper limit.

    Raises:
        DataError: If it is no number, or that of no class.
    """
    allowed = "0 or more" if class_names is None else f"0 to {len(class_names) - 1}"
    # int() also accepts "1_0" and digits of other scripts, which in a list are slips, and refuses thousands of digits.
    if not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= _LONGEST_LABEL):
        raise DataError(f"{where}: label {text[:40]!r} is not an integer; allowed: {allowed}")
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


def _class_folders(
    root: Path, prefix: str, suffixes: Collection[str], stored: Stored
) -> tuple[tuple[str, ...], list[VideoItem]]:
    visible = sorted((entry for entry in root.iterdir() if not entry.name.startswith(".")), key=lambda e: e.name)
    folders = [entry for entry in visible if entry.is_dir()]
    for entry in visible:
        if entry.suffix.lower() in suffixes and not entry.is_dir():
            raise DataError(f"{entry} lies in no class folder; move it into the folder of its class or out of {root}")
        if entry.is_symlink() and not entry.exists():
            raise DataError(f"{entry} is a link to {entry.readlink()}, which is not there; mend the link or remove it")
    if not folders:
        raise DataError(f"{root} has no folders; allowed: one folder of videos a class")
    index = FileIndex(root)
    items: list[VideoItem] = []
    for label, folder in enumerate(folders):
        if stored == "frames":
            items += _frame_items(folder, label, prefix)
        else:
            items += _folder_items(index, folder, label, prefix, suffixes)
    index.save()
    return tuple(folder.name for folder in folders), items


def _frame_items(folder: Path, label: int, prefix: str) -> Iterable[VideoItem]:
    if not is_text(folder.name):
        raise DataError(f"class folder {quoted(str(folder))} has a name that is no UTF-8; rename it")
    places: dict[str, Path] = {}
    for name, path in sorted(frame_places(folder)):
        if places.setdefault(name, path) != path:
            raise DataError(f"{name!r} of class folder {folder} is {places[name]} or {path}; keep one of them")
    if not places:
        raise DataError(
            f"class folder {folder} holds no frames; allowed: a folder, or a tar, of numbered pictures for each video,"
            " such as video/img_00001.jpg; add frames or remove the folder"
        )
    return [VideoItem(path, label, f"{prefix}{folder.name}/{name}") for name, path in places.items()]


def _folder_items(
    index: FileIndex, folder: Path, label: int, prefix: str, suffixes: Collection[str]
) -> Iterable[VideoItem]:
    if not is_text(folder.name):
        raise DataError(f"class folder {quoted(str(folder))} has a name that is no UTF-8; rename it")
    # Hidden files are not in the index: macOS leaves "._video.avi" beside each video it copies, which is no video.
    names = sorted(index.named(folder, suffixes))
    if not names:
        raise DataError(
            f"class folder {folder} holds no video; allowed extensions: {', '.join(sorted(suffixes))}; add videos or"
            " remove the folder"
        )
    beginning = f"{prefix}{folder.name}/"
    return (VideoItem(folder / name, label, beginning + name) for name in names)
