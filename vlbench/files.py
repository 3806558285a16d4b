"""Files that are either whole or not there, and the folder for what can be made again."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from vlbench.temporary import temporary_folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes its place when the block ends without an error.

    The temporary name is hidden and has the same suffix. The folder is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name in the same folder, then renames it."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


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
