"""What a video was scored as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vlbench.evaluation.calibration import Doubles
from vlbench.evaluation.stored_scores import Floats


class Candidate(NamedTuple):
    """A class that a video may show.

    Attributes:
        name: Name of the class.
        probability: Probability of the class in [0, 1]; `None` where the method states none.
        score: Score of the class, of which only the order means something.
    """

    name: str
    probability: float | None
    score: float


@dataclass(frozen=True, eq=False)
class Classification:
    """What a video, or a window of it, was scored as.

    Attributes:
        video: Path of the video, as it was given.
        classes: Names of the classes, in the order of the scores.
        scores: Scores of the C classes, float32 `(C,)`, as a test stores them; empty if the video cannot be read.
        probabilities: Probabilities of the C classes, float64 `(C,)`; `None` where the method states none.
        span: Beginning and end of the window in seconds after the first frame; `None` for the whole video.
        failure: Sentence that says why the video cannot be read; empty if it can.
        frames: Frames that were looked at, cut to the crops, uint8 `(K, T, 3, H, W)` for K clips; `None` unless they
            were asked for.
    """

    video: str
    classes: tuple[str, ...]
    scores: Floats
    probabilities: Doubles | None
    span: tuple[float, float] | None = None
    failure: str = ""
    frames: Tensor | None = None

    def best(self, k: int = 5) -> list[Candidate]:
        """The k best classes, the best one first; of classes with equal scores the first is better.

        Args:
            k: Number of classes; of fewer there are all.
        """
        order = np.argsort(-self.scores, kind="stable")[:k]
        shares = self.probabilities
        return [
            Candidate(self.classes[index], None if shares is None else float(shares[index]), float(self.scores[index]))
            for index in order
        ]
