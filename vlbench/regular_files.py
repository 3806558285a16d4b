"""Which files are read: regular ones. Anything else that bears a file's name may block, or never end."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from io import FileIO
from pathlib import Path

from vlbench.files import replacing
from vlbench.names import quoted

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """A path that leads to something else than a regular file; `strerror` says to what."""


def regular_status(path: Path) -> os.stat_result:
    """The status of a regular file, links followed; nothing is opened.

    Raises:
        NotRegularError: If the path leads to a folder, a named pipe, a socket or a device.
        OSError: If the path leads nowhere.
    """
    try:
        return _regular(path, path.stat())
    except FileNotFoundError as error:
        if path.is_symlink():
            cause = f"{error.strerror}, it is a link to {quoted(str(path.readlink()))}"
            raise FileNotFoundError(error.errno, cause, str(path)) from error
        raise
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise OSError(errno.EINVAL, f"no file can have this name: {error}", str(path)) from error


def open_regular(path: Path) -> FileIO:
    """A regular file, opened for reading without a buffer; see `regular_status`.

    What is opened is what was looked at: another file that takes the path in between is looked at again. A named pipe
    is never waited for.
    """
    regular_status(path)
    file = FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    try:
        _regular(path, os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def descriptor_path(file: FileIO) -> str:
    """A path by which another library opens the very file that is open here, whatever its name is.

    A library that is given a name may see an address or a pattern in it. Good for as long as the file is open.
    """
    return f"/proc/self/fd/{file.fileno()}"


def _regular(path: Path, status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise NotRegularError(errno.EINVAL, f"it is {kind} and no regular file", str(path))
    return status


def copy_regular(source: Path, target: Path) -> None:
    """Copies a regular file in one step; see `regular_status` for what is none."""
    with open_regular(source) as content, replacing(target) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(content, copy, 2**20)
