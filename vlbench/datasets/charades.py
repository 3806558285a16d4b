"""Charades."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from vlbench.datasets.lists.text import NamedColumns, lines_of
from vlbench.datasets.named_by_file import NamedByFile
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import DataError

_COLUMNS = (("id",), ("actions",))
_FOLDERS = ("Charades_v1_480", "Charades_v1", "videos")
_FRAMES = "Charades_v1_rgb"
_ACTION = re.compile(r"c(\d{3}) \d+(?:\.\d+)? \d+(?:\.\d+)?")  # c092 11.90 21.20: a class, and seconds from and to
_CLASSES = 157


class Charades(NamedByFile):
    """Charades: 9,848 videos of everyday actions at home, each with any number of 157 actions.

    Below `root`: `Charades/Charades_v1_{train,test}.csv` and `Charades/Charades_v1_classes.txt`, as the official
    archive unpacks, or the same without the folder `Charades`, and the videos as `Charades_v1_480/<id>.mp4`, or below
    `Charades_v1` or `videos`. The official frames are `Charades_v1_rgb/<id>/<id>-000001.jpg`.

    An item is a whole video with every action in it, once; when the actions take place is not used. A few videos have
    no action. So it is evaluated by mean average precision, and nothing is trained on it.
    """

    folder: ClassVar[str] = "charades"
    variants: ClassVar[tuple[str, ...]] = ("charades",)

    @property
    @override
    def facts(self) -> DatasetSpec:
        return DatasetSpec(
            name="charades",
            class_names=(),
            class_count=_CLASSES,
            names_file="Charades/Charades_v1_classes.txt",
            multi_label=True,
            counts={("train", 1): 7_985, ("test", 1): 1_863},
            licence="that of the archive's license.txt",
            source="https://prior.allenai.org/projects/charades (Charades.zip, Charades_v1_480.zip)",
        )

    @property
    @override
    def names_path(self) -> Path:
        return self._annotations("Charades_v1_classes.txt")

    @override
    def read_names(self, path: Path) -> list[str]:
        names = []
        for label, (where, line) in enumerate(lines_of(path)):
            code, _, name = line.partition(" ")
            if code != f"c{label:03}":
                raise DataError(f"{where}: {line!r}; allowed: c{label:03} and the name of a class, as released")
            names.append(name.strip())
        return names

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        annotations = self._annotations(f"Charades_v1_{part}.csv")
        for needed in (annotations, self.video_folder):
            if not needed.exists():
                raise self.missing(needed)
        files = self.files_below(self.video_folder)
        items: dict[str, VideoItem] = {}
        for where, (video, actions) in NamedColumns(annotations).rows(*_COLUMNS):
            if not video or video in items:
                raise DataError(f"{where}: video {video!r} has no name or was listed before; use the released file")
            labels = _labels(where, actions, len(self.spec.class_names))
            path = files.locate(f"{video}.mp4", (video,))
            items[video] = VideoItem(path, labels[0] if labels else 0, video, labels=labels)
        if not items:
            raise DataError(f"{annotations} lists no videos; use the released file")
        return list(items.values())

    @property
    @override
    def video_folder(self) -> Path:
        return self.folder_of(*_FOLDERS, *((_FRAMES,) if self.stored == "frames" else ()))

    def _annotations(self, name: str) -> Path:
        unpacked, flat = self.root / "Charades" / name, self.root / name
        return flat if flat.is_file() and not unpacked.is_file() else unpacked


def _labels(where: str, actions: str, num_classes: int) -> tuple[int, ...]:
    """Labels of the actions `c092 11.90 21.20;c147 0.00 12.60`, ascending, each once."""
    labels = set()
    for action in filter(None, (each.strip() for each in actions.split(";"))):
        match = _ACTION.fullmatch(action)
        if match is None or int(match[1]) >= num_classes:
            raise DataError(
                f"{where}: action {action!r}; allowed: c000 to c{num_classes - 1:03}, a blank, two times in seconds and"
                " a blank between them"
            )
        labels.add(int(match[1]))
    return tuple(sorted(labels))
