"""Videos that are kept as pictures: which files are the frames of a video, in a folder or in a tar, and their bytes.

A video's frames are numbered pictures with one name before the number, from 0 or 1 on without a gap: `img_00001.jpg`,
`00001.jpg`, `frame_000001.png`, `image_00001.jpeg`. Frame k of the video is the k-th of them, counted from 0.
"""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

from vlbench.datasets.specs import VIDEO_EXTENSIONS
from vlbench.datasets.tar_index import TarMembers, tar_index
from vlbench.errors import DataError, DecodeError
from vlbench.names import quoted
from vlbench.regular_files import NotRegularError, open_regular, regular_status

PICTURE_EXTENSIONS: tuple[str, ...] = (".jpeg", ".jpg", ".png")
"""Extensions of frames; upper case counts too."""

TAR = ".tar"
"""Extension of a tar of frames. Compressed ones are none: a frame in the middle of them cannot be read alone."""

_FRAME = re.compile(r"(?P<series>.*?)(?P<number>[0-9]{1,18})(?P<kind>\.jpe?g|\.png)", re.IGNORECASE | re.DOTALL)
_FLOW = frozenset({"flow_x", "flow_x_", "flow_y", "flow_y_"})
"""Names before the number of optical flow, which tools such as mmaction2's write beside the frames."""


class Frames(Protocol):
    """The frames of one video as files.

    Attributes:
        names: File names of the frames; the k-th is frame k.
    """

    names: tuple[str, ...]

    def read(self, index: int) -> bytes:
        """The bytes of the picture that is a frame.

        Args:
            index: Number of the frame in `[0, len(names))`.

        Raises:
            OSError: If the picture cannot be read or is no regular file.
        """
        ...

    def stamp(self) -> tuple[int, int]:
        """Sum of the frames' sizes in bytes, and the time of the last change of any of them, in nanoseconds.

        Raises:
            OSError: If a frame cannot be looked at.
        """
        ...

    def close(self) -> None:
        """Release the files."""
        ...


class FolderFrames:
    """The frames of one video in a folder. See `Frames`.

    Args:
        folder: Folder of the pictures; what else is in it does not matter.

    Raises:
        OSError: If the folder cannot be read.
        DecodeError: If the pictures are not the frames of one video, see `in_order`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with os.scandir(folder) as entries:
            self.names = in_order(folder, (entry.name for entry in entries))

    def read(self, index: int) -> bytes:
        """The bytes of frame `index`; see `Frames.read`."""
        with open_regular(self.folder / self.names[index]) as file:
            return file.readall()

    def stamp(self) -> tuple[int, int]:
        """Sum of sizes and last change; see `Frames.stamp`."""
        statuses = [regular_status(self.folder / name) for name in self.names]
        changes = [status.st_mtime_ns for status in (*statuses, self.folder.stat())]
        return sum(status.st_size for status in statuses), max(changes)

    def close(self) -> None:
        """Nothing is open."""


class TarFrames:
    """The frames of one video in a tar, which is read where it lies. See `Frames`.

    Args:
        tar: Path of the tar, which holds the frames of one video or of many.
        folder: Folder in the tar that holds the frames; `None` for a tar of one video.

    Raises:
        OSError: If the tar cannot be read.
        DecodeError: If the tar is damaged or compressed, it has no such folder, or the pictures are not the frames of
            one video, see `in_order`.
    """

    def __init__(self, tar: Path, folder: str | None) -> None:
        self.tar = tar
        index = tar_index(tar)
        if folder is None:
            folders = [name for name in index.folders if _has_frames(index.names(name))]
            if len(folders) != 1:
                raise DecodeError(tar, f"it holds the frames of {len(folders)} videos; allowed: one, or a folder of it")
            (folder,) = folders
        path = tar / folder
        if folder not in index.folders:
            raise DecodeError(path, f"the tar has no folder {folder!r}")
        members = index.members(folder)
        self.names = in_order(path, members)
        self._members: TarMembers = members

    @cached_property
    def _file(self) -> int:
        with open_regular(self.tar) as file:
            return os.dup(file.fileno())

    def read(self, index: int) -> bytes:
        """The bytes of frame `index`; see `Frames.read`."""
        offset, size = self._members[self.names[index]]
        return os.pread(self._file, size, offset)

    def stamp(self) -> tuple[int, int]:
        """Sum of sizes and last change, that of the tar; see `Frames.stamp`."""
        sizes = (self._members[name][1] for name in self.names)
        return sum(sizes), regular_status(self.tar).st_mtime_ns

    def close(self) -> None:
        """Closes the tar."""
        if "_file" in self.__dict__:
            os.close(self.__dict__.pop("_file"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def frames_of(path: Path) -> Frames:
    """The frames of a video that is kept as pictures.

    Args:
        path: A folder of frames, a tar of the frames of one video, or `<tar>/<folder>`, a folder in a tar.

    Raises:
        OSError: If there is no such folder or tar, or it cannot be read.
        DecodeError: If a tar is damaged or compressed, or the pictures there are not the frames of one video.
    """
    tar = _tar_of(path)
    if tar is not None:
        return TarFrames(tar, None if tar == path else path.relative_to(tar).as_posix())
    if path.is_file():
        raise NotRegularError(errno.EINVAL, "it is a file and no folder of frames or tar of them", str(path))
    return FolderFrames(path)


def is_frames(path: Path) -> bool:
    """Whether a path is that of frames and not of a video file; nothing is said of what lies there.

    A folder with a video's name is no folder of frames, but a mistake in a folder of videos.
    """
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        return False
    return path.is_dir() or _tar_of(path) is not None


def is_there(path: Path) -> bool:
    """Whether there is a file or there are frames at a video's path; nothing is said of what they hold.

    Args:
        path: Path of a video.
    """
    return path.is_file() or is_frames(path)


def in_order(where: Path, names: Iterable[str]) -> tuple[str, ...]:
    """The frames of a video among the names of files, in the order of their numbers; optical flow is left out.

    Args:
        where: Folder of the files, for messages.
        names: Names of files in any order; what is no numbered picture is no frame.

    Raises:
        DecodeError: If there is no frame, frames have two names before the number or one number twice, the first has
            another number than 0 or 1, or one is missing.
    """
    series: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for name in names:
        match = _FRAME.fullmatch(name)
        if match is None or name.startswith(".") or match["series"].lower() in _FLOW:
            continue
        numbered = series[match["series"], match["kind"].lower()]
        other = numbered.setdefault(int(match["number"]), name)
        if other != name:
            both = sorted((other, name))
            raise DecodeError(where, f"{quoted(both[0])} and {quoted(both[1])} are one frame; keep one of them")
    if not series:
        raise DecodeError(where, "it holds no frames; allowed: numbered .jpg or .png pictures, such as img_00001.jpg")
    if len(series) > 1:
        firsts = sorted(numbered[min(numbered)] for numbered in series.values())[:2]
        raise DecodeError(where, f"{quoted(firsts[0])} and {quoted(firsts[1])} are frames of two kinds; keep one kind")
    (numbered,) = series.values()
    order = sorted(numbered)
    if order[0] > 1:
        first = quoted(numbered[order[0]])
        raise DecodeError(where, f"its first frame is {first}, and frames are numbered from 0 or 1: some are missing")
    for place, number in enumerate(order, start=order[0]):
        if place != number:
            before, after = numbered[place - 1], numbered[number]
            raise DecodeError(where, f"frame {place} is missing: {quoted(before)} is followed by {quoted(after)}")
    return tuple(numbered[number] for number in order)


def frame_places(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of all videos below a folder that are kept as frames, in no order; links are followed.

    A video's name is the path of its folder below `folder`, or inside its tar; that of a tar of one video is the tar's
    without the extension. Hidden files and folders are left out, and what lies in the folder itself is no video.

    Raises:
        DataError: If a folder or a tar cannot be read.
    """
    waiting, seen = [folder], set()
    while waiting:
        current = waiting.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link to a folder that holds it
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
            folders = {entry.name for entry in visible if entry.is_dir()}
            waiting += (current / name for name in folders)
            names = [entry.name for entry in visible if entry.name not in folders]
            if current != folder and _has_frames(names):
                yield current.relative_to(folder).as_posix(), current
            for name in names:
                if name.lower().endswith(TAR):
                    yield from _places_in_tar(current / name, folder)
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}; its videos would be missing, mend it") from error
        except DecodeError as error:
            raise DataError(f"{error.path}: {error.cause}, or move it elsewhere") from error


def _places_in_tar(tar: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    index = tar_index(tar)
    videos = [name for name in index.folders if _has_frames(index.names(name))]
    if videos == [""]:
        yield tar.relative_to(folder).with_suffix("").as_posix(), tar
        return
    yield from ((name, tar / name) for name in videos if name)


def _has_frames(names: Iterable[str]) -> bool:
    return any(name.lower().endswith(PICTURE_EXTENSIONS) and _FRAME.fullmatch(name) for name in names)


def _tar_of(path: Path) -> Path | None:
    """The tar that a path names, or leads into."""
    return next((part for part in (path, *path.parents) if part.suffix.lower() == TAR and part.is_file()), None)
