"""The pytorchvideo backend: `EncodedVideo`.

`EncodedVideo` reads time ranges, files frames under their timestamps and swallows decoding errors. It is asked for the
whole clip, whose frames are then picked by number; this costs a full decode and all frames in memory as float32.
It reads the first video stream. Files whose best one is another, whose timestamps are not dependable, or of which it
yields another number of frames than they have, are read by `PyAVReader`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from typing_extensions import override

from vlbench.clips.decoding.pyav import PyAVReader, turn_upright
from vlbench.clips.pytorchvideo import EncodedVideo
from vlbench.regular_files import descriptor_path, open_regular


class EncodedVideoReader(PyAVReader):
    """Exact frames by number through pytorchvideo. See `VideoReader`.

    Args:
        path: Path of the video file.

    Raises:
        DecodeError: If the file cannot be read or holds no video that FFmpeg knows.
    """

    @override
    def frames_at(self, indices: Sequence[int]) -> Tensor:
        """Frames with these indices, `(len(indices), 3, H, W)` uint8 RGB; see `VideoReader.frames_at`."""
        frames = self._whole_clip() if self.planned and self.is_first_stream else None
        if (
            frames is None
            or len(frames) != self.num_frames
            or not indices
            or not 0 <= min(indices) <= max(indices) < len(frames)
        ):
            return super().frames_at(indices)
        return turn_upright(frames[list(indices)], self.rotation())

    def _whole_clip(self) -> Tensor | None:
        """All frames `(T, 3, H, W)` uint8 as stored, `None` where `EncodedVideo` gives up."""
        try:
            # PyAV 19 keeps one converter per thread, with helper threads. A forked data worker inherits the converter
            # without these and would wait for them for ever, so what converts frames (opening the file does, too) gets
            # a thread that is new.
            with open_regular(self.path) as file, ThreadPoolExecutor(1) as executor:
                clip = executor.submit(_decoded, descriptor_path(file)).result()
        except Exception:
            # A TypeError of a file that tells no duration, a RuntimeError of frames that differ in size, a MemoryError
            # of too many: whatever it is, `PyAVReader` decides whether the frames can be had.
            return None
        return None if clip is None else clip.permute(1, 0, 2, 3).to(torch.uint8)


def _decoded(path: str) -> Tensor | None:
    """All frames `(3, T, H, W)` float32 of a video as pytorchvideo decodes them, `None` where it finds none."""
    video = EncodedVideo.from_path(path, decode_audio=False)
    try:
        clip: Tensor | None = video.get_clip(0, math.inf)["video"]
    finally:
        video.close()
    return clip
