"""The PyAV backend: plan which packets to decode, then decode those in one ordered pass.

All packets of the video are read once and kept, so nothing ever seeks. Where the container's timestamps are dependable
("planned"), sorting packets by presentation time tells which packet holds frame `k`. Only the groups of pictures that
hold a wanted frame are decoded, without the non-reference frames that nobody wants, and only wanted frames are
converted to RGB. Pixels are those of decoding everything.

Everything else is decoded from the start ("sequential"): containers that store no presentation times (an MPEG-4 AVI
with B-frames has packet times that contradict its own output), interlaced video (a frame may be two packets), damaged
files, and any planned read in which something did not come out as planned.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import av
import numpy as np
import torch
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from vlbench.clips.container import best_video_stream, cause_of, open_container
from vlbench.clips.decoding.plan import Plan, plan_of, stores_times
from vlbench.errors import DecodeError

_SAME_TIME = 1e-6  # seconds; hides the rounding of times such as 7 / 25
# Counting the frames of a sequential file decodes it; decoded frames up to this size are kept for reading.
_KEEP_BYTES = 128 * 2**20
_KEEP_FRAMES = 16  # decoded on opening


class _Surprise(Exception):  # noqa: N818 - not an error: it sends the reader down the sequential path
    """A planned read did not come out as planned."""


class _Begun(NamedTuple):
    """What the decoder has been given since it was last emptied, packets `[0, stop)`, and what came of it."""

    stop: int
    frames: list[VideoFrame]


class PyAVReader:
    """Exact frames by number through PyAV, one thread. See `VideoReader`.

    A file that its container knows to be cut keeps the promised `num_frames`; its missing frames raise `DecodeError`.
    A cut Matroska file carries no frame count and is simply a shorter video.

    It reads the video stream that FFmpeg calls the best.

    Args:
        path: Path of the video file.

    Attributes:
        is_first_stream: Whether that stream is the first video stream of the container.

    Raises:
        DecodeError: If the file cannot be read or holds no video that FFmpeg knows.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reformatter = VideoReformatter()
        self._decoded: list[VideoFrame] | None = None
        self._begun: _Begun | None = None
        self._count: int | None = None
        try:
            self._container = open_container(self.path)
        except (OSError, ValueError, av.FFmpegError) as error:
            raise DecodeError(self.path, cause_of(error)) from error
        try:
            self._stream = self._find_stream()
            self.is_first_stream = self._stream.index == self._container.streams.video[0].index
            self._context = self._stream.codec_context
            self._context.thread_count = 1  # readers live in data workers, one core each
            # Opened now, while nothing is skipped: dav1d reads `skip_frame` on opening and never again.
            self._context.open(strict=False)
            self._packets, self._damage = self._read_packets()
            self._plan = self._dependable_plan()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the packets."""
        self._container.close()
        self._packets = []
        self._decoded = self._begun = None

    @property
    def planned(self) -> bool:
        """Whether timestamps tell where each frame is, so that a read may decode a part of the file."""
        return self._plan is not None

    @property
    def stream_index(self) -> int:
        """Number of the video stream inside the container."""
        return self._stream.index

    @property
    def num_frames(self) -> int:
        """Number of frames, see `VideoReader`: the packets that are shown (planned), or counted by decoding."""
        if self._plan is not None:
            return len(self._plan.order)
        if self._count is None:
            self._count = max(self._stream.frames, len(self._packets)) if self._damage else self._count_frames()
        return self._count

    def frames_at(self, indices: Sequence[int]) -> Tensor:
        """Frames with these indices, `(len(indices), 3, H, W)` uint8 RGB; see `VideoReader.frames_at`."""
        images, rotation = self._read(indices)
        try:
            stacked = np.stack([images[index] for index in indices])
        except ValueError as error:
            raise DecodeError(self.path, f"its frames differ in size: {error}") from error
        return turn_upright(torch.from_numpy(stacked).permute(0, 3, 1, 2), rotation)

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the first frame to the end of the last; see `VideoReader.duration`."""
        count = self.num_frames
        if self._plan is not None and count > 1:
            return (self.time_of(count - 1) - self.time_of(0)) * count / (count - 1)
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate or not count:
            cause = "decoding yields no frame" if not count else "its container states no frame rate to tell its length"
            raise DecodeError(self.path, cause)
        return float(count / rate)

    def frames_between(self, start: float, end: float) -> range:
        """Numbers of the frames shown from `start` to before `end`; see `VideoReader.frames_between`."""
        count = self.num_frames
        bounds = (start - _SAME_TIME, end - _SAME_TIME)
        if self._plan is not None:
            first, stop = (
                bisect_left(range(count), bound, key=lambda index: self.time_of(index) - self.time_of(0))
                for bound in bounds
            )
        elif rate := self._stream.average_rate or self._stream.guessed_rate:
            first, stop = (math.ceil(min(max(bound * rate, 0), count)) for bound in bounds)
        else:
            raise DecodeError(self.path, f"its container states no frame rate to find {start} to {end} s by")
        if first >= stop:
            raise DecodeError(
                self.path,
                f"none of its {count} frames begins between {start:.10g} and {end:.10g} s; a longer part may hold one",
            )
        return range(first, stop)

    def can_seek(self) -> bool:
        """Whether decoding may start at the second keyframe; decodes that one. `planned` reads check every start."""
        plan = self._plan
        if plan is None:
            return False
        keys = plan.keys[1:2]
        try:
            return all(any(plan.starts_at(key, frame) for frame in self._decode(range(key, key + 1))) for key in keys)
        except (OSError, ValueError, av.FFmpegError):
            return False

    def time_of(self, index: int) -> float:
        """Presentation time of a frame in seconds, as the container has it; `planned` files only."""
        if self._plan is None or not self._stream.time_base:
            raise ValueError(f"{self.path} tells no dependable times")
        return float(self._plan.time_of(index) * self._stream.time_base)

    def rotation(self) -> int:
        """Degrees by which the first frame is to be turned counterclockwise; `frames_at` has done so already."""
        return self._read([0])[1]

    # -- opening ------------------------------------------------------------------------------------------------------

    def _find_stream(self) -> VideoStream:
        stream = best_video_stream(self._container)
        if stream is None:
            raise DecodeError(self.path, "it holds no video stream")
        if stream.codec_context is None:
            raise DecodeError(self.path, "FFmpeg has no decoder for its codec")
        return stream

    def _read_packets(self) -> tuple[list[Packet[VideoStream]], str | None]:
        packets: list[Packet[VideoStream]] = []
        damage = None
        try:
            packets.extend(packet for packet in self._container.demux(self._stream) if packet.size)
        except (OSError, ValueError, av.FFmpegError) as error:
            damage = cause_of(error)
        if packets and packets[-1].is_corrupt:
            packets.pop()
            damage = "the file ends inside a frame"
        if not packets:
            raise DecodeError(self.path, damage or "it holds no video packet")
        return packets, damage

    def _dependable_plan(self) -> Plan | None:
        """Which packet holds which frame; `None` if timestamps do not tell it."""
        format_names = self._container.format.name.split(",")
        if self._damage is not None or not stores_times(format_names, self._stream):
            return None
        plan = plan_of(self._packets)
        return plan if plan is not None and self._in_order(plan) else None

    def _in_order(self, plan: Plan) -> bool:
        """Whether frames come out in the order of the plan up to the first that is overtaken; decodes these."""
        expected = plan.times_until_overtaken()
        if not expected:
            return True
        frames = deque[VideoFrame](maxlen=_KEEP_FRAMES)
        count = 0
        try:
            for position, packet in enumerate([*self._packets, None]):
                for frame in self._context.decode(packet):
                    if count < len(expected) and frame.pts != expected[count]:
                        return False
                    frames.append(frame)
                    count += 1
                if count >= len(expected):
                    # Most reads begin at the start as well, and go on from here.
                    self._begun = _Begun(position + 1, list(frames)) if len(frames) == count else None
                    return True
        except (OSError, ValueError, av.FFmpegError):
            pass
        return False

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, indices: Sequence[int]) -> tuple[dict[int, NDArray[np.uint8]], int]:
        """RGB images `(H, W, 3)` by frame number, not yet upright, and the rotation that makes them so."""
        if not self._packets:
            raise ValueError(f"the reader of {self.path} is closed")
        wanted = sorted({int(index) for index in indices})
        if not wanted:
            raise IndexError("no frame was asked for")
        if wanted[0] < 0 or (wanted[-1] >= self.num_frames):
            raise IndexError(
                f"frames {wanted[0]}..{wanted[-1]} asked of {self.path}; allowed: 0..{self.num_frames - 1}"
            )
        images: dict[int, NDArray[np.uint8]] = {}
        rotation = 0
        for index, frame in self._find(wanted):
            if frame.is_corrupt:
                raise DecodeError(self.path, f"frame {index} is damaged")
            if not images:
                rotation = frame.rotation
            images[index] = self._to_rgb(frame)
        return images, rotation

    def _find(self, wanted: list[int]) -> Iterable[tuple[int, VideoFrame]]:
        if self._plan is not None:
            try:
                return self._planned(wanted, self._plan)
            except (_Surprise, OSError, ValueError, av.FFmpegError):
                pass  # decoding from the start settles whether the frame can be had
        if self._decoded is not None:
            return [(index, self._decoded[index]) for index in wanted]
        return self._sequential(wanted)

    def _planned(self, wanted: list[int], plan: Plan) -> list[tuple[int, VideoFrame]]:
        index_of = {plan.time_of(index): index for index in wanted}
        positions = {plan.order[index] for index in wanted}
        frames: dict[int, VideoFrame] = {}
        for run in plan.runs(sorted(positions)):
            clean, latest = False, None
            for frame in self._decode(range(run.start, run.stop), positions | {run.start}):
                if frame.pts is None or (latest is not None and frame.pts <= latest):
                    raise _Surprise
                latest = frame.pts
                clean |= plan.starts_at(run.start, frame)
                if frame.pts in index_of:
                    frames[index_of[frame.pts]] = frame
            if not clean:
                raise _Surprise
        if len(frames) != len(wanted):
            raise _Surprise
        return sorted(frames.items())

    def _sequential(self, wanted: list[int]) -> Iterator[tuple[int, VideoFrame]]:
        remaining = iter(wanted)
        target = next(remaining)
        index = -1
        cause = self._damage or "the video ends before it"
        try:
            for index, frame in enumerate(self._decode(range(len(self._packets)))):
                if index == target:
                    yield index, frame
                    target = next(remaining, -1)
                    if target < 0:
                        return
        except (OSError, ValueError, av.FFmpegError) as error:
            cause = cause_of(error)
        raise DecodeError(self.path, f"no frame {target}, decoding yields {index + 1} frames: {cause}")

    def _count_frames(self) -> int:
        """Number of frames that decoding yields; keeps them if they are small, for a read usually follows."""
        kept: list[VideoFrame] | None = []
        count = size = 0
        try:
            for frame in self._decode(range(len(self._packets))):
                count += 1
                size += sum(plane.buffer_size for plane in frame.planes)
                if size > _KEEP_BYTES:
                    kept = None
                if kept is not None:
                    kept.append(frame)
        except (OSError, ValueError, av.FFmpegError) as error:
            self._damage = cause_of(error)
            return max(self._stream.frames, len(self._packets))
        self._decoded = kept
        return count

    def _decode(self, span: range, wanted: set[int] | None = None) -> Iterator[VideoFrame]:
        """Decode packets `span`; frames of packets not in `wanted` are left out where nothing depends on them."""
        begun, self._begun = self._begun, None
        if begun is not None and span.start == 0 and begun.stop <= span.stop:
            yield from begun.frames
            span = span[begun.stop :]
        else:
            self._context.flush_buffers()
        for position in span:
            self._context.skip_frame = "DEFAULT" if wanted is None or position in wanted else "NONREF"
            yield from self._context.decode(self._packets[position])
        # In a damaged file the frames still held back may have lost one that belongs between them.
        if self._damage is None:
            yield from self._context.decode(None)

    def _to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        image: NDArray[Any] = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return image


def turn_upright(frames: Tensor, rotation: float) -> Tensor:
    """Turn images `(.., H, W)` counterclockwise by `rotation` degrees, rounded to a multiple of 90."""
    quarters = round(rotation / 90) % 4
    return torch.rot90(frames, quarters, dims=(-2, -1)) if quarters else frames
