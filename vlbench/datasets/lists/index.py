"""What is known about a dataset's files, kept between runs and dropped when a file changes.

One JSON file a dataset root in the user's cache folder. It can be deleted at any time, and a damaged one is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.datasets.frames import frames_of, is_frames
from vlbench.errors import DecodeError
from vlbench.files import cache_folder, write_atomically
from vlbench.regular_files import regular_status

_VERSION = 2
# A folder that changed this recently may change again within the same tick of the file system's clock.
_SETTLED_NS = 2_000_000_000


class Stamp(NamedTuple):
    """What tells that a file is still the same; of a video that is kept as frames, that all of them are.

    Attributes:
        size: Size of the file in bytes, or of all frames.
        mtime_ns: Time of the last change, in nanoseconds.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file's present stamp.

        Raises:
            OSError: If the file cannot be looked at or is no regular one, see `regular_status`.
            DecodeError: If the path is that of frames, and they are not the frames of one video.
        """
        if is_frames(path):
            return cls(*frames_of(path).stamp())
        status = regular_status(path)
        return cls(status.st_size, status.st_mtime_ns)


class FileIndex:
    """Facts about files, and the names of the files below folders, from earlier runs.

    Several processes may use the same index: each writes the whole file in one step, and the last one's facts stay.

    Args:
        root: Folder of the dataset; paths below it are stored relative to it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        key = hashlib.blake2b(os.fsencode(self.root), digest_size=10).hexdigest()
        self.file = cache_folder() / "index" / f"{self.root.name[:40]}-{key}.json"
        self._changed = False
        content = self._read()
        self._facts: dict[str, dict[str, Any]] = content["files"]
        self._folders: dict[str, dict[str, Any]] = content["folders"]

    def get(self, path: Path, fact: str) -> Any | None:
        """A fact that was stored when the file was as it is now, else `None`."""
        entry = self._facts.get(self._key(path))
        try:
            return entry.get(fact) if entry is not None and entry["stamp"] == list(Stamp.of(path)) else None
        except (OSError, DecodeError):  # it is gone
            return None

    def put(self, path: Path, fact: str, value: Any, *, stamp: Stamp) -> None:
        """Keeps a fact.

        Args:
            path: File that the fact is about.
            fact: Name of the fact; raise a number in the name when the meaning changes.
            value: Anything JSON holds, but not `None`.
            stamp: Stamp of the file, taken before the file was read, so that a change while reading counts.
        """
        entry = self._facts.setdefault(self._key(path), {})
        if entry.get("stamp") != list(stamp):
            entry.clear()
            entry["stamp"] = list(stamp)
        entry[fact] = value
        self._changed = True

    def walk(self, folder: Path) -> Iterator[tuple[Path, list[str]]]:
        """A folder and those below it, each with the sorted names of its files, parents before children.

        A file is whatever is no folder, also a link to nothing. Hidden names are left out, links to folders are
        followed. Only folders that changed since the last call are read again, so a large tree costs one look at each
        folder.

        Raises:
            OSError: If a folder cannot be read.
        """
        for current, entry in self._entries(folder):
            yield current, entry["files"]

    def named(self, folder: Path, extensions: Collection[str]) -> Iterator[str]:
        """Paths below a folder, with forward slashes, of what has a name with one of the extensions, whatever it is.

        A folder with such a name is among them, and so is what lies in it.

        Args:
            folder: Folder to look below.
            extensions: Extensions in lower case, with their dot.

        Raises:
            OSError: If a folder cannot be read.
        """
        start = len(str(folder)) + 1 if folder.parts else 0
        for current, entry in self._entries(folder):
            below = "" if current == folder else f"{str(current)[start:]}/"
            for name in chain(entry["files"], entry["folders"]):
                if os.path.splitext(name)[1].lower() in extensions:  # noqa: PTH122 - a Path for each file is slow
                    yield below + name

    def _entries(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        """A folder and those below it, each with what it holds, parents before children."""
        waiting, seen = [folder], set()
        while waiting:
            current = waiting.pop()
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link to a folder that holds it
                continue
            seen.add((status.st_dev, status.st_ino))
            entry = self._listing(current, status)
            yield current, entry
            waiting += (current / name for name in reversed(entry["folders"]))

    def save(self) -> None:
        """Writes the index, if anything in it is new."""
        if self._changed:
            content = {"version": _VERSION, "root": str(self.root), "files": self._facts, "folders": self._folders}
            write_atomically(self.file, json.dumps(content, separators=(",", ":")).encode())
            self._changed = False

    def _listing(self, folder: Path, status: os.stat_result) -> dict[str, Any]:
        """Names of the files and folders in a folder."""
        key = self._key(folder)
        # Copying tools set the first back, and nothing sets the second.
        changed = [status.st_mtime_ns, status.st_ctime_ns]
        known = self._folders.get(key)
        if known is not None and known["changed"] == changed:
            return known
        now = time.time_ns()
        files: list[str] = []
        folders: list[str] = []
        lasting = True
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                is_folder = _is_folder(entry)
                (folders if is_folder else files).append(entry.name)
                # What a link leads to may come to be, a folder among others, without a change of this folder.
                lasting &= is_folder or not entry.is_symlink() or _leads_to_file(entry)
        listing = {"changed": changed, "files": sorted(files), "folders": sorted(folders)}
        if lasting and now - max(changed) > _SETTLED_NS:
            self._folders[key] = listing
            self._changed = True
        return listing

    def _key(self, path: Path) -> str:
        path = path.absolute()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.file.read_bytes())
            whole = all("stamp" in entry for entry in content["files"].values()) and all(
                "changed" in entry and all(isinstance(name, str) for name in chain(entry["files"], entry["folders"]))
                for entry in content["folders"].values()
            )
            if content["version"] == _VERSION and content["root"] == str(self.root) and whole:
                return {name: dict(content[name]) for name in ("files", "folders")}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        return {"files": {}, "folders": {}}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or through a folder that is closed to this user
        return False


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
