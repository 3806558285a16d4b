"""Opening a video file's container, alike with every release of PyAV that vlbench supports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

# PyAV 18 refuses a file whose title is no UTF-8 unless it is given this argument. PyAV 19 always escapes such bytes and
# no longer has the argument.
_BADLY_ENCODED_TITLES: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def open_container(path: Path) -> InputContainer:
    """The container of a video file, opened for reading; a context manager that closes it.

    Titles and comments that are no UTF-8 are no reason to refuse a video: their bytes are read as surrogates.

    Args:
        path: Path of the video file, with any name that the file system takes.

    Raises:
        OSError: If the file cannot be read.
        av.FFmpegError: If FFmpeg knows no container like it.
    """
    container: InputContainer = av.open(str(path), **_BADLY_ENCODED_TITLES)
    return container
