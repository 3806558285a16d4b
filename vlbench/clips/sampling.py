"""Which frames of a video a model sees: pure index arithmetic, no video is opened here.

Every function returns indices counted from 0 that lie in `[0, num_frames)`. Train functions draw from a
`torch.Generator` (torch's global one when it is `None`), test functions are deterministic and return one list per clip.
Short videos repeat frames. Where the released MoTE code has quirks they are kept, and named below, because published
numbers were taken with them.
"""

from __future__ import annotations

import itertools
import math

import torch

from vlbench.errors import ConfigError

DENSE_SPAN = 128


def segment_bounds(num_frames: int, segments: int) -> list[tuple[int, int]]:
    """First and last frame of each of `segments` equal parts, both included.

    Neighbouring parts share one frame, as in the released code; the first starts at 0, the last ends at
    `num_frames - 1`. Borders are rounded half to even.

    Raises:
        ConfigError: If an argument is below 1.
    """
    _check(num_frames=num_frames, segments=segments)
    borders = [round(i * (num_frames - 1) / segments) for i in range(segments + 1)]
    return list(itertools.pairwise(borders))


def uniform_train(
    num_frames: int, segments: int, *, generator: torch.Generator | None = None, shared_ends: bool = True
) -> list[int]:
    """One random frame of each segment (see `segment_bounds`), in ascending order.

    Args:
        num_frames: Number of frames of the video.
        segments: Number of frames of the clip.
        generator: Generator of the draws.
        shared_ends: Whether a segment's last frame is also the next one's first, as in the released code; otherwise it
            is the next one's alone, unless the segment has no other.

    Raises:
        ConfigError: If a number is below 1.
    """
    bounds = segment_bounds(num_frames, segments)
    if not shared_ends:
        bounds = [(first, max(first, last - 1)) for first, last in bounds[:-1]] + bounds[-1:]
    return [_draw(first, last, generator) for first, last in bounds]


def uniform_test(num_frames: int, segments: int, clips: int) -> list[list[int]]:
    """`clips` lists of evenly spaced frames, each list shifted a little further inside the segments.

    Clip 0 starts at frame 0 and the last clip ends near the last frame. When `num_frames < segments` all clips but the
    first are shifted by one frame to the left, so that they may begin with the video's last frame and are not sorted;
    that is the released code's behaviour and kept. From `num_frames >= segments` on, every list is ascending.

    Raises:
        ConfigError: If an argument is below 1.
    """
    _check(num_frames=num_frames, segments=segments, clips=clips)
    step = num_frames / segments
    # numpy.linspace(0, step - 1, clips), rounded down: its last point is exact, the others are multiples of its pitch.
    pitch = (step - 1) / max(clips - 1, 1)
    starts = [math.floor(c * pitch) for c in range(clips)]
    if clips > 1:
        starts[-1] = math.floor(step - 1)
    return [[int(start + i * step) % num_frames for i in range(segments)] for start in starts]


def dense_train(
    num_frames: int, segments: int, *, generator: torch.Generator | None = None, span: int = DENSE_SPAN
) -> list[int]:
    """Frames `span // segments` apart from a random start; past the end of a short video they wrap around.

    The start is drawn from 0 to `num_frames - span - 1`, both included: the last start that would fit is never drawn,
    as in the released code. Not sorted where it wraps.

    Raises:
        ConfigError: If an argument is below 1 or `span` is below `segments`.
    """
    _check(num_frames=num_frames, segments=segments, span=span)
    return _dense(_draw(0, max(num_frames - span - 1, 0), generator), num_frames, segments, span)


def dense_test(num_frames: int, segments: int, clips: int, span: int = DENSE_SPAN) -> list[list[int]]:
    """`clips` windows of `span` frames whose starts are evenly spread; each is sampled every `span // segments` frames.

    One clip is the centred window (the released code divides by zero there). Past the end of a short video the frames
    wrap around.

    Raises:
        ConfigError: If an argument is below 1 or `span` is below `segments`.
    """
    _check(num_frames=num_frames, segments=segments, clips=clips, span=span)
    room = max(num_frames - span, 0)
    starts = [room // 2] if clips == 1 else [c * (room // (clips - 1)) for c in range(clips)]
    return [_dense(start, num_frames, segments, span) for start in starts]


def _dense(start: int, num_frames: int, segments: int, span: int) -> list[int]:
    return [(start + i * (span // segments)) % num_frames for i in range(segments)]


def _draw(first: int, last: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(first, last + 1, (), generator=generator))


def _check(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}; allowed: 1 or more")
    if values.get("span", values["segments"]) < values["segments"]:
        raise ConfigError(f"span is {values['span']}; allowed: at least the number of segments, {values['segments']}")
