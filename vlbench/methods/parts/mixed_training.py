"""Training by the cross-entropy of mixed clips: what ViFi-CLIP and the methods built on it share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import collection
from vlbench.evaluation.evaluator import ClassState
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.parts.blending import OriginalWeights
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.mixing import Mixing
from vlbench.methods.parts.starting import start_from
from vlbench.optim import Schedule
from vlbench.ranges import SEEDS, WEIGHTS, Range
from vlbench.settings import Side


class MixedTraining(VideoTextMethod):
    """A method whose loss is the cross-entropy of mixed clips with the classes, and whose weights train at one rate.

    Args:
        backbone: Dual encoder, which starts from `pretrained_from`.
        prompts: Templates of the class names.
        schedule: Schedule of the learning rate.
        mixing: Mixtures of training clips, and the smoothing of their labels.
        lr: Peak learning rate of the weights that train.
        weight_decay: Weight decay of AdamW.
        beta2: Decay of AdamW's mean of squared gradients, in [0, 1).
        view_fusion: What is averaged over the views of a video.
        pretrained_from: Checkpoint of a training whose backbone this one starts from; `None` starts from the original
            weights.
        seed: Seed of the mixtures.
        original_share: Part of the backbone's original weights in the fine-tuned ones of an evaluation, in [0, 1]; 0 of
            a method without such an option.
    """

    SIDES: ClassVar[Mapping[str, Side]] = {
        **VideoTextMethod.SIDES,
        "beta2": "training",
        "mixup": "training",
        "cutmix": "training",
        "cutmix_share": "training",
        "label_smoothing": "training",
        "mixed_clips": "training",
        "original_share": "test",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        prompts: str | Sequence[str],
        schedule: Schedule,
        *,
        mixing: Mixing,
        lr: float,
        weight_decay: float,
        beta2: float,
        view_fusion: ViewFusion,
        pretrained_from: str | None,
        seed: int,
        original_share: float = 0.0,
    ) -> None:
        super().__init__(backbone, prompts, schedule)
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("weight_decay", weight_decay)
        Range(0, 1, below=True).check("beta2", beta2)
        SEEDS.check("seed", seed)
        self.mixing = mixing
        self.lr = lr
        self.weight_decay = weight_decay
        self.beta2 = beta2
        self.view_fusion = view_fusion
        self.pretrained_from = pretrained_from
        self.seed = seed
        self.original_share = original_share
        self._original = OriginalWeights(backbone, original_share)  # CLIP's own, wherever the training starts
        start_from(backbone, pretrained_from)

    @override
    def evaluation_weights(self) -> AbstractContextManager[None]:
        """The weights that are fine-tuned, with `original_share` of the original ones."""
        return self._original.blended(self.backbone, self.original_share)

    @abstractmethod
    def train_text(self) -> ClassState:
        """Unit features `(C, D)` of the training classes, or what `training_logits` takes for them; with a graph."""

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert self.train_classes is not None
        classes = len(self.train_classes.names)
        video, targets = self.mixing.mix(batch, classes=classes, seed=self.seed, step=self.global_step)
        logits = self.training_logits(self.encode_video(self.backbone.normalize(video)), self.train_text())
        return {"loss": F.cross_entropy(logits, targets)}

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        betas = (0.9, self.beta2)
        return [{"params": trained, "lr": self.lr, "weight_decay": self.weight_decay, "betas": betas}]


def views_of_a_test(training: TrainingFacts, tested: str | None, *, few: str) -> frozenset[str]:
    """The papers' views of a test video; none are stated for the validation of a training.

    Args:
        training: Facts about the training.
        tested: Name of the tested dataset; `None` in a training.
        few: Views where the training is not fully supervised on the tested dataset, such as `1x1`; there they are 4x3.
    """
    if tested is None:
        return frozenset()
    supervised = training.subset.shots is None and collection(tested) == collection(training.dataset)
    return frozenset({"4x3" if supervised else few})
