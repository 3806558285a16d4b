"""Temporary folders, which a command that is killed leaves to the next one to remove."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder that is removed at the end of the block, or by this user's next command if this one is killed.

    It lies with the others of this user's in one folder of the system's temporary folder, and is locked for as long as
    a process lives that has it or a process that it forked.
    """
    with ExitStack() as stack:
        base = Path(tempfile.gettempdir()) / f"vlbench-{os.getuid()}"
        try:
            folder = stack.enter_context(_locked_folder(base))
        except OSError:  # the name is another's, or the file system has no locks: nobody will clean up after a kill
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vlbench-")))
        yield folder


@contextmanager
def _locked_folder(base: Path) -> Iterator[Path]:
    with suppress(FileExistsError):
        base.mkdir(mode=0o700)
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "it is not a folder of this user's alone", str(base))
    with _lock(base):  # between a folder's making and its locking, no other process looks
        for entry in base.iterdir():
            with suppress(OSError), _lock(entry, wait=False):
                shutil.rmtree(entry, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=base))
        lock = ExitStack()
        lock.enter_context(_lock(folder))
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
