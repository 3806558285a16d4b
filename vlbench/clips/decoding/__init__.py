"""Reading single frames of a video file, exactly.

Frame `k` of a video is by definition the `k`-th frame that sequential decoding yields (counted from 0). A reader
returns that very frame or raises `DecodeError`; it never returns a neighbour. Backends differ in speed, and in damaged
frames: PyAV's refuses those that FFmpeg calls corrupt, the others return what FFmpeg makes of them.

- `"pyav"` (default): reads the file once, decodes only the groups of pictures that hold a wanted frame.
- `"torchcodec"`: torchcodec's exact seek mode; needs the extra `torchcodec` and system FFmpeg libraries.
- `"pytorchvideo"`: `EncodedVideo`, which decodes the whole clip whatever is asked; for comparison.

Where a file's timestamps cannot be trusted, or a library reports another number of frames than the file has, the other
backends hand over to PyAV's sequential path. Frames are turned upright (display matrix, multiples of 90 degrees).

A video that is kept as pictures, in a folder or a tar, is read by `RawFramesReader`, whatever decodes video files.

A file is read if it is a regular one of a format that opens no other file, see `vlbench.clips.container`; of several
video streams the best one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, get_args

from torch import Tensor

from vlbench.clips.options import Backend, Decoder
from vlbench.datasets.frames import is_frames
from vlbench.errors import ConfigError

_INSTALL: dict[str, str] = {
    "pyav": "pip install av",
    "torchcodec": "pip install 'vlbench[torchcodec]' and FFmpeg's shared libraries, e.g. apt-get install ffmpeg",
    "pytorchvideo": "pip install pytorchvideo",
}


class VideoReader(Protocol):
    """An opened video; a context manager that releases the file.

    Attributes:
        path: Path of the video file or of the frames.
    """

    path: Path

    @property
    def num_frames(self) -> int:
        """Number of frames that sequential decoding yields; of a damaged file, the number its container promises.

        Raises:
            DecodeError: If counting needs decoding and that fails.
        """
        ...

    def frames_at(self, indices: Sequence[int]) -> Tensor:
        """Decode the frames with these indices.

        Args:
            indices: Frame numbers in `[0, num_frames)`, in any order, repeats allowed.

        Returns:
            `(len(indices), 3, H, W)`, uint8, RGB, in the order of `indices`, in the main memory or on the device that
            decoded them. Memory is channels-last.

        Raises:
            IndexError: If an index lies outside `[0, num_frames)`.
            DecodeError: If a wanted frame cannot be decoded.
        """
        ...

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the first frame to the end of the last, which is shown as long as the mean one.

        Raises:
            DecodeError: If the file tells neither times nor a rate, or has no frame.
        """
        ...

    def frames_between(self, start: float, end: float) -> range:
        """Numbers of the frames that begin to be shown in a part of the video.

        Frames are shown at their presentation times; where these cannot be trusted (see `PyAVReader.planned`), at a
        constant rate, the one that the container states.

        Args:
            start: First moment of the part, in seconds after the first frame.
            end: The moment after its last.

        Raises:
            DecodeError: If no frame lies there, or the video tells neither times nor a rate.
        """
        ...

    def close(self) -> None:
        """Release the file; the reader is of no use afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_video(path: str | Path, *, backend: Backend = "pyav", device: str = "cpu") -> VideoReader:
    """Open a video for reading frames by number.

    Args:
        path: Path of the video file; or of the video's frames, see `vlbench.datasets.frames`, which any backend reads.
        backend: The library that decodes video files, or `rawframes` for frames alone.
        device: Device that decodes; another than `cpu` for torchcodec only.

    Raises:
        ConfigError: If the backend is unknown, its library cannot be loaded, or it cannot decode on the device.
        DecodeError: If the file cannot be read, or holds no video.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"decoding backend is {backend!r}; allowed: {', '.join(get_args(Backend))}")
    if backend == "rawframes" or is_frames(Path(path)):
        from vlbench.clips.decoding.rawframes import RawFramesReader  # late, as the others

        return RawFramesReader(path)
    return _reader_class(backend, device)(path)


def _reader_class(backend: Decoder, device: str) -> Callable[[str | Path], VideoReader]:
    try:
        # Late and one by one: a missing or broken library must not harm the others, and each takes a while to load.
        if backend == "pyav":
            from vlbench.clips.decoding.pyav import PyAVReader

            return PyAVReader
        if backend == "torchcodec":
            from vlbench.clips.decoding.torchcodec import TorchCodecReader

            return partial(TorchCodecReader, device=device)
        from vlbench.clips.decoding.encoded_video import EncodedVideoReader

        return EncodedVideoReader
    except (ImportError, RuntimeError) as error:  # torchcodec without FFmpeg raises a RuntimeError on import
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"decoding backend {backend!r} cannot be loaded ({reason}); "
            f"install it with: {_INSTALL[backend]}; or use another of: {', '.join(get_args(Decoder))}"
        ) from error


def available_backends() -> tuple[str, ...]:
    """Names of the decoders of video files whose libraries load here, the default first."""
    return tuple(name for name in get_args(Decoder) if _loads(name))


def _loads(backend: str) -> bool:
    module = {"pyav": "pyav", "torchcodec": "torchcodec", "pytorchvideo": "encoded_video"}[backend]
    try:
        importlib.import_module(f"{__name__}.{module}")
    except (ImportError, RuntimeError):
        return False
    return True
