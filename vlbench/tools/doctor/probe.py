"""Decoding one video from start to end, to tell what is the matter with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import av

from vlbench.clips.container import cause_of, open_container
from vlbench.datasets.frames import is_frames
from vlbench.errors import DecodeError

if TYPE_CHECKING:
    from av.container import InputContainer

FACT = "probe/2"
"""Name of a probe in the index; raised when the same file gives another probe."""


@dataclass(frozen=True)
class Probe:
    """What decoding a whole video tells.

    Attributes:
        frames: Number of frames that decoding yields, or of pictures that are there.
        rotation: Degrees by which they are turned on reading.
        variable_rate: Whether equal steps in frames are unequal steps in time.
        problem: `no_video`, `undecodable`, `truncated`, `damaged`, `frame_size` or `frames`; `None` for a sound file.
        cause: Cause of the problem, in words.
    """

    frames: int = 0
    rotation: int = 0
    variable_rate: bool = False
    problem: str | None = None
    cause: str = ""


def probe(path: Path) -> Probe:
    """Decodes every frame, in one thread; a video that cannot be decoded is a `Probe` with a problem, no error."""
    if is_frames(path):
        return _probe_frames(path)
    from vlbench.clips.decoding.pyav import PyAVReader  # late: it loads torch, which only the worker processes need

    try:
        with PyAVReader(path) as reader:
            stream, promised = reader.stream_index, reader.num_frames if reader.planned else 0
            timed = reader.planned
        with open_container(path) as container:
            return _decode(container, stream, promised, timed)
    except DecodeError as error:
        return Probe(problem="no_video" if "no video" in error.cause else "undecodable", cause=error.cause)
    except Exception as error:  # whatever a file does to a decoder
        return Probe(problem="undecodable", cause=cause_of(error))


def _probe_frames(path: Path) -> Probe:
    """What decoding the pictures of a video one by one tells."""
    from vlbench.clips.decoding.rawframes import RawFramesReader

    sizes, damage = set(), []
    try:
        with RawFramesReader(path) as reader:
            count = reader.num_frames
            for index in range(count):
                try:
                    sizes.add(reader.frames_at([index]).shape)
                except DecodeError as error:
                    damage.append(error.cause)
    except DecodeError as error:
        return Probe(problem="frames", cause=error.cause)
    except Exception as error:  # whatever a picture does to a decoder
        return Probe(problem="undecodable", cause=cause_of(error))
    if damage:
        return Probe(count, problem="damaged", cause=f"{len(damage)} of its {count} frames; {damage[0]}")
    if len(sizes) > 1:
        return Probe(count, problem="frame_size", cause="its frames differ in size")
    return Probe(count)


def uneven(times: list[float]) -> bool:
    """Whether frames at these times, ascending and in seconds, are unevenly spaced.

    They are if a frame lies more than one mean step from where even spacing puts it (a freeze, a change of rate), or
    if more than a tenth of the steps differ from the median by over a quarter of it. Rounded timestamps and one odd
    step at the end of a trimmed clip are neither.
    """
    if len(times) < 3:
        return False
    step = (times[-1] - times[0]) / (len(times) - 1)
    if any(abs(time - times[0] - k * step) > 1.001 * step for k, time in enumerate(times)):
        return True
    steps = [after - before for before, after in pairwise(times)]
    usual = median(steps)
    return sum(abs(one - usual) > 0.25 * usual for one in steps) > 0.1 * len(steps)


def _decode(container: InputContainer, index: int, promised: int, timed: bool) -> Probe:
    stream: Any = container.streams[index]
    stream.codec_context.thread_count = 1  # one of several processes
    frame: Any
    times: list[float] = []
    sizes: set[tuple[int, int]] = set()
    packets = hidden = rotation = 0
    end = 0.0
    cause, cut, corrupt = "", False, False
    try:
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != index:
                continue
            packets += packet.dts is not None or packet.pts is not None  # the last one is empty: it ends the stream
            hidden += packet.is_discard
            cut |= packet.is_corrupt
            if cause:  # as in reading, nothing after the first error counts; but where the file ends is still to tell
                continue
            try:
                for frame in packet.decode():
                    times.append(frame.time or 0.0)
                    sizes.add((frame.width, frame.height))
                    rotation = rotation or frame.rotation
                    corrupt |= frame.is_corrupt
            except (OSError, ValueError, av.FFmpegError) as error:
                cause = cause_of(error)
    except (OSError, ValueError, av.FFmpegError) as error:
        cause, cut = cause or cause_of(error), True
    listed = 0
    if "mov" in container.format.name.split(","):
        # An edit list leaves some frames out of the index and has others decoded and not shown.
        listed = min(stream.frames, len(stream.index_entries))
    cut |= packets < listed if listed else _ends_early(container, end)
    facts = Probe(len(times), rotation, timed and not cause and uneven(times))
    return _judged(
        facts, expected=max(promised, listed - hidden), cause=cause, cut=cut, corrupt=corrupt, sizes=len(sizes)
    )


def _judged(facts: Probe, *, expected: int, cause: str, cut: bool, corrupt: bool, sizes: int) -> Probe:
    number = f"decoding yields {facts.frames} of {expected} frames" if facts.frames < expected else ""
    if cut:
        return replace(facts, problem="truncated", cause=": ".join(filter(None, (number or "it ends early", cause))))
    if cause or number:
        return replace(facts, problem="damaged", cause=": ".join(filter(None, (number, cause))))
    if not facts.frames:
        return replace(facts, problem="undecodable", cause="it holds no frame")
    if corrupt:
        return replace(facts, problem="damaged", cause="some of its frames are")
    if sizes > 1:
        return replace(facts, problem="frame_size", cause="its frames differ in size")
    return facts


def _ends_early(container: InputContainer, end: float) -> bool:
    """Whether all streams end well before the container says; a cut Matroska file tells by nothing else."""
    if container.duration is None:
        return False
    promised = container.duration / av.time_base
    return end - (container.start_time or 0) / av.time_base < promised - max(1.0, 0.1 * promised)
