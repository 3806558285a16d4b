"""Training of adapters by the cross-entropy of clips with their classes' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Optimizer
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.text import PreparedTexts
from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.parts.class_features import ensemble, frozen_ensemble, prompted
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import trained_groups
from vlbench.optim import Schedule
from vlbench.ranges import WEIGHTS
from vlbench.settings import Side

OptimizerName = Literal["adamw", "sgd"]
"""Optimizers of adapters: `adamw`, or `sgd` with momentum 0.9."""


class TextTraining(VideoTextMethod):
    """A method that adapts a frozen backbone and trains by the cross-entropy of its cosines with the classes' texts.

    Underscores in class names are spaces. The text tower is computed in every step where blocks of it are replaced or
    have branches, above the frozen ones below, and once a training where it is frozen.

    Args:
        backbone: Dual encoder, which is frozen before anything is added to it.
        prompts: Templates of the class names.
        schedule: Schedule of the learning rate.
        lr: Peak learning rate of the weights that train.
        weight_decay: Weight decay of all of them.
        view_fusion: What is averaged over the views of a video.
        optimizer: Optimizer of the training: `adamw`, or `sgd` with momentum 0.9.
    """

    SIDES: ClassVar[Mapping[str, Side]] = {**VideoTextMethod.SIDES, "optimizer": "training"}

    def __init__(
        self,
        backbone: DualEncoder,
        prompts: str | Sequence[str],
        schedule: Schedule,
        *,
        lr: float,
        weight_decay: float,
        view_fusion: ViewFusion,
        optimizer: OptimizerName = "adamw",
    ) -> None:
        super().__init__(backbone, prompts, schedule)
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("weight_decay", weight_decay)
        if optimizer not in ("adamw", "sgd"):
            raise ConfigError(f"optimizer is {optimizer!r}; allowed: 'adamw', 'sgd'")
        self.lr = lr
        self.weight_decay = weight_decay
        self.view_fusion = view_fusion
        self.optimizer = optimizer
        backbone.requires_grad_(False)
        self._prepared: PreparedTexts | None = None
        self._classes: Tensor | None = None

    @property
    def adapts_text(self) -> bool:
        """Whether blocks of the text tower are replaced or have branches."""
        return self.backbone.text.first_changed < len(self.backbone.text.blocks)

    def texts(self, class_names: Sequence[str]) -> list[str]:
        """Texts of the classes, class after class: every template with the name, its underscores being spaces."""
        return prompted([name.replace("_", " ") for name in class_names], self.templates)

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        texts = self.texts(class_names)
        if not self.adapts_text:
            return frozen_ensemble(self.backbone, texts, len(class_names))
        return ensemble(self.backbone.encode_texts(texts), len(class_names))

    def on_fit_start(self) -> None:
        """What never changes, once: the frozen blocks below the first adapted one, or the features of the classes."""
        assert self.train_classes is not None
        names = self.train_classes.names
        if self.adapts_text:
            with torch.no_grad():
                self._prepared = self.backbone.text.prepare(self.backbone.tokenize(self.texts(names)))
        else:
            self._classes = self.encode_text(names)

    def train_text(self) -> Tensor:
        """Unit features `(C, D)` of the training classes, with a graph where the text tower is adapted."""
        assert self.train_classes is not None
        if self._classes is not None:
            return self._classes
        assert self._prepared is not None, "call on_fit_start first"
        return ensemble(self.backbone.text.finish(self._prepared), len(self.train_classes.names))

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert batch.video is not None
        video = self.encode_video(self.backbone.normalize(batch.video))
        return {"loss": F.cross_entropy(self.training_logits(video, self.train_text()), batch.labels)}

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return trained_groups(self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay)

    @override
    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        return SGD(groups, momentum=0.9) if self.optimizer == "sgd" else super().build_optimizer(groups)
