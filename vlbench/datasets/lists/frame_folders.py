"""Where the frames of videos are that lists call by the names of video files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from typing_extensions import override

from vlbench.datasets.frames import TAR, frame_places, is_frames
from vlbench.datasets.lists.published import VideoFiles, check_below
from vlbench.datasets.specs import VIDEO_EXTENSIONS, VideoItem
from vlbench.errors import DataError

FRAMES = "rawframes"
"""Name of the folder of frames below a dataset's root that mmaction2's tools make."""


class FrameFolders(VideoFiles):
    """Videos below a folder that are kept as frames.

    The frames of the video `class/video.avi` are the folder `class/video` or the tar `class/video.tar`, or a folder or
    tar of that name elsewhere below `folder`, also a folder inside a tar: `more/class/video`, or `video` in no folder.

    Args:
        folder: Folder below which the frames are.
    """

    @override
    def locate(self, official: str, stems: Sequence[str]) -> Path:
        """The frames of a video; the official place without extension where there are none, so that it is unreadable.

        Args:
            official: Path of the video file below the folder.
            stems: Names that the frames' folder or tar may have anywhere below the folder; the first found counts.

        Raises:
            DataError: If two folders or tars have the name, a folder or a tar cannot be read, or the official path
                leaves the folder.
        """
        check_below(self.folder, official)
        return self._at(official) or super().locate(without_extension(official), stems)

    @override
    def find(self, item: VideoItem) -> VideoItem:
        """The same video at the place of its frames, or where they should be.

        Names of videos may be those of others in other folders, so the folders that the list names count: frames
        elsewhere are those of the video if they lie in all of these folders, or in none that says another thing.

        Args:
            item: Video of a list.

        Raises:
            DataError: If two folders or tars may be meant, or a folder or a tar cannot be read.
        """
        below = item.path.is_relative_to(self.folder)
        official = item.path.relative_to(self.folder) if below else item.path
        place = self._at(str(official)) or self._elsewhere(official)
        return item._replace(path=place or self.folder / without_extension(str(official)))

    def _at(self, official: str) -> Path | None:
        """The frames at the place of a video file, where they are looked for first: listing all folders takes long."""
        bare = without_extension(official)
        places = (self.folder / official, self.folder / bare, self.folder / f"{bare}{TAR}")
        return next((place for place in places if is_frames(place)), None)

    def _elsewhere(self, official: Path) -> Path | None:
        named = official.parent.parts
        stem = without_extension(official.name)
        places = [
            folder / name
            for folder, name in self._by_stem.get(stem, [])
            if _agree(named, _folders(folder.relative_to(self.folder)))
        ]
        if len(places) > 1:
            raise DataError(f"{stem!r} is {places[0]} or {places[1]}; keep one of them below {self.folder}")
        return places[0] if places else None

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[Path, str]]]:
        by_stem: dict[str, list[tuple[Path, str]]] = defaultdict(list)
        for name, path in frame_places(self.folder) if self.folder.is_dir() else ():
            by_stem[name.rpartition("/")[2]].append((path.parent, path.name))
        return by_stem


def _folders(above: Path) -> tuple[str, ...]:
    """The folders above some frames that say what video they are of, among them a tar of several videos."""
    parts = [part.removesuffix(TAR) for part in above.parts]
    general = bool(parts) and (parts[0] in (FRAMES, "frames") or parts[0].startswith(f"{FRAMES}_"))
    return tuple(parts[1:] if general else parts)


def _agree(named: tuple[str, ...], folders: tuple[str, ...]) -> bool:
    """Whether frames are in all the folders that a list names, in their order, or in the last of these and no other."""
    remaining = iter(folders)
    return all(name in remaining for name in named) or named[len(named) - len(folders) :] == folders


def refuse_shared_frames(items: Iterable[VideoItem]) -> None:
    """Refuses two videos of a list that have the same frames: those of one of them are missing.

    Args:
        items: Videos of a list with the places of their frames.

    Raises:
        DataError: If two have one place, and are not two parts of one video.
    """
    first: dict[Hashable, VideoItem] = {}
    for item in items:
        other = first.setdefault((item.path, item.span), item)
        if other is not item:
            raise DataError(
                f"{item.path} holds the frames of {other.id!r} and of {item.id!r}; give each video a folder of its own,"
                " at its path in the list without the extension"
            )


def frame_folders(names: Sequence[str]) -> list[str]:
    """Paths below a dataset's root that the folder of its frames may have, the likeliest first.

    mmaction2's is `rawframes`, with the frames of a part in `rawframes_<part>` where the dataset has folders for parts.

    Args:
        names: Paths below the root that the folder of its video files may have.
    """
    of_parts = [f"{above}{name}" for above in ("rawframes_", "rawframes/", "frames/") for name in names]
    return [*of_parts, FRAMES, "frames", *names]


def without_extension(path: str) -> str:
    """A path without the extension of a video; other ends of names stay.

    Args:
        path: Path of a video file, or of a folder that may have dots in its name.
    """
    stem, dot, extension = path.rpartition(".")
    return stem if f"{dot}{extension}".lower() in VIDEO_EXTENSIONS else path
