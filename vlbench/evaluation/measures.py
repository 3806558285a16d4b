"""What a test says of its probabilities and of its cost beside its accuracies, as records hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlbench.errors import DataError


@dataclass(frozen=True)
class Probability:
    """How the class probabilities of a video follow from what is stored of it.

    They are `softmax(factor * x)` of its scores or cosines x, or the scores themselves.

    Attributes:
        source: Stored tensor that the probabilities are made of; `None` if scores are no probabilities of classes.
        factor: Factor that makes stored values logits; `None` if they are probabilities already.
        reason: Sentence that says why there are no probabilities; empty if there are.
    """

    source: Literal["scores", "cosines"] | None = "scores"
    factor: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Calibration:
    """How far the class probabilities of a test set's readable videos are from the truth.

    Attributes:
        videos: Number of readable videos, which the values are means over; the others have no probabilities.
        source: Stored tensor that the probabilities are made of; `None` if there are none.
        factor: Factor that makes stored values logits; `None` if they are probabilities already.
        ece: Expected calibration error over 15 bins of equal width, in [0, 1].
        nll: Mean negative logarithm of the right class's probability, in nats.
        brier: Mean squared distance of the probabilities to the right class's corner, in [0, 2].
        base_novel_auroc: Area under the ROC curve of base videos among base and novel ones by confidence, in [0, 1];
            `None` if the test had not both halves of the classes.
        reason: Sentence that says why there are no probabilities; empty if there are.

    Raises:
        DataError: If a number is one that no probabilities have.
    """

    videos: int
    source: Literal["scores", "cosines"] | None = None
    factor: float | None = None
    ece: float | None = None
    nll: float | None = None
    brier: float | None = None
    base_novel_auroc: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        for name, largest in (("ece", 1.0), ("nll", 1e3), ("brier", 2.0), ("base_novel_auroc", 1.0), ("videos", 2**53)):
            value = getattr(self, name)
            if value is not None and not -1e-6 <= value <= largest + 1e-6:
                raise DataError(f"details.calibration.{name} is {value}; allowed: 0 to {largest:g}")


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a test; a multiplication and an addition are two.

    Attributes:
        view: Operations of a view of a video from pixels to scores; `None` if they were not counted.
        classes: Operations of the list of classes, which are done once for all videos; 0 without a text tower.
        reason: Sentence that says why nothing was counted; empty if it was.

    Raises:
        DataError: If a number is negative.
    """

    view: int | None = None
    classes: int | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        for name, value in (("view", self.view), ("classes", self.classes)):
            if value is not None and value < 0:
                raise DataError(f"details.cost.{name} is {value}; allowed: 0 or more")
