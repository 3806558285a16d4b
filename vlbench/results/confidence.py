"""How sure a model says it is, and how often it is right then; from stored scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlbench.evaluation.calibration import probabilities, rule_of
from vlbench.evaluation.measures import Probability
from vlbench.evaluation.statistics import wilson_interval
from vlbench.results.stored import StoredEvaluation

Probabilities = NDArray[np.float64]


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
    stated, fusion = stored.record.details.calibration, stored.record.details.settings.get("view_fusion")
    if stated is None and fusion == "softmax_of_mean":
        return None, (
            "the views were fused by a softmax of softmaxed cosines (view_fusion softmax_of_mean), so that the scores"
            " are nearly equal and no probabilities of the model"
        )
    rule = Probability(factor=1.0 if fusion == "logits" else None) if stated is None else rule_of(stated)
    shares = probabilities(stored.predictions, rule)
    if shares is not None:
        return shares, ""
    if not stored.predictions.ids:
        return None, rule.reason or "no video could be read"
    if stated is not None:
        return None, rule.reason or "the scores are not those of probabilities"
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
