"""The torchcodec backend: exact seek mode, one thread.

torchcodec finds frames by seeking to timestamps, so it is right only where these are: on an MPEG-4 AVI with B-frames it
returns neighbours (4 of 16 in one file), on H.264 with periodic intra refresh most frames are wrong. `PyAVReader`
therefore judges the file first; it also reads what torchcodec counts differently, cannot decode, or returns with
another time than the frame's. Damage that FFmpeg conceals is noticed by the PyAV backend only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torchcodec.decoders import VideoDecoder

from vlbench.clips.decoding.pyav import PyAVReader, turn_upright

_SAME_TIME = 1e-5  # seconds; frames lie milliseconds apart


class TorchCodecReader:
    """Exact frames by number through torchcodec. See `VideoReader`.

    Args:
        path: Path of the video file.

    Raises:
        DecodeError: If the file cannot be read or holds no video that FFmpeg knows.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._pyav = PyAVReader(path)
        self._decoder: VideoDecoder | None = None
        if self._pyav.can_seek():
            with contextlib.suppress(RuntimeError, ValueError):
                decoder = VideoDecoder(str(path), stream_index=self._pyav.stream_index, seek_mode="exact")
                self._decoder = decoder if len(decoder) == self._pyav.num_frames else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._pyav.close()
        self._decoder = None

    @property
    def num_frames(self) -> int:
        """Number of frames, see `VideoReader`."""
        return self._pyav.num_frames

    def frames_between(self, start: float, end: float) -> range:
        """Numbers of the frames shown from `start` to before `end`; see `VideoReader.frames_between`."""
        return self._pyav.frames_between(start, end)

    def frames_at(self, indices: Sequence[int]) -> Tensor:
        """Frames with these indices, `(len(indices), 3, H, W)` uint8 RGB; see `VideoReader.frames_at`."""
        if self._decoder is None or not indices or min(indices) < 0 or max(indices) >= self.num_frames:
            return self._pyav.frames_at(indices)
        try:
            batch = self._decoder.get_frames_at(list(indices))
        except RuntimeError:
            # A decoder goes on behind the packet that it failed at, and predicts later frames from what is missing.
            self._decoder = None
            return self._pyav.frames_at(indices)
        times = torch.tensor([self._pyav.time_of(index) for index in indices], dtype=torch.float64)
        if not torch.allclose(batch.pts_seconds, times, rtol=0, atol=_SAME_TIME):
            return self._pyav.frames_at(indices)
        frames: Tensor = batch.data
        if not hasattr(self._decoder.metadata, "rotation"):  # older releases leave the frames as they are stored
            frames = turn_upright(frames, self._pyav.rotation())
        return frames
