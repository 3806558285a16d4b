"""The lists that mmaction2's tools make of a dataset, read where these leave them: in the dataset's folder.

A list of frames has lines `folder frames label`, one of videos lines `path label`; paths are below `rawframes/` or
`videos/`, labels count from 0. What mmaction2 calls `val` is what the field tests on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists.annotations import ItemList, listed_label, named_label
from vlbench.datasets.lists.frame_folders import without_extension
from vlbench.datasets.lists.text import lines_of
from vlbench.datasets.specs import Part, VideoItem
from vlbench.errors import DataError

_PARTS: Mapping[Part, str] = {"train": "train", "test": "val"}


class MMActionDataset(VideoDataset):
    """A dataset that mmaction2 has lists of. Its own list comes first, but where videos are kept as frames.

    mmaction2's list of frames says how many frames each video has, so that one whose frames are not all there is
    noticed. Their videos have the ids that the official lists give them.
    """

    mmaction: ClassVar[str]
    """Name of mmaction2's lists, with the fields `part` and `split`."""
    class_folders: ClassVar[Mapping[str, int]] = {}
    """Label of each class folder; empty where videos have no class folder, so that a list's labels are believed."""

    @abstractmethod
    def official_list(self, part: Part, split: int) -> Path:
        """File or folder that says which videos a part of an official split has."""

    @abstractmethod
    def official_id(self, stem: str, label: int) -> str:
        """The id that the official lists give a video.

        Args:
            stem: File name of the video without extension, or name of the folder of its frames.
            label: Label of the video.
        """

    @override
    def lineage(self, part: Part, split: int) -> str:
        return "official" if self._mmaction_list(part, split) is None else "mmaction2"

    def mmaction_items(self, part: Part, split: int) -> list[VideoItem] | None:
        """The videos of mmaction2's list of a part, `None` where the official list counts.

        Raises:
            DataError: If a line has another shape, a video is listed twice, or its label is another one than that of
                its class folder or its name.
        """
        path = self._mmaction_list(part, split)
        if path is None:
            return None
        if not self.video_folder.is_dir():
            raise self.missing(self.video_folder)
        counted = self.stored == "frames"
        listed, counts, names = ItemList(self.video_folder), [], self.spec.class_names
        for where, line in lines_of(path):
            fields = line.rsplit(maxsplit=2 if counted else 1)
            if len(fields) != (3 if counted else 2) or (counted and not _is_count(fields[1])):
                allowed = "'folder frames label', such as 'a/v_1 163 0'" if counted else "'path label'"
                raise DataError(f"{where}: {line!r}; allowed: {allowed}; make the list again with mmaction2's tools")
            label = listed_label(where, fields[-1], names)
            video = PurePosixPath(fields[0])
            video_id = self.official_id(without_extension(video.name), label)
            self._check_label(where, video, video_id, label)
            listed.add(where, fields[0], label, video_id)
            counts.append(int(fields[1]) if counted else None)
        items = listed.finish(path)
        return [item._replace(frames=count) for item, count in zip(items, counts, strict=True)]

    def _mmaction_list(self, part: Part, split: int) -> Path | None:
        if part not in _PARTS or (self.stored == "videos" and self.official_list(part, split).exists()):
            return None
        stem = self.mmaction.format(part=_PARTS[part], split=split)
        path = self.root / f"{stem}_{'rawframes' if self.stored == 'frames' else 'videos'}.txt"
        return path if path.is_file() else None

    def _check_label(self, where: str, video: PurePosixPath, video_id: str, label: int) -> None:
        stated = {self.label_of(video_id)} - {None}
        if self.class_folders and video.parent.name:
            stated.add(named_label(where, video.parent.name, self.class_folders))
        for other in stated - {label}:
            assert other is not None
            names = self.spec.class_names
            raise DataError(
                f"{where}: {str(video)!r} has label {label}, {names[label]!r}, and its name or folder says {other},"
                f" {names[other]!r}; the list counts in another order of classes: make it with the official one"
            )


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9
