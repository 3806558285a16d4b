"""Where the members of a tar are, so that each can be read alone, wherever in the tar it lies.

Readers of shards such as webdataset's go through a tar from start to end, because they shuffle in a buffer. Here the
frames of a clip are named by the draw of a seed, and a test video is read once, by any process: that takes an index.
An index is made once, by the standard library, and kept in the user's cache folder for as long as the tar is the same.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vlbench.errors import DecodeError
from vlbench.files import cache_folder, write_atomically
from vlbench.regular_files import open_regular, regular_status

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VERSION = 1
_KEPT = 256  # indices in memory; a shard of 100,000 frames takes 3 MB


class TarIndex:
    """Folders of a tar, and where the files in each of them begin.

    Args:
        folders: Rows of each folder's files in `rows`, by the folder's path in the tar; `""` is the tar itself.
        rows: Structured array `(N,)` with the fields `name`, `offset` and `size`, in bytes.
    """

    def __init__(self, folders: Mapping[str, slice], rows: NDArray[Any]) -> None:
        self.folders = folders
        self._rows = rows

    def names(self, folder: str) -> Iterator[str]:
        """Names of the files in a folder of the tar, those of deeper folders left out.

        Args:
            folder: Path of the folder in the tar.
        """
        return map(os.fsdecode, self._rows["name"][self.folders[folder]].tolist())

    def members(self, folder: str) -> TarMembers:
        """Offset and size in bytes of the files in a folder of the tar, by name.

        Args:
            folder: Path of the folder in the tar.
        """
        rows = self._rows[self.folders[folder]].tolist()
        return {os.fsdecode(name): (offset, size) for name, offset, size in rows}


TarMembers = Mapping[str, tuple[int, int]]
"""Offset and size in bytes of files in a tar, by name."""


def tar_index(path: Path) -> TarIndex:
    """The index of a tar, from the cache where the tar has not changed since.

    Args:
        path: Path of an uncompressed tar.

    Raises:
        OSError: If the tar cannot be read or is no regular file.
        DecodeError: If it is damaged, compressed or no tar, or has a file twice.
    """
    status = regular_status(path)
    return _index(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=_KEPT)
def _index(path: Path, size: int, mtime_ns: int) -> TarIndex:
    import numpy as np  # late: lists of videos are read without it

    key = hashlib.blake2b(os.fsencode(path), digest_size=10).hexdigest()
    kept = cache_folder() / "tars" / f"{path.stem[:40]}-{key}.npz"
    stamp = np.array([_VERSION, size, mtime_ns], np.int64)
    try:
        with np.load(kept, allow_pickle=False) as stored:
            if np.array_equal(stored["stamp"], stamp):
                return _of(stored["folders"], stored["stops"], stored["rows"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # there is none, or it is damaged
    folders, stops, rows = _read(path)
    content = io.BytesIO()
    np.savez(content, stamp=stamp, folders=folders, stops=stops, rows=rows)
    write_atomically(kept, content.getvalue())
    return _of(folders, stops, rows)


def _of(folders: NDArray[Any], stops: NDArray[Any], rows: NDArray[Any]) -> TarIndex:
    ends = stops.tolist()
    names = map(os.fsdecode, folders.tolist())
    return TarIndex(dict(zip(names, map(slice, [0, *ends], ends), strict=True)), rows)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Folders, where the rows of each end, and the rows, as `TarIndex` has them."""
    import numpy as np

    files: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with open_regular(path) as file, tarfile.open(fileobj=io.BufferedReader(file), mode="r:") as tar:
            for member in tar:
                if not member.isreg() or member.issparse():
                    continue
                place = PurePosixPath(member.name)
                folder = files.setdefault(str(place.parent) if place.parent.parts else "", {})
                if place.name in folder:
                    raise DecodeError(path, f"it has {member.name!r} twice; make it again")
                folder[place.name] = (member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every one
            # The library takes a damaged header for the end.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early, or has a damaged header")
    except (tarfile.TarError, EOFError) as error:
        raise DecodeError(path, f"it is no whole, uncompressed tar: {error}; fetch or make it again") from error
    rows = [(os.fsencode(name), *where) for folder in files.values() for name, where in folder.items()]
    longest = max((len(name) for name, *_ in rows), default=1)
    return (
        np.array([os.fsencode(name) for name in files], f"S{max(map(len, map(os.fsencode, files)), default=1) or 1}"),
        np.cumsum([len(folder) for folder in files.values()], dtype=np.int64),
        np.array(rows, [("name", f"S{longest}"), ("offset", np.int64), ("size", np.int64)]),
    )
