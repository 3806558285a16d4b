"""Diving48."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from vlbench.datasets.lists.text import json_of
from vlbench.datasets.named_by_file import NamedByFile
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import DataError

_CLASSES = 48
_LISTS = {"v2": "Diving48_V2_{part}.json", "v1": "Diving48_{part}.json"}
_COUNTS: Mapping[str, dict[tuple[str, int], int]] = {"v2": {("train", 1): 15_027, ("test", 1): 1_970}}
_FOLDERS = ("rgb", "videos")


class Diving48(NamedByFile):
    """Diving48: competitive dives of 48 kinds, which differ in the take-off and in turns in the air.

    Below `root`: the videos as `rgb/<name>.mp4` (or below `videos/`), the lists as released, and the vocabulary
    `Diving48_vocab.json`, whose entries of four parts are the classes; their text is the four parts with blanks between
    them, "Back 15som 05Twis FREE". The videos are trimmed to the dive, so that the frame numbers of the lists are not
    needed. Variants: `v2`, the cleaned labels of 2020, and `v1`, the first ones, which papers call noisy.

    Counts are those of `v2`; for `v1` none is expected.
    """

    folder: ClassVar[str] = "diving48"
    variants: ClassVar[tuple[str, ...]] = ("v2", "v1")

    @property
    @override
    def facts(self) -> DatasetSpec:
        return DatasetSpec(
            name="diving48",
            class_names=(),
            class_count=_CLASSES,
            names_file="Diving48_vocab.json",
            counts=_COUNTS.get(self.variant),
            about={"train": 15_000, "test": 2_000},
            licence="terms on the page of the source; vlbench does not know them",
            source="http://www.svcl.ucsd.edu/projects/resound/dataset.html"
            f" ({_LISTS[self.variant].format(part='{train,test}')}, Diving48_vocab.json, Diving48_rgb.tar.gz)",
        )

    @override
    def read_names(self, path: Path) -> list[str]:
        entries = json_of(path)
        if not isinstance(entries, list):
            raise DataError(f"{path} holds no list of classes; use the released vocabulary")
        for label, entry in enumerate(entries):
            if not (isinstance(entry, list) and len(entry) == 4 and all(isinstance(part, str) for part in entry)):
                raise DataError(f"{path}: class {label} is {entry!r}; allowed: a list of four strings, as released")
        return [" ".join(entry) for entry in entries]

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        annotations = self.root / _LISTS[self.variant].format(part=part)
        for needed in (annotations, self.video_folder):
            if not needed.exists():
                raise self.missing(needed)
        files = self.files_below(self.video_folder)
        items: dict[str, VideoItem] = {}
        for video, label in _entries(annotations, len(self.spec.class_names)):
            if video in items:
                raise DataError(f"{annotations}: video {video!r} is listed twice; use the released file")
            items[video] = VideoItem(files.locate(f"{video}.mp4", (video,)), label, video)
        return list(items.values())

    @property
    @override
    def video_folder(self) -> Path:
        return self.folder_of(*_FOLDERS)


def _entries(annotations: Path, num_classes: int) -> list[tuple[str, int]]:
    """Name and label of the videos of a list, in its order.

    Raises:
        DataError: If the file is not a JSON list of such videos.
    """
    entries: Any = json_of(annotations)
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{annotations} holds no list of videos; use the released file")
    for number, entry in enumerate(entries):
        facts = entry if isinstance(entry, dict) else {}
        video, label = facts.get("vid_name"), facts.get("label")
        if not (isinstance(video, str) and video.strip() and type(label) is int and 0 <= label < num_classes):
            raise DataError(
                f"{annotations}: entry {number} is {entry!r}; allowed: an object with a string 'vid_name' and a 'label'"
                f" from 0 to {num_classes - 1}"
            )
    return [(entry["vid_name"], entry["label"]) for entry in entries]
