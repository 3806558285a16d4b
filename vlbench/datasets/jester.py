"""Jester."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists.annotations import labels_by_name, named_label
from vlbench.datasets.lists.published import VideoFiles
from vlbench.datasets.lists.text import lines_of
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem, content_digest
from vlbench.errors import DataError

# fmt: off
GESTURES: tuple[str, ...] = (
    "Swiping Left", "Swiping Right", "Swiping Down", "Swiping Up",
    "Pushing Hand Away", "Pulling Hand In",
    "Sliding Two Fingers Left", "Sliding Two Fingers Right", "Sliding Two Fingers Down", "Sliding Two Fingers Up",
    "Pushing Two Fingers Away", "Pulling Two Fingers In",
    "Rolling Hand Forward", "Rolling Hand Backward", "Turning Hand Clockwise", "Turning Hand Counterclockwise",
    "Zooming In With Full Hand", "Zooming Out With Full Hand",
    "Zooming In With Two Fingers", "Zooming Out With Two Fingers",
    "Thumb Up", "Thumb Down", "Shaking Hand", "Stop Sign", "Drumming Fingers", "No gesture", "Doing other things",
)
# fmt: on
"""Names of the classes in the order of the official `jester-v1-labels.csv`."""

_OFFICIAL: dict[Part, str] = {"train": "train", "test": "validation"}


class Jester(VideoDataset):
    """Jester: 133,349 labelled videos of 27 hand gestures in front of a camera.

    Below `root`: `jester-v1-{train,validation}.csv` as released, lines of `id;gesture`, and the frames of each video in
    a folder `20bn-jester-v1/<id>/00001.jpg`, or videos named `videos/<id>` with any extension, which then count
    instead and have another digest. The official validation set is the test set; the labels of the test set are
    withheld.

    A mirrored video is of another class, "Swiping Left" is "Swiping Right".
    """

    folder: ClassVar[str] = "jester"
    variants: ClassVar[tuple[str, ...]] = ("jester",)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        return DatasetSpec(
            name="jester",
            class_names=GESTURES,
            directional=True,
            counts={("train", 1): 118_562, ("test", 1): 14_787},
            licence="research use, after registration",
            source="https://developer.qualcomm.com/software/ai-datasets/jester",
        )

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        annotations = self.root / f"jester-v1-{_OFFICIAL[part]}.csv"
        for needed in (annotations, self.video_folder):
            if not needed.exists():
                raise self.missing(needed)
        # Folders of frames hold millions of files, which are not looked for by name.
        files = VideoFiles(self.video_folder) if self._has_videos else None
        labels = labels_by_name(self.spec.class_names)
        items: dict[str, VideoItem] = {}
        for where, line in lines_of(annotations):
            video, _, gesture = (field.strip() for field in line.partition(";"))
            if not (video.isascii() and video.isdecimal() and gesture):
                raise DataError(f"{where}: {line!r}; allowed: the number of a video, a semicolon and its gesture")
            if video in items:
                raise DataError(f"{where}: video {video} was listed before; use the released file")
            path = self.video_folder / video if files is None else files.locate(f"{video}.mp4", (video,))
            items[video] = VideoItem(path, named_label(where, gesture, labels), video)
        if not items:
            raise DataError(f"{annotations} lists no videos; use the released file")
        return list(items.values())

    @override
    def content(self, part: Part) -> str:
        # The official frames have other pixels than videos made of them, and no option says which of the two are read.
        return content_digest([*self.spec.class_names, "videos"]) if self._has_videos else super().content(part)

    @property
    @override
    def video_folder(self) -> Path:
        return self.root / "videos" if self._has_videos else self.folder_of("20bn-jester-v1")

    @property
    def _has_videos(self) -> bool:
        return self.stored == "videos" and (self.root / "videos").is_dir()
