"""ActivityNet 1.3."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.descriptions import ShippedDescriptions
from vlbench.datasets.lists.text import json_of
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import DataError

_NAMES = Path(__file__).parent / "assets" / "classes" / "activitynet.txt"
_SUBSETS: dict[Part, str] = {"train": "training", "test": "validation"}


class ActivityNet(VideoDataset):
    """ActivityNet 1.3: 200 actions in long videos, as trimmed instances.

    An instance is one annotated segment of a video: an item is a file and the seconds in it that are meant, and a video
    has as many items as it has segments. The official validation set is the test set, as the labels of the test set
    are withheld. Below `root`: `activity_net.v1-3.min.json` as released, and the videos `videos/v_<id>.mp4` (or `.mkv`,
    or `.webm`).

    Segments are taken as released: some end after their video does, a few in a thousand are empty and count as
    unreadable. Class names are in alphabetical order and in the official spelling, mistakes included ("Mooping floor").
    """

    folder: ClassVar[str] = "activitynet"
    variants: ClassVar[tuple[str, ...]] = ("activitynet",)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        names = tuple(_NAMES.read_text().splitlines())
        return DatasetSpec(
            name="activitynet",
            class_names=names,
            descriptions=ShippedDescriptions(names, ((self.folder, names),)),
            licence="annotations MIT; the videos come from YouTube and belong to their uploaders",
            source="http://activity-net.org (activity_net.v1-3.min.json)",
        )

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        annotations = self.root / "activity_net.v1-3.min.json"
        for needed in (annotations, self.video_folder):
            if not needed.exists():
                raise self.missing(needed)
        labels = {name: label for label, name in enumerate(self.spec.class_names)}
        files = self.files_below(self.video_folder)
        items: list[VideoItem] = []
        for video, segments in _videos(annotations, _SUBSETS[part]):
            path = files.locate(f"v_{video}.mp4", (f"v_{video}", video))
            for number, segment in enumerate(segments):
                where = f"{annotations}: segment {number} of {video}"
                items.append(
                    VideoItem(path, _label(where, segment, labels), f"{video}/{number}", _span(where, segment))
                )
        return items

    @property
    @override
    def video_folder(self) -> Path:
        return self.folder_of("videos")


def _videos(annotations: Path, subset: str) -> Iterator[tuple[str, list[Any]]]:
    """Id and segments of the videos of a subset, in the order of the file.

    Raises:
        DataError: If the file is not JSON of the released shape.
    """
    content = json_of(annotations)
    try:
        videos = content["database"]
        segments = [(video, list(facts["annotations"])) for video, facts in videos.items() if facts["subset"] == subset]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{annotations} is not ActivityNet's annotation file: {error!r}; allowed: JSON whose 'database' has a"
            " 'subset' and 'annotations' for every video; fetch it again"
        ) from error
    if not segments:
        raise DataError(f"{annotations} has no video of the {subset} subset; use the released file of version 1.3")
    yield from segments


def _label(where: str, segment: Any, labels: dict[str, int]) -> int:
    name = str(segment.get("label")) if isinstance(segment, dict) else ""
    if name not in labels:
        raise DataError(f"{where} is {segment!r}, its label none of the {len(labels)} classes; use version 1.3's file")
    return labels[name]


def _span(where: str, segment: dict[str, Any]) -> tuple[float, float]:
    try:
        start, end = (float(second) for second in segment["segment"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where} is {segment!r}; allowed: a 'segment' of two numbers, its start and end") from error
    if not (math.isfinite(start) and math.isfinite(end)):
        raise DataError(f"{where} lasts from {start} to {end}; allowed: finite seconds")
    return start, end
