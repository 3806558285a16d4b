"""How sure a model says it is, and how often it is right then; from stored scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlbench.evaluation.calibration import probabilities, rule_of
from vlbench.evaluation.statistics import wilson_interval
from vlbench.results.stored import StoredEvaluation

Probabilities = NDArray[np.float64]
_TOLERANCE = 1e-3
"""Difference from 1 of the sum of a video's probabilities that its number format explains."""


@dataclass(frozen=True)
class ConfidenceBin:
    """Videos whose predicted class has a probability in one range.

    Attributes:
        low: Lower end of the range, 0..1.
        high: Upper end of the range, 0..1.
        videos: Number of readable videos in the range.
        correct: Number of those that are right.
        confidence: Mean probability of the predicted classes, 0..1; `None` without videos.
        interval: Ends of the 95 % interval of the accuracy of these videos, 0..1; `None` without videos.
    """

    low: float
    high: float
    videos: int
    correct: int
    confidence: float | None
    interval: tuple[float, float] | None


def class_probabilities(stored: StoredEvaluation) -> tuple[Probabilities | None, str]:
    """Probabilities of the classes for each readable video, float64 `(N, C)`, or `None` and why they are not known.

    A record states the rule in `details.calibration`. Older records do not: there they follow from the scores
    where the views were fused as probabilities or as logits, and cosines make none without the factor of the logits.
    """
    stated = stored.record.details.calibration
    if stated is not None:
        shares = probabilities(stored.predictions, rule_of(stated))
        return shares, "" if shares is not None else stated.reason or "the scores are not those of probabilities"
    fusion = stored.record.details.settings.get("view_fusion")
    scores = stored.predictions.scores.astype(np.float64)
    if not len(scores):
        return None, "no video could be read"
    if fusion == "softmax_of_mean":
        return None, (
            "the views were fused by a softmax of softmaxed cosines (view_fusion softmax_of_mean), so that the scores"
            " are nearly equal and no probabilities of the model"
        )
    if fusion == "logits":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True), ""
    if (scores >= 0).all() and (np.abs(scores.sum(axis=1) - 1) < _TOLERANCE).all():
        return scores, ""
    return None, (
        "the scores are no probabilities and the record does not say which factor makes them logits"
        + (f" (view_fusion {fusion})" if isinstance(fusion, str) else "")
    )


def confidence_bins(shares: Probabilities, stored: StoredEvaluation, bins: int) -> list[ConfidenceBin]:
    """Readable videos by the probability of their predicted class, in ranges of equal width.

    Args:
        shares: Probabilities of the classes, float64 `(N, C)`.
        stored: Evaluation that they belong to.
        bins: Number of ranges between 0 and 1.
    """
    predictions = stored.predictions
    best = predictions.best
    confidence = shares[np.arange(len(best)), best]
    right = best == predictions.labels
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    videos, hits = np.bincount(place, minlength=bins), np.bincount(place[right], minlength=bins)
    sums = np.bincount(place, weights=confidence, minlength=bins)
    made = []
    for k, (count, correct, total) in enumerate(zip(videos.tolist(), hits.tolist(), sums.tolist(), strict=True)):
        mean = total / count if count else None
        interval = wilson_interval(correct, count) if count else None
        made.append(ConfidenceBin(k / bins, (k + 1) / bins, count, correct, mean, interval))
    return made
