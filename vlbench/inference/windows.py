"""Windows of a long video: pure arithmetic of seconds."""

from __future__ import annotations

import math

from vlbench.ranges import SECONDS

_SAME = 1e-6
"""Times are the same that are so many seconds apart, or less."""


def windows(duration: float, window: float, stride: float) -> list[tuple[float, float]]:
    """Beginnings and ends, in seconds, of windows that begin a stride apart and reach to the end of a video.

    The last window ends with the video, so that every one is as long as the others; it may begin less than a stride
    after the one before. A video that is no longer than a window is one.

    Args:
        duration: Length of the video in seconds.
        window: Length of a window in seconds.
        stride: Seconds from the beginning of a window to that of the next one.

    Raises:
        ConfigError: If a length or a distance is out of its range.

    Example:
        >>> windows(4.5, 2.0, 1.0)
        [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (2.5, 4.5)]
    """
    SECONDS.check("window", window)
    SECONDS.check("stride", stride)
    if duration <= window:
        return [(0.0, duration)]
    last = duration - window
    starts = [k * stride for k in range(math.ceil((last - _SAME) / stride))]
    return [*((start, start + window) for start in starts), (last, duration)]
