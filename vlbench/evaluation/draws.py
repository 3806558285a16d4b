"""Whether two methods differ by more than the draw of the training videos makes them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vlbench.errors import DataError
from vlbench.ranges import COUNTS, SEEDS

Draw = TypeVar("Draw", bound=Hashable)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DrawComparison:
    """Two methods on the same draws of training videos.

    Attributes:
        draws: Number of draws that both methods have a result on.
        mean_a: Mean top-1 of the first method over the draws, in per cent.
        mean_b: Mean top-1 of the second method over the draws, in per cent.
        deviation: Standard deviation of the differences `b - a`, of a sample, in points; nan of one draw.
        low: Lower end of the central 95 % of the mean difference over resampled draws, in points; nan of one draw.
        high: Upper end of the same interval.
        p_value: Two-sided p-value of the paired permutation test: of sign flips of the differences.
    """

    draws: int
    mean_a: float
    mean_b: float
    deviation: float
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """Mean of the second method less that of the first, in points."""
        return self.mean_b - self.mean_a


def compare_draws(
    a: Mapping[Draw, float], b: Mapping[Draw, float], *, resamples: int = 10_000, seed: int = 0
) -> DrawComparison:
    """Pairs the results of two methods draw by draw.

    The test asks how often random signs give the differences a mean as far from 0: all signs where there are few draws,
    otherwise `resamples` random ones, the given signs counted among them.

    Args:
        a: Draw -> top-1 of the first method, in per cent.
        b: Draw -> top-1 of the second method, in per cent.
        resamples: Number of resampled sets of draws, and of random signs.
        seed: Seed of the resampling.

    Raises:
        DataError: If the methods have no draw in common.

    Example:
        >>> outcome = compare_draws({0: 50.0, 1: 40.0, 2: 45.0}, {0: 53.0, 1: 42.0, 2: 49.0})
        >>> outcome.difference, outcome.p_value
        (3.0, 0.25)
    """
    COUNTS.check("resamples", resamples)
    SEEDS.check("seed", seed)
    common = [draw for draw in a if draw in b]
    if not common:
        raise DataError(f"the methods have results on {len(a)} and {len(b)} draws, and none in common")
    first, second = (np.array([float(each[draw]) for draw in common]) for each in (a, b))
    differences = second - first
    count = len(common)
    generator = np.random.default_rng(seed)
    means = differences[generator.integers(0, count, (resamples, count))].mean(axis=1)
    # One draw, resampled, is always itself: that says nothing of the spread over draws.
    low, high = np.quantile(means, [0.025, 0.975]).tolist() if count > 1 else (math.nan, math.nan)
    if 2**count <= resamples:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        as_far = _as_far(differences, 1 - 2 * bits)
        p_value = float(as_far.mean())
    else:
        as_far = _as_far(differences, generator.choice([-1, 1], (resamples, count)))
        p_value = (1 + int(as_far.sum())) / (1 + resamples)
    deviation = float(differences.std(ddof=1)) if count > 1 else math.nan
    return DrawComparison(count, float(first.mean()), float(second.mean()), deviation, low, high, p_value)


def _as_far(differences: Floats, signs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the mean under each row of signs `(R, N)` is as far from 0 as that of the differences `(N,)`."""
    # Rounded sums of the same numbers in other orders differ in the last bits.
    far: NDArray[np.bool_] = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9
    return far
