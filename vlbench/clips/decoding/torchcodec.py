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

import torch
from torch import Tensor
from torchcodec.decoders import VideoDecoder
from typing_extensions import override

from vlbench.clips.decoding.pyav import PyAVReader, turn_upright
from vlbench.regular_files import descriptor_path, open_regular

_SAME_TIME = 1e-5  # seconds; frames lie milliseconds apart


class TorchCodecReader(PyAVReader):
    """Exact frames by number through torchcodec. See `VideoReader`.

    Args:
        path: Path of the video file.

    Raises:
        DecodeError: If the file cannot be read or holds no video that FFmpeg knows.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._decoder: VideoDecoder | None = None
        if self.can_seek():
            # PyAV has seen that the file is regular and of a format that opens no other file.
            with contextlib.suppress(OSError, RuntimeError, ValueError), open_regular(self.path) as file:
                decoder = VideoDecoder(descriptor_path(file), stream_index=self.stream_index, seek_mode="exact")
                self._decoder = decoder if len(decoder) == self.num_frames else None

    @override
    def close(self) -> None:
        super().close()
        self._decoder = None

    @override
    def frames_at(self, indices: Sequence[int]) -> Tensor:
        """Frames with these indices, `(len(indices), 3, H, W)` uint8 RGB; see `VideoReader.frames_at`."""
        if self._decoder is None or not indices or min(indices) < 0 or max(indices) >= self.num_frames:
            return super().frames_at(indices)
        try:
            batch = self._decoder.get_frames_at(list(indices))
        except Exception:
            # Whatever it is, `PyAVReader` decides whether the frames can be had. A decoder goes on behind the packet
            # that it failed at, and predicts later frames from what is missing.
            self._decoder = None
            return super().frames_at(indices)
        times = torch.tensor([self.time_of(index) for index in indices], dtype=torch.float64)
        if len(batch.pts_seconds) != len(times) or not torch.allclose(
            batch.pts_seconds, times, rtol=0, atol=_SAME_TIME
        ):
            return super().frames_at(indices)
        frames: Tensor = batch.data
        if not hasattr(self._decoder.metadata, "rotation"):  # older releases leave the frames as they are stored
            frames = turn_upright(frames, self.rotation())
        return frames
