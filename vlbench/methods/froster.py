"""FROSTER: Open-VCLIP's attention in a CLIP that stays near its frozen self by residual feature distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.parts.class_features import ensemble, frozen_ensemble
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.neighbour_frames import MissingFrames
from vlbench.methods.parts.neighbour_training import RELEASED_SCHEDULE, NeighbourTraining
from vlbench.methods.parts.rephrased import RephrasedNames
from vlbench.optim import Schedule
from vlbench.ranges import WEIGHTS
from vlbench.settings import Side


class ResidualProjector(nn.Module):
    """`x + 0.1 W_2 gelu(W_1 x)`; W_2 is zero at the beginning, and the projector the identity.

    Args:
        width: Width D of the features.
        scale: Factor on the second term.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        first, second = (nn.Linear(width, width, bias=False) for _ in range(2))
        nn.init.kaiming_normal_(first.weight)
        nn.init.zeros_(second.weight)
        self.layers = nn.Sequential(first, nn.GELU(), second)

    def forward(self, x: Tensor) -> Tensor:
        """Projected features `(..., D)`, not made unit again, of unit features `(..., D)`."""
        projected: Tensor = x + self.scale * self.layers(x)
        return projected


class FROSTER(RephrasedNames, NeighbourTraining):
    """FROSTER (ICLR 2024, arXiv 2402.03241): all of CLIP is fine-tuned, frozen CLIP is the teacher.

    The loss is `CE + 2 (1 - mean cos(P_v z, z')) + 2 (1 - mean cos(P_t w, w'))`, z and w the unit features of frames
    and classes, z' and w' the teacher's and P residual projectors, which nothing else uses. Checkpoints hold the mean
    of the weights after each epoch. The defaults are the released code's for ViT-B/16.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> FROSTER(TinyCLIP(), distillation=0.0, rephrased="rephrased.json").deviations()
        {'distillation': 0.0}

    Args:
        backbone: Dual encoder that is fine-tuned; a copy of it is the teacher.
        schedule: Schedule of the learning rate.
        rephrased: JSON file with a string `Name: sentence` for every class of the dataset, class index -> string; null
            takes the names alone, which the paper does not.
        neighbours: Frames before and after its own that a token attends to; 0 leaves the attention as it is.
        missing_neighbours: What stands for the neighbours that a clip lacks at its ends: `zeros`, keys and values of
            zero in the softmax, as released, or nothing, `masked`.
        distillation: Weight of the distances to the teacher's features; 0 leaves them out.
        residual_scale: Factor on the projectors' residual term.
        average_from: First epoch whose weights count in the mean that checkpoints hold, from 1; null takes the last
            weights alone.
        lr: Peak learning rate of all that trains.
        weight_decay: Weight decay of AdamW, of all but vectors.
        prompts: Templates of the class names; each step draws one of them, an evaluation takes all.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the draws of templates, which are the same in every process.
    """

    name = "froster"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "FROSTER's frames attend to their neighbours in blocks",
        "frames_encoded_one_by_one": "FROSTER has single frames attend to their neighbours",
        "plain_attention": "FROSTER has frames attend to their neighbours",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        **NeighbourTraining.PAPER,
        "rephrased": lambda method: method.rephrased or "a file of rephrased names",
        "distillation": 2.0,
        "residual_scale": 0.1,
    }
    # Base-to-novel has 32 clips a step or 64: it depends on the dataset, and scripts and documentation differ.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        **NeighbourTraining.PAPER_RECIPE,
        "data.batch": lambda _, training, __: frozenset({64} if training.subset.shots is None else {32, 64}),
        "trainer.max_epochs": lambda _, training, __: _epochs(training),
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **NeighbourTraining.SIDES,
        "rephrased": "both",
        "distillation": "training",
        "residual_scale": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = RELEASED_SCHEDULE,
        rephrased: str | None = None,
        neighbours: int = 1,
        missing_neighbours: MissingFrames = "zeros",
        distillation: float = 2.0,
        residual_scale: float = 0.1,
        average_from: int | None = 2,
        lr: float = 3.33e-6,
        weight_decay: float = 0.01,
        prompts: str | list[str] = "mote",
        view_fusion: ViewFusion = "logits",
        grad_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        # As loaded: frames attend to themselves alone, and a checkpoint of the training changes nothing of it.
        teacher = deepcopy(backbone).requires_grad_(False) if distillation else None
        super().__init__(
            backbone, prompts, schedule, neighbours=neighbours, missing_neighbours=missing_neighbours,
            average_from=average_from, lr=lr, weight_decay=weight_decay, view_fusion=view_fusion,
            grad_checkpointing=grad_checkpointing, seed=seed,
        )  # fmt: skip
        WEIGHTS.check("distillation", distillation)
        WEIGHTS.check("residual_scale", residual_scale)
        self.rephrased = rephrased
        self.distillation = distillation
        self.residual_scale = residual_scale
        self.teacher = teacher
        self.image_projector = ResidualProjector(backbone.embed_dim, residual_scale)
        self.text_projector = ResidualProjector(backbone.embed_dim, residual_scale)
        self._tokens: list[Tensor] = []
        self._teacher_texts: Tensor | None = None

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return () if self.rephrased is None else ("FROSTER",)

    @property
    @override
    def leaves_parameters_unused(self) -> bool:
        return not self.distillation  # the projectors

    # Features ----------------------------------------------------------------------------------------------------

    def texts(self, class_name: str) -> list[str]:
        """Texts of a class: each template of its name, with the rephrased name behind it, and that name alone.

        Raises:
            ConfigError: If the file of rephrased names lacks the class.
        """
        if self.rephrased is None:
            return [*(template.format(class_name) for template in self.templates), class_name]
        rephrased = self.rephrased_name(class_name)
        short = rephrased.partition(":")[0]
        return [*(f"{template.format(short)} {rephrased}" for template in self.templates), rephrased]

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        texts = [text for name in class_names for text in self.texts(name)]
        return ensemble(self.backbone.encode_texts(texts), len(class_names))

    # Training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """The training classes' tokens and the teacher's features of them, for each template that may be drawn."""
        assert self.train_classes is not None
        texts = [self.texts(name) for name in self.train_classes.names]
        drawn = range(len(self.templates))
        pairs = [[text for of_class in texts for text in (of_class[index], of_class[-1])] for index in drawn]
        self._tokens = [self.backbone.tokenize(pair) for pair in pairs]
        if self.teacher is not None:
            every = frozen_ensemble(
                self.teacher, [text for of_class in texts for text in of_class], sum(map(len, texts))
            )
            every = every.unflatten(0, (len(texts), -1))  # (C, P + 1, D)
            self._teacher_texts = F.normalize(every[:, :-1] + every[:, -1:], dim=-1).transpose(0, 1)

    def draw(self) -> int:
        """Number of the template of the current step: a function of seed and step."""
        return int(np.random.default_rng([self.seed, self.global_step]).integers(len(self.templates)))

    def train_text(self, template: int) -> Tensor:
        """Unit features `(C, D)` of the training classes by a template and the rephrased names alone, with a graph."""
        assert self._tokens, "call on_fit_start first"
        assert self.train_classes is not None
        return ensemble(self.backbone.text.encode(self._tokens[template]), len(self.train_classes.names))

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert batch.video is not None
        return self.losses(self.backbone.normalize(batch.video), batch.labels, self.draw())

    def losses(self, clips: Tensor, labels: Tensor, template: int) -> dict[str, Tensor]:
        """The loss `CE + distillation (image + text)` and its terms.

        Args:
            clips: Normalised clips `(B, T, 3, H, W)`.
            labels: Labels of the clips, int64 `(B,)`.
            template: Number of the drawn template.
        """
        frames, text = self.encode_frames(clips), self.train_text(template)
        terms = {"ce": F.cross_entropy(self.training_logits(self.pool_frames(frames), text), labels)}
        loss = terms["ce"]
        if self.teacher is not None:
            assert self._teacher_texts is not None
            with torch.no_grad():
                teacher_frames = self.teacher.encode_frames(clips)
            terms["image"] = self._distance(self.image_projector, frames, teacher_frames)
            terms["text"] = self._distance(self.text_projector, text, self._teacher_texts[template])
            loss = loss + self.distillation * (terms["image"] + terms["text"])
        return {"loss": loss, **terms}

    def _distance(self, projector: nn.Module, features: Tensor, teacher: Tensor) -> Tensor:
        """One minus the mean cosine of projected unit features `(..., D)` and the teacher's, in full precision."""
        with torch.autocast(features.device.type, enabled=False):
            dtype = self.backbone.logit_scale.dtype
            projected = projector(F.normalize(features.to(dtype), dim=-1))
            return 1 - F.cosine_similarity(projected, teacher.to(dtype), dim=-1).mean()


def _epochs(training: TrainingFacts) -> int:
    """The released recipes' number of epochs."""
    return 22 if training.subset.shots is None else 12
