"""Ranges of numeric options, checked where a value is kept: before data are prepared and before anything is built."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from vlbench.errors import ConfigError

_LARGEST = sys.float_info.max
_MOST_DIGITS = 30
"""Digits of an integer that a message repeats."""


@dataclass(frozen=True)
class Range:
    """Numbers that an option may have; neither `nan` nor infinity is one of them.

    Attributes:
        low: Smallest number of the range.
        high: Largest number of the range; the largest float of 64 bits means that there is no bound in practice.
        above: Whether `low` itself is left out.
        below: Whether `high` itself is left out.

    Example:
        >>> str(Range(0, 1, below=True)), str(Range(1)), str(Range(0, above=True))
        ('0 to less than 1', '1 or more', 'above 0')
    """

    low: float
    high: float = _LARGEST
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float):
            return False
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"above {self.low:,}" if self.above else f"{self.low:,}"
        if self.high == _LARGEST:
            return low if self.above else f"{low} or more"
        return f"{low} to {'less than ' if self.below else ''}{self.high:,}"

    def check(self, name: str, value: float | None, null: str = "") -> None:
        """Refuses a value outside the range.

        Args:
            name: Name of the option.
            value: Value of the option.
            null: What null stands for, such as `all videos`; empty where the option may not be null.

        Raises:
            ConfigError: If the value is outside the range, or null where the option may not be.
        """
        if value in self or (value is None and null):
            return
        text = "null" if value is None else "an integer of many digits" if _has_many_digits(value) else str(value)
        raise ConfigError(f"{name} is {text}; allowed: {self}{f', or null for {null}' if null else ''}")


def _has_many_digits(value: float) -> bool:
    return isinstance(value, int) and abs(value) >= 10**_MOST_DIGITS


SHARES = Range(0, 1)
"""Parts of a whole, and probabilities."""
WEIGHTS = Range(0, 1_000_000)
"""Weights of loss terms, learning rates and decays; 0 turns one off."""
FACTORS = Range(0, 1_000_000, above=True)
"""Factors that something is multiplied with or divided by."""
COUNTS = Range(1, 1_000_000)
"""Videos, classes and draws: more than any dataset has, and few enough to be tried."""
SEEDS = Range(0, 2**32 - 1)
"""Seeds, as numpy's and Lightning's generators take them."""
BATCHES = Range(1, 65_536)
"""Clips that a process takes at once."""
FRAMES = Range(1, 4_096)
"""Frames of a clip; more than a GPU's memory holds at once."""
PROCESSES = Range(0, 1_024)
"""Worker processes; 0 works in the process itself."""
JOBS = Range(1, 100_000)
"""Stages of a suite at once."""
SIDES = Range(1, 8_192)
"""Sides of a frame, in pixels."""
SECONDS = Range(0.01, 1_000_000)
"""Lengths of parts of a video, and distances between them, in seconds."""
