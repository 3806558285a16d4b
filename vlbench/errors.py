"""Errors a user can mend: the command line prints their message without a traceback.

A message names the value received, the values allowed and the way out.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class VlbenchError(Exception):
    """Base of every error that is about the user's input and not about a bug."""

    exit_code: ClassVar[int] = 1
    """Exit code of a command that ends with this error: 2 where the command line is to be mended, otherwise 1."""


class ConfigError(VlbenchError):
    """A configuration, an option or a name that cannot be used as given."""

    exit_code = 2


class DataError(VlbenchError):
    """A dataset that is missing, incomplete or contradicts its own lists."""


class CheckpointError(VlbenchError):
    """Weights that are missing, damaged or belong to another model."""

    exit_code = 2


class TrainingError(VlbenchError):
    """A training that cannot go on: its loss or its weights are not finite."""


class WriteError(VlbenchError, OSError):
    """A file that cannot be written: the disk is full, the folder is read-only, or a folder has the file's name."""


class DecodeError(VlbenchError):
    """A video that cannot be read; `path` and `cause` say which and why."""

    def __init__(self, path: str | Path, cause: str) -> None:
        super().__init__(f"cannot decode {path}: {cause}")
        self.path = Path(path)
        self.cause = cause

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        # Exceptions cross process borders (data workers) by pickling their constructor's arguments.
        return type(self), (str(self.path), self.cause)


def user_error(error: BaseException) -> VlbenchError | None:
    """The error about the user's input that another error wraps, as parsers wrap what a constructor raises.

    Args:
        error: Error that was caught; it may be a `VlbenchError` itself.
    """
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, VlbenchError):
        inner = inner.__cause__ or inner.__context__
    return inner
