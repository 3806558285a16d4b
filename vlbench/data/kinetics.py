"""Kinetics-400."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from vlbench.data.datamodule import Part, VideoDataModule
from vlbench.data.specs import DatasetSpec, VideoItem
from vlbench.errors import DataError

_NAMES = Path(__file__).parent / "assets" / "classes" / "kinetics400.txt"
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


class Kinetics400(VideoDataModule):
    """Kinetics-400: 400 actions; as everywhere in the field, the official validation set is the test set.

    Below `root`: `annotations/{train,val}.csv` as released, and the videos below `train/` and `val/`, in class folders
    or not, named `<youtube id>_<start>_<end>` (six digits each) or `<youtube id>`. A listed video that is not there
    counts as unreadable: many are no longer online, and a test set that shrinks silently cannot be compared.
    """

    folder: ClassVar[str] = "kinetics400"
    variants: ClassVar[tuple[str, ...]] = ("kinetics400",)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        return DatasetSpec(
            name="kinetics400",
            class_names=tuple(_NAMES.read_text().splitlines()),
            licence="annotations CC BY 4.0; the videos come from YouTube and belong to their uploaders",
            source="https://github.com/cvdfoundation/kinetics-dataset",
        )

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        official = "val" if part == "test" else part
        annotations, videos = self.root / "annotations" / f"{official}.csv", self.root / official
        for needed in (annotations, videos):
            if not needed.exists():
                raise self.missing(needed)
        labels = {name: label for label, name in enumerate(self.spec.class_names)}
        present = {path.stem: path for path in sorted(videos.rglob("*")) if path.is_file()}
        return list(_items(annotations, videos, labels, present))


def _items(annotations: Path, videos: Path, labels: dict[str, int], present: dict[str, Path]) -> Iterator[VideoItem]:
    with annotations.open(newline="") as file:
        rows = csv.DictReader(file)
        absent = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if absent:
            raise DataError(f"{annotations}: the header {rows.fieldnames} lacks {', '.join(absent)}")
        for row in rows:
            where = f"{annotations}:{rows.line_num}"
            if row["label"] not in labels:
                raise DataError(f"{where}: {row['label']!r} is no class of Kinetics-400; use the released file")
            try:
                name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
            except ValueError as error:
                raise DataError(f"{where}: the times are not whole seconds: {error}") from error
            path = present.get(name) or present.get(row["youtube_id"]) or videos / f"{name}.mp4"
            yield VideoItem(path, labels[row["label"]], f"{videos.name}/{name}")
