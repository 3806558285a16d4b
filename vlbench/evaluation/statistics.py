"""How far chance moves an accuracy, and whether two evaluations of the same videos differ by more than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlbench.errors import DataError
from vlbench.ranges import COUNTS, SEEDS


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same videos.

    Attributes:
        both: Videos that both got right.
        only_a: Videos that only the first evaluation got right.
        only_b: Videos that only the second evaluation got right.
        neither: Videos that neither evaluation got right.
        low: Lower end of the central 95 % of the difference `b - a` in top-1 over resampled videos, in points.
        high: Upper end of the same interval.
        p_value: Two-sided p-value of McNemar's exact test.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    low: float
    high: float
    p_value: float

    @property
    def videos(self) -> int:
        """Number of videos of the two evaluations."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def top1(self) -> tuple[float, float]:
        """Top-1 accuracies of the first and of the second evaluation, in per cent."""
        return 100 * (self.both + self.only_a) / self.videos, 100 * (self.both + self.only_b) / self.videos

    @property
    def difference(self) -> float:
        """Top-1 of the second less that of the first, in points."""
        return 100 * (self.only_b - self.only_a) / self.videos


def resampled_top1(correct: int, videos: int, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Ends of the central 95 % of the top-1 accuracies of resampled test sets, in per cent.

    Args:
        correct: Number of videos that are classified correctly.
        videos: Number of videos, at least 1.
        draws: Number of resampled sets of videos.
        seed: Seed of the resampling.
    """
    # Which videos a draw repeats does not matter, only how many of them are correct: a binomial number. The legacy
    # generator gives the same ones with any numpy, so that a record can be verified.
    hits = np.random.RandomState(seed).binomial(videos, correct / videos, draws)
    low, high = np.quantile(100 * hits / videos, [0.025, 0.975]).tolist()
    return low, high


def compare(a: Mapping[str, bool], b: Mapping[str, bool], *, draws: int = 10_000, seed: int = 0) -> Comparison:
    """Pairs two evaluations video by video.

    Args:
        a: Video -> whether the first got it right; unreadable videos are wrong.
        b: Outcomes of the second evaluation, of the same videos.
        draws: Number of resampled sets of videos.
        seed: Seed of the resampling.

    Raises:
        DataError: If they are not of the same videos, or of none.

    Example:
        >>> outcome = compare({"a.mp4": True, "b.mp4": False}, {"a.mp4": True, "b.mp4": True}, draws=100)
        >>> outcome.difference, outcome.p_value
        (50.0, 1.0)
    """
    COUNTS.check("draws", draws)
    SEEDS.check("seed", seed)
    if a.keys() != b.keys() or not a:
        alone = [sorted(left.keys() - right.keys()) for left, right in ((a, b), (b, a))]
        example = next((f" (not {names[0]})" for names in alone if names), "")
        raise DataError(
            f"the evaluations are of {len(a)} and {len(b)} videos, {len(a.keys() & b.keys())} of them in both{example};"
            " only evaluations of one test list can be paired"
        )
    pairs = [(a[video], b[video]) for video in a]
    both, only_a, only_b, neither = (
        pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))
    )
    return compare_counts(both, only_a, only_b, neither, draws=draws, seed=seed)


def compare_counts(both: int, only_a: int, only_b: int, neither: int, *, draws: int, seed: int) -> Comparison:
    """Compares two evaluations of the same videos by the numbers of videos of each kind.

    Args:
        both: Number of videos that both got right.
        only_a: Number of videos that only the first evaluation got right.
        only_b: Number of videos that only the second evaluation got right.
        neither: Number of videos that neither got right; there is at least one video of some kind.
        draws: Number of resampled sets of videos.
        seed: Seed of the resampling.
    """
    videos = both + only_a + only_b + neither
    # Which videos a draw repeats does not matter, only how many of each kind: resampling them is a multinomial draw.
    counts = np.random.default_rng(seed).multinomial(videos, np.array([only_b, only_a, both + neither]) / videos, draws)
    low, high = np.quantile(100 * (counts[:, 0] - counts[:, 1]) / videos, [0.025, 0.975]).tolist()
    return Comparison(both, only_a, only_b, neither, low, high, mcnemar(only_a, only_b))


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test: a binomial one, exact for any number of videos.

    Args:
        only_a: Videos that only the first got right.
        only_b: Videos that only the second got right.
    """
    total, fewer = only_a + only_b, min(only_a, only_b)
    term = tail = 1
    for k in range(1, fewer + 1):
        term = term * (total - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / (1 << total))


def wilson_interval(correct: int, videos: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Ends of Wilson's score interval of an accuracy, 0..1; sensible for few videos and for none or all correct.

    Args:
        correct: Number of videos that are classified correctly.
        videos: Number of videos, at least 1.
        z: Quantile of the normal distribution; 95 % by default.

    Example:
        >>> [round(end, 3) for end in wilson_interval(8, 10)]
        [0.49, 0.943]
    """
    share, square = correct / videos, z * z / videos
    centre = (share + square / 2) / (1 + square)
    half = (share * (1 - share) * square + square * square / 4) ** 0.5 / (1 + square)
    # Within the rounding of numbers it holds the share, and no more than 0..1.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
