"""Scores that lie beside a record, and the metrics of `evaluation.metrics` on them: numpy, so that nothing loads torch.

Records hold the metrics of `evaluation.metrics`. The functions here answer questions to stored scores with the same
definitions, in double precision; a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlbench.errors import DataError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class StoredScores:
    """Scores of the videos of one test set.

    Attributes:
        ids: Names of the readable videos, one a row.
        labels: Labels of the videos, int64 `(N,)`.
        scores: Scores of the classes, float32 `(N, C)`; only the order of the classes within a row means something.
        cosines: Mean over the views of a video's cosines with the classes, float32 `(N, C)`.
        features: Mean over the views of a video's unit features, float32 `(N, D)`.
        failures: Id -> `(label, cause)` of the videos that could not be read, which count as wrong; the label is -1
            where it was not stored.
    """

    ids: Sequence[str]
    labels: Integers
    scores: Floats
    cosines: Floats
    features: Floats
    failures: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of videos, readable or not."""
        return len(self.ids) + len(self.failures)

    @property
    def best(self) -> Integers:
        """The best class of each readable video, int64 `(N,)`; of classes with equal scores the first."""
        best: Integers = self.scores.argmax(axis=1)
        return best


def hits_at(scores: Floats, labels: Integers, k: int) -> NDArray[np.bool_]:
    """Whether the label of each row of scores `(N, C)` is among its k best classes, bool `(N,)`.

    Of classes with equal scores the first is better. At k = 1 that is torchmetrics' rule too; at k > 1 torchmetrics
    leaves a tie at the k-th place to `torch.topk`, which promises no order. A score that is not a number is better than
    any other, and never right.
    """
    true_score = np.take_along_axis(scores, labels[:, None], axis=1)
    equal_and_later = (scores == true_score) & (np.arange(scores.shape[1]) >= labels[:, None])
    rank: Integers = (~(scores < true_score) & ~equal_and_later).sum(axis=1)
    return rank < k


def classification_metrics(stored: StoredScores, top_k: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Accuracies in per cent, 0..100; unreadable videos count as wrong.

    Args:
        stored: Scores of one test set; the labels of unreadable videos are known.
        top_k: Values of k; one larger than the number of classes is clipped to it.

    Returns:
        `top1`, `top5` over videos, and `mean_per_class`, the mean of the top-1 accuracies of the classes that occur.
        Without videos they are not numbers.
    """
    num_classes = stored.scores.shape[1]
    if stored.total == 0:
        return {**{f"top{k}": float("nan") for k in top_k}, "mean_per_class": float("nan")}
    hits = {k: hits_at(stored.scores, stored.labels, min(k, num_classes)) for k in top_k}
    lost = np.array([label for label, _ in stored.failures.values()], dtype=np.int64)
    videos = np.bincount(np.concatenate([stored.labels, lost]), minlength=num_classes)
    right = np.bincount(stored.labels[stored.best == stored.labels], minlength=num_classes)
    occurs = videos > 0
    return {
        **{f"top{k}": 100 * int(hit.sum()) / stored.total for k, hit in hits.items()},
        "mean_per_class": float(100 * np.mean(right[occurs] / videos[occurs])),
    }


def half_class_accuracies(cosines: Floats, labels: Integers, draws: int = 10) -> NDArray[np.float64]:
    """Top-1 and top-5 on random halves of the classes in per cent, float64 `(draws, 2)`.

    The halves are those of `evaluation.metrics.half_class_accuracies`.

    Args:
        cosines: Mean over the views of the cosines with all classes, float32 `(N, C)`.
        labels: Labels of the videos, int64 `(N,)`.
        draws: Number of random halves.

    Raises:
        DataError: If a half has videos of fewer than two classes.
    """
    num_classes = cosines.shape[1]
    accuracies = []
    for seed in range(draws):
        half = np.random.RandomState(seed).permutation(num_classes)[: num_classes // 2]
        rows = np.isin(labels, half)
        candidates, targets = np.unique(labels[rows], return_inverse=True)
        if len(candidates) < 2:
            raise DataError(
                f"half {seed} of the {num_classes} classes has videos of {len(candidates)} classes; random halves need"
                " two or more in every half, so a test set with videos of at least four classes"
            )
        of_half = cosines[rows][:, candidates]
        accuracies.append([100 * hits_at(of_half, targets, k).mean() for k in (1, 5)])
    return np.array(accuracies)


def half_class_metrics(stored: StoredScores) -> dict[str, float]:
    """Mean and population standard deviation over `half_class_accuracies`; unreadable videos count as wrong.

    Args:
        stored: Scores of one test set; the labels of unreadable videos are known.

    Raises:
        DataError: If a half has videos of fewer than two classes.
    """
    lost = np.array([label for label, _ in stored.failures.values()], dtype=np.int64)
    # A video that was not read has no cosines; those of its own class are made the smallest.
    wrong = np.zeros((len(lost), stored.cosines.shape[1]), np.float32)
    wrong[np.arange(len(lost)), lost] = -2.0
    labels = np.concatenate([stored.labels, lost])
    accuracies = half_class_accuracies(np.concatenate([stored.cosines, wrong]), labels)
    names = ("half_top1", "half_top5")
    means = dict(zip(names, accuracies.mean(axis=0).tolist(), strict=True))
    spreads = zip((f"{name}_std" for name in names), accuracies.std(axis=0).tolist(), strict=True)
    return {**means, **dict(spreads)}
