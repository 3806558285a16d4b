"""A frozen image tower with adapters, and what classifies its videos: a linear head, or the classes' texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import collection
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import ClassState, Features
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.linear_head import LinearHeadMethod
from vlbench.methods.parts.prompts import templates
from vlbench.optim import Schedule
from vlbench.ranges import WEIGHTS, Range
from vlbench.settings import Side

Classifier = Literal["linear", "text"]
"""What classifies a video feature: a `linear` head, as released, or its cosines with the frozen tower's features of the
classes, `text`, which is an extension of ours and opens the vocabulary."""


class AdaptedTower(LinearHeadMethod):
    """A method that adapts a frozen image tower by new parameters between its frames and blocks.

    Args:
        backbone: Dual encoder with a class token a frame; frozen.
        schedule: Schedule of the learning rate.
        classifier: What classifies, a `linear` head or the classes' `text`.
        prompts: Templates of the class names, for `text`.
        view_fusion: What is averaged over the views of a video.
        lr: Peak learning rate of the parameters that train.
        weight_decay: Weight decay of AdamW.
        head_std: Standard deviation of the linear head's weights in the beginning.
        dropout: Part of a feature's values that training sets to 0 before the linear head, in [0, 1).
        label_smoothing: Part of a target that is spread evenly over all classes, in [0, 1).
    """

    NO_DEVIATION: ClassVar[Mapping[str, str]] = {
        **LinearHeadMethod.NO_DEVIATION,
        "prompts": "a linear head has none, and classifier: text is named",
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **LinearHeadMethod.SIDES,
        "classifier": "both",
        "dropout": "training",
        "label_smoothing": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule,
        *,
        classifier: Classifier,
        prompts: str | list[str],
        view_fusion: ViewFusion,
        lr: float,
        weight_decay: float,
        head_std: float,
        dropout: float,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            backbone, schedule, view_fusion=view_fusion, width=backbone.image.width, head_std=head_std, dropout=dropout
        )
        if classifier not in ("linear", "text"):
            raise ConfigError(f"classifier is {classifier!r}; allowed: 'linear', 'text'")
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("weight_decay", weight_decay)
        Range(0, 1, below=True).check("label_smoothing", label_smoothing)
        self.classifier = classifier
        self.prompts = prompts
        self.templates = templates(prompts)
        self.lr = lr
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.opens_vocabulary = classifier == "text"
        backbone.requires_grad_(False)
        self.head.requires_grad_(classifier == "linear")  # without rows, it is in no checkpoint otherwise
        self._texts: Tensor | None = None

    def classified(self, features: Tensor) -> Tensor:
        """What the classifier takes of features `(B, D)` after the last norm: themselves, or unit ones for texts."""
        if self.classifier == "linear":
            return features
        projection = self.backbone.visual.get_parameter("proj")
        return F.normalize(features @ projection.to(features.dtype), dim=-1)

    @override
    def score(self, video: Features, classes: ClassState) -> Tensor:
        """Logits `(B, C)` of the linear head for video features `(B, D)`, or their cosines with texts `(C, D)`."""
        if self.classifier == "linear":
            return super().score(video, classes)
        cosines: Tensor = video @ classes.T
        return cosines

    @override
    def use_train_classes(self) -> None:
        if self.classifier == "linear":
            super().use_train_classes()

    @override
    def on_fit_start(self) -> None:
        """The head's rows, or the features of the training classes' texts, which are frozen."""
        super().on_fit_start()
        if self.classifier == "text":
            assert self.train_classes is not None
            self._texts = self.encode_text(self.train_classes.names)

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert batch.video is not None
        video = self.encode_video(self.backbone.normalize(batch.video))
        if self.classifier == "linear":
            logits = self.score(video, None)
        else:
            assert self._texts is not None, "call on_fit_start first"
            logits = self.training_logits(video, self._texts)
        return {"loss": F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)}


def released_value(training: TrainingFacts, kinetics: object, something: object) -> object:
    """The released recipes' value of an option for a training set; an empty set for one without a recipe.

    Args:
        training: Facts about the training.
        kinetics: Value of the recipe that is for Kinetics-400.
        something: Value for Something-Something V2.
    """
    return {"kinetics400": kinetics, "ssv2": something}.get(collection(training.dataset), frozenset())
