"""Breakfast Actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.frames import frame_places
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.specs import VIDEO_EXTENSIONS, DatasetSpec, Part, VideoItem, content_digest
from vlbench.errors import DataError
from vlbench.names import quoted

ACTIVITIES: dict[str, str] = {
    "cereals": "cereals",
    "coffee": "coffee",
    "friedegg": "fried egg",
    "juice": "juice",
    "milk": "milk",
    "pancake": "pancake",
    "salat": "salad",
    "sandwich": "sandwich",
    "scrambledegg": "scrambled egg",
    "tea": "tea",
}
"""Words of each activity by its name in the file names, in alphabetical order; a class's label is its place."""

_FIRST, _LAST, _OF_SPLIT = 3, 54, 13  # numbers of the persons, and how many of them a split tests
_FILE = re.compile(r"(?P<person>P\d\d)_(?P<activity>[a-z]+)(?:_(?P<channel>ch[01]))?")


class _Take(NamedTuple):
    """One person's activity as one camera saw it.

    Attributes:
        folder: Folder of the camera below the video folder, `P03/cam01`.
        activity: Name of the activity in the file names.
    """

    folder: str
    activity: str

    @property
    def person(self) -> int:
        """Number of the person, 3 to 54."""
        return int(self.folder[1:3])


class Breakfast(VideoDataset):
    """Breakfast Actions: 10 activities of 52 persons in kitchens, each filmed by three to five cameras.

    Below `root`: `BreakfastII_15fps_qvga_sync/P<person>/<camera>/P<person>_<activity>.avi`, as the official archive
    unpacks; the two channels of a stereo camera end in `_ch0` and `_ch1`. An item is a take of a camera; of a stereo
    camera it is channel 0, or channel 1 where that is all there is. Split k tests the persons P03 to P15, P16 to P28,
    P29 to P41 or P42 to P54 and trains on the others.

    There are no official lists of videos: the videos are those in the folder, and the digest of the dataset has their
    names. No counts are expected, since papers count cameras differently. Class names are words, "fried egg", "salad".
    """

    folder: ClassVar[str] = "breakfast"
    variants: ClassVar[tuple[str, ...]] = ("breakfast",)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        return DatasetSpec(
            name="breakfast",
            class_names=tuple(ACTIVITIES.values()),
            splits=4,
            about={"train": 1_300, "test": 430},
            licence="terms on the page of the source; vlbench does not know them",
            source="https://serre-lab.clps.brown.edu/resource/breakfast-actions-dataset/"
            " (BreakfastII_15fps_qvga_sync.tar.gz)",
        )

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        first = _FIRST + (split - 1) * _OF_SPLIT
        tested = range(first, first + _OF_SPLIT)
        labels = {activity: label for label, activity in enumerate(ACTIVITIES)}
        return [
            VideoItem(self.video_folder / name, labels[take.activity], name)
            for take, name in self._takes.items()
            if (take.person in tested) == (part == "test")
        ]

    @override
    def content(self, part: Part) -> str:
        return content_digest([*self.spec.class_names, *self._takes.values()])

    @property
    @override
    def video_folder(self) -> Path:
        return self.folder_of("BreakfastII_15fps_qvga_sync")

    @cached_property
    def _takes(self) -> dict[_Take, str]:
        """The file of each take, below the video folder, in alphabetical order."""
        folder = self.video_folder
        if not folder.is_dir():
            raise self.missing(folder)
        channels: dict[_Take, dict[str, str]] = {}
        for take, channel, name in _files(folder, sorted(self._names(folder))):
            other = channels.setdefault(take, {}).setdefault(channel, name)
            if other != name:
                raise DataError(f"{quoted(str(folder / other))} and {quoted(name)} are one video; keep one of them")
        if not channels:
            what, ending = ("frames", "") if self.stored == "frames" else ("video", ".avi")
            raise DataError(f"{folder} holds no {what}; allowed: P<person>/<camera>/P<person>_<activity>{ending}")
        return {take: files[min(files)] for take, files in channels.items()}

    def _names(self, folder: Path) -> list[str]:
        """Paths of the video files below a folder; of videos that are kept as frames, those of the official files."""
        if self.stored == "frames":
            return [f"{name}.avi" for name, _ in frame_places(folder)]
        index = FileIndex(folder)
        names = list(index.named(folder, VIDEO_EXTENSIONS))
        index.save()
        return names


def _files(folder: Path, names: list[str]) -> Iterator[tuple[_Take, str, str]]:
    """The take and the channel that each file is of, and its name; the channel is empty where there is one alone.

    Raises:
        DataError: If a file is in no folder of a person and a camera, or its name is no person's and activity's.
    """
    for name in names:
        path = PurePosixPath(name)
        named = _FILE.fullmatch(path.stem)
        person = path.parts[0]
        if (
            len(path.parts) != 3
            or named is None
            or named["person"] != person
            or named["activity"] not in ACTIVITIES
            or not _FIRST <= int(person[1:]) <= _LAST
        ):
            raise DataError(
                f"{quoted(str(folder / name))} is no video of Breakfast; allowed:"
                f" P<person>/<camera>/P<person>_<activity>, persons P{_FIRST:02} to P{_LAST}, activities"
                f" {', '.join(ACTIVITIES)}"
            )
        yield _Take(f"{person}/{path.parts[1]}", named["activity"]), named["channel"] or "", name
