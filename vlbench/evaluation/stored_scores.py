"""Scores of videos and the metrics that follow from them: numpy, in double precision, so that nothing loads torch.

A test computes its metrics here, and so does whoever asks stored scores again. Classes with equal scores rank by their
index, the smaller first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlbench.datasets.specs import Truth
from vlbench.errors import ConfigError, DataError
from vlbench.evaluation.statistics import resampled_top1
from vlbench.names import name_bytes

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class StoredScores:
    """Scores of the videos of one test set.

    Attributes:
        ids: Names of the readable videos, one a row.
        labels: Labels of the videos, int64 `(N,)`, or int64 `(N, C)` of ones and zeros where a video may have several.
        scores: Scores of the classes, float32 `(N, C)`; only the order of the classes within a row means something.
        cosines: Mean over the views of a video's cosines with the classes, float32 `(N, C)`.
        features: Mean over the views of a video's unit features, float32 `(N, D)`.
        failures: Id -> `(label or labels, cause)` of the videos that could not be read, which count as wrong.
    """

    ids: Sequence[str]
    labels: Integers
    scores: Floats
    cosines: Floats
    features: Floats
    failures: Mapping[str, tuple[Truth, str]] = field(default_factory=dict)

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several labels or none."""
        return self.labels.ndim == 2

    @property
    def truths(self) -> dict[str, Truth]:
        """The label, or all labels, of every video, readable or not."""
        lost = {video: truth for video, (truth, _) in self.failures.items()}
        if not self.multi_label:
            return dict(zip(self.ids, self.labels.tolist(), strict=True)) | lost
        read: list[Truth] = [tuple(np.flatnonzero(row).tolist()) for row in self.labels]
        return dict(zip(self.ids, read, strict=True)) | lost

    @property
    def total(self) -> int:
        """Number of videos, readable or not."""
        return len(self.ids) + len(self.failures)

    @property
    def best(self) -> Integers:
        """The best class of each readable video, int64 `(N,)`; of classes with equal scores the first."""
        best: Integers = self.scores.argmax(axis=1)
        return best

    def not_finite(self) -> Integers:
        """Rows of the videos that have a score, a cosine or a feature that is not a finite number, int64 `(K,)`."""
        finite = [np.isfinite(each).all(axis=1) for each in (self.scores, self.cosines, self.features)]
        rows: Integers = np.flatnonzero(~np.logical_and.reduce(finite))
        return rows


def hits_at(scores: Floats, labels: Integers, k: int) -> NDArray[np.bool_]:
    """Whether the label of each row of scores `(N, C)` is among its k best classes, bool `(N,)`.

    Of classes with equal scores the first is better: `torch.topk` promises no order at a tie. A score that is not a
    number is better than any other, and never right.
    """
    true_score = np.take_along_axis(scores, labels[:, None], axis=1)
    equal_and_later = (scores == true_score) & (np.arange(scores.shape[1]) >= labels[:, None])
    rank: Integers = (~(scores < true_score) & ~equal_and_later).sum(axis=1)
    return rank < k


def label_array(truths: Sequence[Truth], num_classes: int, multi_label: bool) -> Integers:
    """Labels of videos as an array: int64 `(N,)`, or int64 `(N, C)` of ones and zeros where a video may have several.

    Args:
        truths: Label, or all labels, of each video.
        num_classes: Number C of the classes.
        multi_label: Whether a video may have several labels or none.
    """
    if not multi_label:
        return np.array(truths, dtype=np.int64)
    labels = np.zeros((len(truths), num_classes), np.int64)
    for row, truth in zip(labels, truths, strict=True):
        row[np.array(truth, dtype=np.int64)] = 1
    return labels


def mean_average_precision(stored: StoredScores) -> float:
    """Mean over the classes of the average precision with which their videos come first, in per cent, 0..100.

    A class ranks the videos by their `cosines`, which compare between videos as scores need not. Its average precision
    is the mean, over its videos, of the share of its videos among those that rank as high or higher. Unreadable videos
    come last. Classes without a video are left out; without any it is not a number.

    Args:
        stored: Scores of one test set, whose videos may have several labels.

    Example:
        >>> cosines = np.array([[0.9], [0.8], [0.7]], np.float32)
        >>> labels, features = np.array([[1], [0], [1]]), np.zeros((3, 0), np.float32)
        >>> stored = StoredScores(["a.mp4", "b.mp4", "c.mp4"], labels, cosines, cosines, features)
        >>> round(mean_average_precision(stored), 2)
        83.33
    """
    num_classes = stored.scores.shape[1]
    lost = label_array([truth for truth, _ in stored.failures.values()], num_classes, multi_label=True)
    truth = np.concatenate([stored.labels, lost]).astype(bool)
    last = np.full(lost.shape, -np.inf)
    scores = np.concatenate([stored.cosines.astype(np.float64), last])
    precisions = [_average_precision(scores[:, c], truth[:, c]) for c in range(num_classes) if truth[:, c].any()]
    return float(100 * np.mean(precisions)) if precisions else float("nan")


def _average_precision(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Average precision of scores `(N,)`, where `positive` says which are right; equal scores share one rank."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last place of each score
    hits = np.cumsum(positive[order])[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / hits[-1])


def classification_metrics(stored: StoredScores, top_k: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Accuracies in per cent, 0..100, or the mean average precision; unreadable videos count as wrong.

    Args:
        stored: Scores of one test set.
        top_k: Values of k; one larger than the number of classes is clipped to it.

    Returns:
        `top1`, `top5` over videos, and `mean_per_class`, the mean of the top-1 accuracies of the classes that occur;
        where a video may have several labels, `map` alone, see `mean_average_precision`. Without videos they are not
        numbers.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
        >>> ids, labels, features = ["a.mp4", "b.mp4", "c.mp4"], np.array([0, 1, 1]), np.zeros((3, 0), np.float32)
        >>> stored = StoredScores(ids, labels, scores, scores, features, {"d.mp4": (0, "truncated")})
        >>> classification_metrics(stored)["top1"]
        50.0
    """
    if stored.multi_label:
        return {"map": mean_average_precision(stored)}
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

    Draw k permutes the classes with numpy's legacy generator seeded with k and keeps the first half, the videos of
    those classes, and as candidates those of them that occur among the videos; top-5 is clipped to their number.

    Args:
        cosines: Mean over the views of the cosines with all classes, float32 `(N, C)`.
        labels: Labels of the videos, int64 `(N,)`.
        draws: Number of random halves.

    Raises:
        DataError: If a half has videos of fewer than two classes.
    """
    num_classes = cosines.shape[1]
    accuracies = []
    for seed, half in enumerate(_random_halves(num_classes, draws)):
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


def _random_halves(num_classes: int, draws: int) -> Iterator[Integers]:
    for seed in range(draws):
        yield np.random.RandomState(seed).permutation(num_classes)[: num_classes // 2]


def check_half_classes(labels: Collection[int], num_classes: int, draws: int = 10) -> None:
    """Whether there is something to choose among in every random half of the classes, before videos are scored.

    Args:
        labels: Labels of the test videos.
        num_classes: Number of classes that are chosen among.
        draws: Number of random halves.

    Raises:
        ConfigError: If fewer than two classes of a half have videos.
    """
    with_videos = min(len({*half.tolist()} & {*labels}) for half in _random_halves(num_classes, draws))
    if with_videos < 2:
        raise ConfigError(
            f"half_classes is true and {with_videos} of the classes of a random half of {num_classes} have videos; "
            "allowed: two or more, so at least four classes with videos; set record.half_classes to false"
        )


def half_class_metrics(stored: StoredScores) -> dict[str, float]:
    """Mean and population standard deviation over `half_class_accuracies`; unreadable videos count as wrong.

    Args:
        stored: Scores of one test set.

    Raises:
        DataError: If a half has videos of fewer than two classes, or a video may have several labels.
    """
    if stored.multi_label:
        raise DataError("random halves of the classes need videos of one label each; these may have several")
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


def bootstrap_interval(stored: StoredScores, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """The central 95 % of the top-1 accuracies of resampled test sets, in per cent; unreadable videos count as wrong.

    Args:
        stored: Scores of one test set.
        draws: Number of resampled sets.
        seed: Seed of the resampling.

    Returns:
        `top1_low` and `top1_high`; empty without videos or draws, or where a video may have several labels.
    """
    if stored.total == 0 or draws == 0 or stored.multi_label:
        return {}
    right = int((stored.best == stored.labels).sum())
    low, high = resampled_top1(right, stored.total, draws, seed)
    return {"top1_low": low, "top1_high": high}


def digest_of_labels(labels: Mapping[str, Truth]) -> str:
    """Digest of the videos of a test set and their classes; two runs with one digest were asked the same.

    Args:
        labels: Id of each video -> position of its class, or of all its classes.
    """
    lines = "".join(f"{label} {video}\n" for video, label in sorted(labels.items()))
    return hashlib.blake2b(name_bytes(lines), digest_size=16).hexdigest()
