"""Classes in an order in which those that a model takes for alike stand side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlbench.evaluation.stored_scores import Integers, StoredScores

Floats = NDArray[np.float64]


def order_by_similarity(stored: StoredScores) -> Integers:
    """Labels of the classes, ordered by the similarity that the videos' cosines show, int64 `(C,)`.

    Two classes are alike if the videos of one have higher cosines with the other than with classes in general. Groups
    of classes are joined by average linkage, the most alike first, each turned so that alike ends meet.
    Without similarities it is the order of the labels.

    Args:
        stored: Scores of one test set.
    """
    size = stored.cosines.shape[1]
    videos = np.bincount(stored.labels, minlength=size)
    occurs = np.flatnonzero(videos)
    if size < 3 or len(occurs) < 2:
        return np.arange(size)
    rows = np.argsort(stored.labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(videos[occurs])[:-1]])
    means = np.add.reduceat(stored.cosines[rows].astype(np.float64), starts) / videos[occurs, None]
    # Some classes attract every video, some videos are near to every class: neither says which classes are alike.
    means -= means.mean(axis=0)
    means -= means.mean(axis=1, keepdims=True)
    directed = np.zeros((size, size))
    directed[occurs] = means
    # A class without videos has the similarities that videos of others show.
    seen = (videos > 0).astype(np.float64)
    similarity = (directed + directed.T) / np.maximum(seen[:, None] + seen, 1)
    if similarity[~np.eye(size, dtype=bool)].std() < 1e-6:
        return np.arange(size)
    return _leaves(similarity)


def _leaves(similarity: Floats) -> Integers:
    """Leaves of the tree that average linkage makes of similarities `(C, C)`."""
    groups = {index: [index] for index in range(len(similarity))}
    means = similarity.copy()
    np.fill_diagonal(means, -np.inf)
    while len(groups) > 1:
        a, b = sorted(divmod(int(means.argmax()), len(means)))
        joined = [
            (similarity[left[-1], right[0]], left + right)
            for left in (groups[a], groups[a][::-1])
            for right in (groups[b], groups[b][::-1])
        ]
        sizes = len(groups[a]), len(groups.pop(b))
        groups[a] = max(joined, key=lambda pair: pair[0])[1]  # the first of equal ones
        row = (sizes[0] * means[a] + sizes[1] * means[b]) / sum(sizes)
        means[a], means[:, a] = row, row
        means[a, a] = means[b] = means[:, b] = -np.inf
    return np.array(next(iter(groups.values())), dtype=np.int64)
