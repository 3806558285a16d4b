"""Anybody's own videos."""

from __future__ import annotations

import os
from collections.abc import Hashable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, get_args

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists.annotations import (
    CLASS_COLUMNS,
    read_class_folders,
    read_csv,
    read_path_label,
)
from vlbench.datasets.lists.text import NamedColumns, text_of
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem, content_digest
from vlbench.errors import DataError
from vlbench.names import one_line


class FolderVideos(VideoDataset):
    """Your own videos in a folder; the dataset has the folder's name.

    Each of the parts train, validation and test is, below `root`, the first of these that is there, and may be absent:

    - `<part>.csv`: a header with `path` and `class` (or `label`, a number), see `read_csv`;
    - `<part>.txt`: lines `path label`, see `read_path_label`;
    - `<part>/<class>/...`: a folder of videos, or of folders of frames, for each class, see `read_class_folders`.

    Paths in lists are relative to `root`, labels count from 0. The file `classes.txt` gives the classes in the order of
    their labels, one a line: the name, and after a tab the wording for prompts, where that is another. Lists with
    numbers need it. Without it the classes are those of the folders and lists, the same in every part, in alphabetical
    order.
    """

    folder: ClassVar[str] = "videos"
    variants: ClassVar[tuple[str, ...]] = ("folder",)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        return DatasetSpec(
            name=one_line(_real_name(self.root)), class_names=tuple(self._wordings.values()), source="your own videos"
        )

    @property
    @override
    def variant_label(self) -> str:
        return self.spec.name

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        source, names = _source(self.root, part), list(self._wordings)
        if source is None:
            return []
        if source.suffix == ".csv":
            return read_csv(source, self.root, class_names=names)
        if source.suffix == ".txt":
            return read_path_label(source, self.root, class_names=names)
        folders, items = read_class_folders(source, prefix=f"{part}/", stored=self.stored)
        strange = [folder for folder in folders if folder not in names]
        if strange:
            raise DataError(
                f"{source}: the folders {', '.join(strange)} are none of the {len(names)} classes of"
                f" {self.root / 'classes.txt'}; rename them or list them there"
            )
        labels = [names.index(folder) for folder in folders]
        return [item.relabelled(labels[item.label]) for item in items]

    @override
    def content(self, part: Part) -> str:
        # Sorted: the order in which a folder lists its videos is no part of them.
        videos = sorted(f"{item.label} {item.id} {item.span or ''}" for item in self.items(part, 1))
        return content_digest([*self.spec.class_names, *videos])

    @override
    def video_key(self, item: VideoItem) -> Hashable:
        """The file, whatever it is called in the part: links to a file are the same video."""
        try:
            status = item.path.stat()
        except OSError:  # a listed video that is not there
            return item.id
        return status.st_dev, status.st_ino, item.span

    @cached_property
    def _wordings(self) -> dict[str, str]:
        """The wording of each class by its name, in the order of the labels."""
        listed = self.root / "classes.txt"
        return _read_classes(listed) if listed.is_file() else {name: name for name in _common_classes(self.root)}


def _real_name(root: Path) -> str:
    return Path(os.path.realpath(root)).name  # unlike `Path.resolve`, no error at a link to itself


def _source(root: Path, part: Part) -> Path | None:
    """What says which videos a part has, `None` where there is no such part."""
    for source in (root / f"{part}.csv", root / f"{part}.txt"):
        if source.is_file():
            return source
    return root / part if (root / part).is_dir() else None


def _read_classes(listed: Path) -> dict[str, str]:
    lines = [line.partition("\t") for line in text_of(listed).split("\n") if line.strip()]
    wordings = {name.strip(): wording.strip() or name.strip() for name, _, wording in lines}
    if not lines or "" in wordings or len(set(wordings.values())) != len(lines):
        raise DataError(
            f"{listed}: {len(lines)} lines give {len(set(wordings.values()))} classes; allowed: a class a line, each"
            " once, its name and after a tab, if need be, its wording"
        )
    return wordings


def _common_classes(root: Path) -> list[str]:
    """The classes that the parts have, in alphabetical order.

    Raises:
        DataError: If there is no part, a part does not name its classes, or two parts have other classes.
    """
    sources = [source for part in get_args(Part) if (source := _source(root, part)) is not None]
    if not sources:
        raise DataError(
            f"{root.absolute()} has no videos for FolderVideos; allowed: train, validation or test as a .csv or .txt"
            " list or as a folder with a folder of videos for each class; set it by --data.root DIR"
        )
    first, *others = [(source, _named_classes(source)) for source in sources]
    for source, names in others:
        if names != first[1]:
            only = ", ".join(sorted(names ^ first[1]))
            raise DataError(
                f"{source} has other classes than {first[0]}, in one of them only: {only}; make them the same or list"
                f" all of them in {root / 'classes.txt'}"
            )
    return sorted(first[1])


def _named_classes(source: Path) -> set[str]:
    if source.is_dir():
        return {entry.name for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    table = NamedColumns(source) if source.suffix == ".csv" else None
    if table is None or not {*CLASS_COLUMNS} & {*table.names}:
        raise DataError(
            f"{source} has labels and no class names; list the names, in the order of the labels, one a line in"
            f" {source.with_name('classes.txt')}"
        )
    return {name for _, (name,) in table.rows(CLASS_COLUMNS)}
