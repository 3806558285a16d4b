"""Training and test videos of a bank that look like one video to the tower that encoded them.

Features of one kind of videos all point in much the same direction, so that plain cosines hardly tell a copy of a video
from another video of its class. The features are whitened first: every direction in which the bank's frames differ
counts the same, and what tells single videos apart is no longer drowned by what tells classes apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlbench.bank.bank import FeatureBank
from vlbench.errors import DataError

_FLOOR = 1e-3
"""Part of the mean variance of a direction that is added to the variance of each."""

_BYTES = 2**26
"""Bytes of the vectors of some videos that are compared at once."""

_ROWS = 4096
"""Videos that are compared at once, at most."""


@dataclass(frozen=True)
class Similar:
    """Pairs of a training video and a test video, the most similar first.

    Attributes:
        pairs: Ids of training and test video with their similarity.
        total: Number of pairs, with those that were too many to be listed.
    """

    pairs: tuple[tuple[str, str, float], ...]
    total: int


class Whitening:
    """Linear map of unit frame features `(D,)` after which every direction has about the same second moment.

    Args:
        bank: Bank of the features.
        videos: Ids of the readable videos that the moments are taken of.

    Raises:
        DataError: If a feature is not finite.
    """

    def __init__(self, bank: FeatureBank, videos: Sequence[str]) -> None:
        self.bank = bank
        _, self.frames, self.width = bank.shape()
        moments, count = np.zeros((self.width, self.width)), 0
        for block in self.blocks(videos):
            frames = self._frames(block).reshape(-1, self.width)
            moments += frames.T @ frames
            count += len(frames)
        values, vectors = np.linalg.eigh(moments / max(1, count))
        # The moments of unit vectors add up to 1.
        scales = np.sqrt(np.maximum(values, 0) + _FLOOR / self.width)
        self.matrix: NDArray[np.float32] = (vectors / scales).astype(np.float32)

    def blocks(self, videos: Sequence[str]) -> Iterator[Sequence[str]]:
        """The videos, as many at a time as are compared at once."""
        rows = max(1, min(_ROWS, _BYTES // (4 * self.frames * self.width)))
        yield from (videos[first : first + rows] for first in range(0, len(videos), rows))

    def vectors(self, videos: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `(N, F * D)` of the whitened frame features one after the other.

        The product of two of them is their cosine. That of the mean features, which have lost what moves, is as high
        between videos of one class as between copies.

        Args:
            videos: Ids of N readable videos.
        """
        frames = self._frames(videos) @ self.matrix
        return _unit(frames.reshape(len(frames), -1))

    def _frames(self, videos: Sequence[str]) -> NDArray[np.float32]:
        """Unit frame features `(N, F, D)`, the mean over the views."""
        features: NDArray[Any] = self.bank.features(videos)
        finite = np.isfinite(features).all(axis=(1, 2, 3))
        if not finite.all():
            odd = videos[int(np.argmin(finite))]
            raise DataError(
                f"the bank {self.bank.folder} has features of {odd} that are not finite; make it anew by `vlbench"
                " features`, with --dtype float32 where float16 is too narrow for the backbone"
            )
        frames: NDArray[np.float32] = _unit(features.astype(np.float32)).mean(axis=1)
        return frames


def similar_videos(
    whitening: Whitening,
    train: Sequence[str],
    test: Sequence[str],
    threshold: float,
    limit: int,
    known: Collection[tuple[str, str]] = (),
) -> Similar:
    """Pairs of a training and a test video whose similarity reaches a threshold.

    Args:
        whitening: Whitening of the bank's features.
        train: Ids of readable training videos.
        test: Ids of readable test videos.
        threshold: Least similarity of a pair, up to 1.
        limit: Number of pairs that are listed.
        known: Pairs of ids, training video first, that are left out.
    """
    left_out: dict[str, list[str]] = {}
    for one, other in known:
        left_out.setdefault(other, []).append(one)
    pairs: list[tuple[str, str, float]] = []
    total = 0
    for tested in whitening.blocks(test):
        tests = whitening.vectors(tested)
        for trained in whitening.blocks(train):
            scores = tests @ whitening.vectors(trained).T
            rows = {video: row for row, video in enumerate(trained)}
            for row, video in enumerate(tested):
                scores[row, [rows[other] for other in left_out.get(video, ()) if other in rows]] = -np.inf
            near = np.flatnonzero(scores >= threshold - 1e-6)  # of equal features, rounding aside, it is 1
            total += len(near)
            values = scores.reshape(-1)[near]
            for index in np.argsort(-values, kind="stable")[:limit]:
                row, column = divmod(int(near[index]), len(trained))
                pairs.append((trained[column], tested[row], min(1.0, float(values[index]))))
            pairs = sorted(pairs, key=lambda pair: (-pair[2], pair[1], pair[0]))[:limit]
    return Similar(tuple(pairs), total)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors along the last axis, of length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit
