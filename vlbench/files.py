"""Files that are either whole or not there, names that may become files, and the folder for what can be made again."""

from __future__ import annotations

import atexit
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath

from vlbench.errors import ConfigError, WriteError
from vlbench.names import name_bytes
from vlbench.temporary import temporary_folder

TEMPORARY = ".vlbench-tmp-"
"""Beginning of the names of files that are being written; what is left of them was written by a process that died."""

_LONGEST_NAME = 200
"""Bytes of a name that becomes a file's: file systems take 255, and suffixes come after it."""


@contextmanager
def replacing(path: Path, flush: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes its place when the block ends without an error.

    The temporary name begins with `temporary_prefix` and has the same suffix. The folder is made where it is missing.

    Args:
        path: File that is replaced.
        flush: Whether the end waits until the disk holds the file; without, the block does so by `to_disk`.

    Raises:
        WriteError: If the file system refuses; nothing is left of the temporary file.
    """
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path), suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        with _refusals(path, temporary):
            yield temporary
            if flush:
                to_disk(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def to_disk(path: Path) -> None:
    """Waits until the disk holds the content of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def temporary_prefix(path: Path) -> str:
    """Beginning of the name under which a file is written; no longer than the system takes, whatever the file's is.

    Args:
        path: File that is going to be replaced.
    """
    stem = os.fsencode(path.stem)
    short = path.stem if len(stem) <= _LONGEST_NAME else hashlib.blake2b(stem, digest_size=8).hexdigest()
    return f"{TEMPORARY}{short}."


@contextmanager
def _refusals(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Says which file cannot be written; an error about another file than these stays as it is."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        foreign = type(error).__module__ != "builtins"  # a decoder's, of the video that is read
        if foreign or (temporary is not None and error.filename not in (None, str(temporary), temporary)):
            raise
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name in the same folder, then renames it.

    Raises:
        WriteError: If the file system refuses; the old file, if there is one, stays as it is.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def check_writable(folder: Path, option: str) -> None:
    """Whether files can be written to a folder, which is made where it is missing; before hours are spent on them.

    Args:
        folder: Folder that files are going to be written to.
        option: Option that names the folder, for the message.

    Raises:
        ConfigError: If no file can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY):
            pass
    except OSError as error:
        raise ConfigError(f"{option}: cannot write into {folder}: {error.strerror}; give another folder") from error


def check_name(what: str, name: str) -> None:
    """Whether a name can be part of a file's name, and of no other file than the one that is meant.

    Args:
        what: What has the name, for the message.
        name: Name that becomes part of a file's name.

    Raises:
        ConfigError: If the name is empty, leads to another folder, is hidden, too long or not printable.
    """
    long = len(name_bytes(name)) > _LONGEST_NAME
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or long:
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        raise ConfigError(
            f"{what} is {shown!r}, which becomes the name of a file; allowed: printable characters without /, no dot in"
            f" front, at most {_LONGEST_NAME} bytes"
        )


def stays_below(path: str) -> bool:
    """Whether a path of a list is relative and leads to nothing outside the folder that it is relative to.

    Args:
        path: Path with forward slashes.
    """
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


@cache
def cache_folder() -> Path:
    """A writable folder of this user's: under `$XDG_CACHE_HOME` or `~/.cache`, else one that lasts as this process."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vlbench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # a read-only home, as on some clusters
        lasting = ExitStack()
        atexit.register(lasting.close)
        return lasting.enter_context(temporary_folder())
