"""Where the frames of videos are that lists call by the names of video files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from typing_extensions import override

from vlbench.datasets.frames import TAR, frame_places, is_frames
from vlbench.datasets.lists.published import VideoFiles
from vlbench.datasets.specs import VIDEO_EXTENSIONS, VideoItem

FRAMES = "rawframes"
"""Name of the folder of frames below a dataset's root that mmaction2's tools make."""


class FrameFolders(VideoFiles):
    """Videos below a folder that are kept as frames, by stem, wherever they are.

    The frames of the video `class/video.avi` are the folder `class/video` or the tar `class/video.tar`, or the folder
    or tar of that name anywhere below `folder`, also a folder inside a tar.

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
            DataError: If two folders or tars have the name, or a folder or a tar cannot be read.
        """
        # Looked for there first: listing all folders of a large dataset takes long.
        bare = without_extension(official)
        for place in (self.folder / official, self.folder / bare, self.folder / f"{bare}{TAR}"):
            if is_frames(place):
                return place
        return super().locate(bare, stems)

    @override
    def find(self, item: VideoItem) -> VideoItem:
        below = item.path.is_relative_to(self.folder)
        official = item.path.relative_to(self.folder) if below else Path(item.path.name)
        return item._replace(path=self.locate(str(official), (without_extension(official.name),)))

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[Path, str]]]:
        by_stem: dict[str, list[tuple[Path, str]]] = defaultdict(list)
        for name, path in frame_places(self.folder) if self.folder.is_dir() else ():
            by_stem[name.rpartition("/")[2]].append((path.parent, path.name))
        return by_stem


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
