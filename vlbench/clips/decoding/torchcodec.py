"""The torchcodec backend: exact seek mode, one thread.

torchcodec finds frames by seeking to timestamps, so it is right only where these are: on an MPEG-4 AVI with B-frames it
returns neighbours (4 of 16 in one file), on H.264 with periodic intra refresh most frames are wrong. `PyAVReader`
therefore judges the file first; it also reads what torchcodec counts differently, cannot decode, or returns with
another time than the frame's. Damage that FFmpeg conceals is noticed by the PyAV backend only.

A GPU converts to RGB in its own way, some grey levels off. It is trusted with a kind of file once its frames were those
of the CPU in the first files of this kind, see `TorchCodecReader`. What it cannot decode the CPU does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchcodec.decoders import VideoDecoder
from typing_extensions import override

from vlbench.clips.decoding.pyav import PyAVReader, turn_upright
from vlbench.errors import ConfigError
from vlbench.regular_files import descriptor_path, open_regular

_SAME_TIME = 1e-5  # seconds; frames lie milliseconds apart
COMPARED = 3
"""Reads of a kind of file in which a process compares a GPU's frames with the CPU's."""
FARTHEST = 4.0
"""Mean distance of a GPU's frame from the CPU's, in grey levels, from which on a GPU is refused."""
_NEARER = 0.5  # grey levels on average, by which a neighbour of the frame has to be nearer to be the frame

_compared: Counter[tuple[object, ...]] = Counter()


class TorchCodecReader(PyAVReader):
    """Exact frames by number through torchcodec. See `VideoReader`.

    On a GPU, in the first `COMPARED` reads of files of one codec, pixel format and colour space, every frame has to be
    nearer to the CPU's frame of its number than to the neighbours of that, and at most `FARTHEST` grey levels from it.

    Args:
        path: Path of the video file.
        device: Device that decodes and holds the frames, `cpu` or a CUDA device.

    Raises:
        DecodeError: If the file cannot be read or holds no video that FFmpeg knows.
        ConfigError: If this torchcodec cannot decode on the device.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu") -> None:
        super().__init__(path)
        self._device = device
        self._decoder: VideoDecoder | None = None
        if self.can_seek():
            try:
                # PyAV has seen that the file is regular and of a format that opens no other file.
                with open_regular(self.path) as file:
                    decoder = VideoDecoder(
                        descriptor_path(file), stream_index=self.stream_index, seek_mode="exact", device=device
                    )
            except (OSError, RuntimeError, ValueError) as error:
                if "Unsupported device" in str(error):
                    raise ConfigError(
                        "decode_on is cuda and this torchcodec is built without CUDA; install a CUDA build of it, or"
                        " set decode_on: cpu"
                    ) from error
            else:
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
        except torch.OutOfMemoryError:
            raise  # the CPU's pixels are others, and memory must not choose between them
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
        if self._device != "cpu":
            self._compare(indices, frames)
        return frames

    def _compare(self, indices: Sequence[int], frames: Tensor) -> None:
        """Compares frames of a GPU with the CPU's.

        Raises:
            ConfigError: If one of them is another frame.
        """
        context = self._stream.codec_context
        kind = (context.name, context.pix_fmt, context.color_range, context.colorspace)
        if _compared[kind] >= COMPARED:
            return
        last = self.num_frames - 1
        near = sorted({min(max(index + step, 0), last) for index in indices for step in (-1, 0, 1)})
        pictures = dict(zip(near, super().frames_at(near).float(), strict=True))
        for index, frame in zip(indices, frames.cpu().float(), strict=True):
            error, *others = (
                float((frame - pictures[k]).abs().mean()) for k in (index, max(index - 1, 0), min(index + 1, last))
            )
            if error > FARTHEST or min(others) < error - _NEARER:
                raise ConfigError(
                    f"decode_on is cuda, and frame {index} of {self.path} differs from the CPU's by {error:.1f} grey"
                    f" levels on average; allowed: {FARTHEST:.0f}, and none that is nearer to a neighbour; set"
                    " decode_on: cpu"
                )
        _compared[kind] += 1
