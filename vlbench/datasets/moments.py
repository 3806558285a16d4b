"""Moments in Time."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar

from typing_extensions import override

from vlbench.datasets.lists.annotations import ItemList, labels_by_name, named_label
from vlbench.datasets.lists.text import csv_rows, lines_of
from vlbench.datasets.named_by_file import NamedByFile
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import DataError

_CLASSES = {"mit-305": 305, "mit-339": 339}
_COUNTS = {
    "mit-305": {("train", 1): 727_305, ("test", 1): 30_500},
    "mit-339": {("train", 1): 802_264, ("test", 1): 33_900},
}
_OFFICIAL: dict[Part, str] = {"train": "training", "test": "validation"}


class MomentsInTime(NamedByFile):
    """Moments in Time: events of three seconds, each labelled with one verb.

    Below `root`, as the archive unpacks: `moments_categories.txt`, `{training,validation}Set.csv` and the videos
    `{training,validation}/<class>/<video>.mp4`. The official validation set is the test set. Class names are those of
    `moments_categories.txt` in the order of its numbers, with blanks for plus signs ("adult female singing").

    Variants: `mit-305`, the second edition with 305 classes, and `mit-339`, the first one with 339.
    """

    folder: ClassVar[str] = "moments"
    variants: ClassVar[tuple[str, ...]] = ("mit-305", "mit-339")

    @property
    @override
    def facts(self) -> DatasetSpec:
        return DatasetSpec(
            name="moments",
            class_names=(),
            class_count=_CLASSES[self.variant],
            names_file="moments_categories.txt",
            counts=_COUNTS[self.variant],
            licence="that of the archive's license.txt, after registration; the videos belong to their owners",
            source="http://moments.csail.mit.edu (the archive, with its lists and moments_categories.txt)",
        )

    @override
    def read_names(self, path: Path) -> list[str]:
        numbered: dict[int, str] = {}
        for where, line in lines_of(path):
            name, _, number = (field.strip() for field in line.rpartition(","))
            words = words_of(name)
            if not (words and number.isascii() and number.isdecimal() and len(number) < 10):
                raise DataError(f"{where}: {line!r}; allowed: the name of a class, a comma and its number")
            label = int(number)
            if numbered.setdefault(label, words) != words:
                raise DataError(f"{where}: number {label} was given before; use the released file")
        if sorted(numbered) != list(range(len(numbered))):
            raise DataError(f"{path}: the numbers are not 0 to {len(numbered) - 1}; use the released file")
        return [numbered[label] for label in range(len(numbered))]

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        official = _OFFICIAL[part]
        annotations, videos = self.root / f"{official}Set.csv", self.folder_of(official)
        for needed in (annotations, videos):
            if not needed.exists():
                raise self.missing(needed)
        labels = labels_by_name(self.spec.class_names)
        # Below the folder of the part: a blank name would otherwise be the folder itself.
        listed = ItemList(videos)
        for where, row in csv_rows(annotations):
            if len(row) < 2:
                raise DataError(f"{where}: one field; allowed: the file of a video, its class and two counts")
            video = row[0].strip()
            label = named_label(where, words_of(row[1]), labels)
            listed.add(where, video, label, f"{official}/{PurePosixPath(video)}")
        return listed.finish(annotations)


def words_of(name: str) -> str:
    """The text of a class: a name of the lists with blanks for plus signs."""
    return " ".join(name.replace("+", " ").split())
