"""What is known about a dataset's files, kept between runs and dropped when a file changes.

One JSON file a dataset root in the user's cache folder. It can be deleted at any time, and a damaged one is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.files import cache_folder, write_atomically

_VERSION = 1
# A folder that changed this recently may change again within the same tick of the file system's clock.
_SETTLED_NS = 2_000_000_000


class Stamp(NamedTuple):
    """What tells that a file is still the same.

    Attributes:
        size: Size of the file in bytes.
        mtime_ns: Time of the last change, in nanoseconds.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file's present stamp.

        Raises:
            OSError: If the file cannot be looked at.
        """
        status = path.stat()
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
        self.file = cache_folder() / "index" / f"{self.root.name}-{key}.json"
        self._changed = False
        content = self._read()
        self._facts: dict[str, dict[str, Any]] = content["files"]
        self._folders: dict[str, dict[str, Any]] = content["folders"]

    def get(self, path: Path, fact: str) -> Any | None:
        """A fact that was stored when the file was as it is now, else `None`."""
        entry = self._facts.get(self._key(path))
        try:
            return entry.get(fact) if entry is not None and entry["stamp"] == list(Stamp.of(path)) else None
        except OSError:  # it is gone
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

        Hidden names are left out, links to folders are followed. Only folders that changed since the last call are read
        again, so a large tree costs one look at each folder.

        Raises:
            OSError: If the folder cannot be read.
        """
        waiting, seen = [folder], set()
        while waiting:
            current = waiting.pop()
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link to a folder that holds it
                continue
            seen.add((status.st_dev, status.st_ino))
            entry = self._listing(current, status.st_mtime_ns)
            yield current, entry["files"]
            waiting += (current / name for name in reversed(entry["folders"]))

    def files(self, folder: Path) -> list[Path]:
        """Every file that `walk` finds, sorted.

        Raises:
            OSError: If the folder cannot be read.
        """
        return sorted(current / name for current, names in self.walk(folder) for name in names)

    def save(self) -> None:
        """Writes the index, if anything in it is new."""
        if self._changed:
            content = {"version": _VERSION, "root": str(self.root), "files": self._facts, "folders": self._folders}
            write_atomically(self.file, json.dumps(content, separators=(",", ":")).encode())
            self._changed = False

    def _listing(self, folder: Path, mtime_ns: int) -> dict[str, Any]:
        """Names of the files and folders in a folder."""
        key = self._key(folder)
        known = self._folders.get(key)
        if known is not None and known["mtime_ns"] == mtime_ns:
            return known
        now = time.time_ns()
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
        listing = {
            "mtime_ns": mtime_ns,
            "files": sorted(name for name, is_folder in kinds if not is_folder),
            "folders": sorted(name for name, is_folder in kinds if is_folder),
        }
        if now - mtime_ns > _SETTLED_NS:
            self._folders[key] = listing
            self._changed = True
        return listing

    def _key(self, path: Path) -> str:
        path = path.absolute()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.file.read_bytes())
            if content["version"] == _VERSION and content["root"] == str(self.root):
                return {name: dict(content[name]) for name in ("files", "folders")}
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return {"files": {}, "folders": {}}
