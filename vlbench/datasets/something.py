"""Something-Something V2."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from typing_extensions import override

from vlbench.datasets.descriptions import ShippedDescriptions
from vlbench.datasets.lists.published import VideoFiles
from vlbench.datasets.lists.text import json_of
from vlbench.datasets.mmaction import MMActionDataset
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import DataError

_NAMES = Path(__file__).parent / "assets" / "classes" / "ssv2.txt"

# The half that the field trains on in base-to-novel experiments.
_BASE = (
    0, 5, 6, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32, 36, 37, 40, 41, 42, 43, 45, 46, 47, 49,
    55, 56, 59, 66, 67, 68, 72, 73, 74, 81, 82, 83, 86, 87, 93, 94, 98, 99, 100, 101, 102, 103, 104, 106, 107, 109, 112,
    114, 120, 121, 122, 123, 125, 127, 129, 130, 134, 135, 140, 143, 144, 145, 146, 147, 148, 149, 150, 151, 152, 153,
    155, 157, 160, 164, 166, 167, 171,
)  # fmt: skip


class SomethingSomethingV2(MMActionDataset):
    """Something-Something V2: 193,690 labelled videos of 174 actions that the order of frames tells apart.

    Below `root`: the videos as `20bn-something-something-v2/<id>.webm`, and the annotations as released, either
    `something-something-v2-{train,validation}.json` or `labels/{train,validation}.json`. The official validation set is
    the test set; the labels of the official test set are not used. Class texts are the templates without brackets,
    "Holding something in front of something", in the order of the official numbers.
    """

    folder: ClassVar[str] = "ssv2"
    variants: ClassVar[tuple[str, ...]] = ("ssv2",)
    mmaction: ClassVar[str] = "sthv2_{part}_list"

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        names = tuple(_NAMES.read_text().splitlines())
        return DatasetSpec(
            name="ssv2",
            class_names=names,
            base_classes=_BASE,
            directional=True,
            lists="ssv2",
            counts={("train", 1): 168_913, ("test", 1): 24_777},
            descriptions=ShippedDescriptions(names, ((self.folder, names),)),
            licence="research use, after registration",
            source="https://developer.qualcomm.com/software/ai-datasets/something-something",
        )

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        listed = self.mmaction_items(part, split)
        if listed is not None:
            return listed
        annotations = self.official_list(part, split)
        for needed in (annotations, self.video_folder):
            if not needed.exists():
                raise self.missing(needed)
        return _items(annotations, self.files_below(self.video_folder), self.spec.class_names)

    @override
    def official_list(self, part: Part, split: int) -> Path:
        official = "validation" if part == "test" else part
        alone = self.root / f"something-something-v2-{official}.json"
        return alone if alone.exists() else self.root / "labels" / f"{official}.json"

    @override
    def official_id(self, stem: str, label: int) -> str:
        return stem

    @property
    @override
    def video_folder(self) -> Path:
        return self.folder_of("20bn-something-something-v2", "videos")

    @override
    def video_id(self, name: str, label: int) -> str:
        return PurePosixPath(name).stem


def _items(annotations: Path, files: VideoFiles, class_names: tuple[str, ...]) -> list[VideoItem]:
    labels = {name: label for label, name in enumerate(class_names)}
    items: dict[str, VideoItem] = {}
    for entry in _entries(annotations):
        video, name = entry["id"], entry["template"].replace("[", "").replace("]", "")
        if name not in labels:
            raise DataError(
                f"{annotations}: video {video} has the template {entry['template']!r}, without brackets none of the"
                f" {len(labels)} classes; use the released file of version 2"
            )
        if video in items:
            raise DataError(f"{annotations}: video {video} is listed twice; use the released file")
        items[video] = VideoItem(files.locate(f"{video}.webm", (video,)), labels[name], video)
    return list(items.values())


def _entries(annotations: Path) -> list[dict[str, Any]]:
    """The videos of an annotation file, each with the strings `id` and `template`.

    Raises:
        DataError: If the file is not a JSON list of such videos.
    """
    entries = json_of(annotations)
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{annotations} holds no list of videos; use the released train.json or validation.json")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(_is_stated(entry.get(key)) for key in ("id", "template")):
            raise DataError(f"{annotations}: entry {number} is {entry!r}; allowed: an object with 'id' and 'template'")
    return entries


def _is_stated(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
