"""Classes by their training videos alone: the nearest class mean, and the nearest videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.evaluation.measures import Probability
from vlbench.methods.head_only.base import HeadOnly
from vlbench.methods.head_only.features import HeldoutFeatures, TrainingFeatures
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.ranges import COUNTS, FACTORS
from vlbench.settings import Side


class NearestMean(HeadOnly):
    """The class whose mean training feature is nearest: `s v . m_c` with `m_c = unit(mean of v_i, y_i = c)`.

    A class whose mean is not known, without training videos, has the mean zero.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = NearestMean(TinyCLIP())
        >>> features = torch.eye(4, 128)[:, None]  # four videos, one pass, of two classes
        >>> method.learn_from(TrainingFeatures(features, torch.tensor([0, 0, 1, 1])), None, ["run", "jump"])
        >>> method.score(torch.eye(4, 128), None).argmax(dim=1)
        tensor([0, 0, 1, 1])

    Args:
        backbone: Dual encoder whose towers stay as they are.
        view_fusion: What is averaged over the views of a video.
    """

    name = "nearest_mean"
    opens_vocabulary = False
    LEARNED: ClassVar[tuple[str, ...]] = ("class_means",)
    PAPER: ClassVar[Mapping[str, object]] = {"view_fusion": "probabilities"}
    class_means: Tensor

    def __init__(self, backbone: DualEncoder, view_fusion: ViewFusion = "probabilities") -> None:
        super().__init__(backbone, "video", view_fusion)

    @override
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        sums = torch.zeros_like(text).index_add_(0, training.labels, training.units)
        self.set_learned(class_means=F.normalize(sums, dim=-1))

    @override
    def score(self, video: Tensor, classes: None) -> Tensor:
        logits: Tensor = self.backbone.logit_scale.exp() * video @ self.class_means.T
        return logits


class NearestNeighbours(HeadOnly):
    """The classes of the k nearest training videos, each with the weight `exp(v . v_i / tau)`.

    A score is the class's part of the weights, so that the scores of a video sum to one; views have their mean.

    Args:
        backbone: Dual encoder whose towers stay as they are.
        neighbours: Number k of training videos that vote; all of them where there are fewer.
        temperature: Temperature tau of the weights of the votes.
    """

    name = "nearest_neighbours"
    opens_vocabulary = False
    LEARNED: ClassVar[tuple[str, ...]] = ("video_features", "video_labels")
    PAPER: ClassVar[Mapping[str, object]] = {"neighbours": 20, "temperature": 0.07}
    SIDES: ClassVar[Mapping[str, Side]] = {**HeadOnly.SIDES, "neighbours": "test", "temperature": "test"}
    video_features: Tensor
    video_labels: Tensor

    def __init__(self, backbone: DualEncoder, neighbours: int = 20, temperature: float = 0.07) -> None:
        super().__init__(backbone, "video", "cosines")  # the mean over the views of the scores as they are
        COUNTS.check("neighbours", neighbours)
        FACTORS.check("temperature", temperature)
        self.neighbours = neighbours
        self.temperature = temperature

    @override
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        self.set_learned(video_features=training.units, video_labels=training.labels)

    @override
    def encode_classes(self, class_names: Sequence[str]) -> Tensor:
        """Scores `(C,)` of a video that no neighbour has voted on."""
        return self.video_features.new_zeros(len(class_names))

    @override
    def score(self, video: Tensor, classes: Tensor) -> Tensor:
        cosines, nearest = (video @ self.video_features.T).topk(min(self.neighbours, len(self.video_features)), dim=-1)
        weights = (cosines / self.temperature).softmax(dim=-1)
        return classes.to(video).repeat(video.shape[0], 1).scatter_add_(1, self.video_labels[nearest], weights)

    @property
    @override
    def probability(self) -> Probability:
        """None: a class of which no video is among the nearest has no part of the votes, whatever the video shows."""
        return Probability(None, reason="scores are shares of the votes of neighbours, 0 for most classes")
