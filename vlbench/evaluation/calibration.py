"""How well probabilities of classes say how often they are right: numpy, in double precision, from stored scores.

torchmetrics has the same formulas and needs torch, which `vlbench verify` does not load. What a test writes is computed
here too, so that one formula gives both numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vlbench.datasets.specs import Subset
from vlbench.evaluation.measures import Calibration, Probability
from vlbench.evaluation.stored_scores import Floats, Integers, StoredScores

Doubles = NDArray[np.float64]

BINS = 15
"""Number of bins of the expected calibration error."""

_SMALLEST = float(np.finfo(np.float32).tiny)
"""Smallest probability whose logarithm is taken; stored probabilities are of single precision and may be 0."""

_ROUNDED = 1e-3
"""How far the sum of stored probabilities may be from 1."""


def probabilities(stored: StoredScores, probability: Probability) -> Doubles | None:
    """Class probabilities of the readable videos, float64 `(N, C)`; `None` where scores are no probabilities.

    Args:
        stored: Scores of one test set.
        probability: Rule that makes probabilities of the scores.
    """
    if probability.source is None or not stored.ids:
        return None
    values: Doubles = getattr(stored, probability.source).astype(np.float64)
    if not np.isfinite(values).all():
        return None
    if probability.factor is None:
        sums = bool((np.abs(values.sum(axis=1) - 1) <= _ROUNDED).all())
        return values if sums and values.min() >= 0 else None
    # In place: of a large test set every copy is some ten MiB.
    values *= probability.factor
    values -= values.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values


def confidences(shares: Doubles) -> Floats:
    """Probability of the best class of each video, float32 `(N,)`: what numpy rounds otherwise elsewhere is cut off.

    Args:
        shares: Class probabilities `(N, C)`.
    """
    best: Floats = shares.max(axis=1).astype(np.float32)
    return best


def expected_calibration_error(shares: Doubles, labels: Integers, bins: int = BINS) -> float:
    """Mean over the videos of the distance of accuracy and confidence in their bin of confidence, in [0, 1].

    Bin k holds confidences of `[k / bins, (k + 1) / bins)`, the last one 1 too, as in Guo et al. (ICML 2017).

    Args:
        shares: Class probabilities `(N, C)`, of one video or more.
        labels: Labels of the videos, int64 `(N,)`.
        bins: Number of bins of equal width.

    Example:
        >>> expected_calibration_error(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]), bins=1)
        0.25
    """
    confidence = confidences(shares).astype(np.float64)
    right = shares.argmax(axis=1) == labels
    places = np.minimum(np.digitize(confidence, np.linspace(0, 1, bins + 1)) - 1, bins - 1)
    gaps = np.bincount(places, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def negative_log_likelihood(shares: Doubles, labels: Integers) -> float:
    """Mean negative logarithm of the probability of the right class, in nats; at most 87.3 for one video.

    Args:
        shares: Class probabilities `(N, C)`, of one video or more.
        labels: Labels of the videos, int64 `(N,)`.
    """
    of_label = np.take_along_axis(shares, labels[:, None], axis=1)
    return float(-np.log(np.maximum(of_label, _SMALLEST)).mean())


def brier_score(shares: Doubles, labels: Integers) -> float:
    """Mean over the videos of the sum over the classes of `(p_c - [c is right])^2`, in [0, 2].

    Args:
        shares: Class probabilities `(N, C)`, of one video or more.
        labels: Labels of the videos, int64 `(N,)`.
    """
    of_label = np.take_along_axis(shares, labels[:, None], axis=1)
    return float((np.einsum("nc,nc->n", shares, shares) - 2 * of_label[:, 0] + 1).mean())


def auroc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve: how often a positive is above a negative, where a tie is half a time; in [0, 1].

    Args:
        positive: Values of the positives, `(P,)`, one or more.
        negative: Values of the negatives, `(N,)`, one or more.

    Example:
        >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
        0.875
    """
    ordered = np.sort(negative)
    below, upto = (np.searchsorted(ordered, positive, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(negative)))


def calibration(stored: StoredScores, probability: Probability) -> Calibration:
    """How far the probabilities of the readable videos are from the truth.

    Args:
        stored: Scores of one test set.
        probability: Rule that makes probabilities of the scores.
    """
    return _measured(stored, probability)[0]


def _measured(stored: StoredScores, probability: Probability) -> tuple[Calibration, Floats | None]:
    """The calibration of a test set and the confidences of its readable videos, `None` without probabilities."""
    videos = len(stored.ids)
    if stored.multi_label:
        return Calibration(videos, reason="a video may have several labels, and probabilities are of one"), None
    shares = probabilities(stored, probability)
    if shares is None:
        no_probabilities = "scores are not those of probabilities" if videos else "no video could be read"
        return Calibration(videos, reason=probability.reason or no_probabilities), None
    measured = Calibration(
        videos,
        probability.source,
        probability.factor,
        ece=expected_calibration_error(shares, stored.labels),
        nll=negative_log_likelihood(shares, stored.labels),
        brier=brier_score(shares, stored.labels),
    )
    return measured, confidences(shares)


def rule_of(stated: Calibration) -> Probability:
    """The rule that a record's probabilities were made by.

    Args:
        stated: Calibration that a record states.
    """
    return Probability(stated.source, stated.factor, stated.reason)


def calibrations(tested: Sequence[tuple[Subset, StoredScores, Probability]]) -> list[Calibration]:
    """Calibration of every set of one test, those of two halves of the classes with their common AUROC.

    A base and a novel set of one split are asked which of their videos are of the base classes. Each set is scored
    against its own list of classes; a confidence is the probability of the best class, and base videos are positives.

    Args:
        tested: Subset, scores and rule of the probabilities of each set.
    """
    measured = [_measured(stored, probability) for _, stored, probability in tested]
    halves = {
        (subset.classes, subset.split): sure
        for (subset, _, _), (_, sure) in zip(tested, measured, strict=True)
        if sure is not None
    }
    values = {
        split: auroc(base, novel)
        for (classes, split), base in halves.items()
        if classes == "base" and (novel := halves.get(("novel", split))) is not None
    }
    return [
        replace(each, base_novel_auroc=values[subset.split])
        if subset.classes in ("base", "novel") and subset.split in values
        else each
        for (subset, _, _), (each, _) in zip(tested, measured, strict=True)
    ]
