"""Linear classifiers of one feature a video, and CLIP-Adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.methods.head_only.base import HeadOnly
from vlbench.methods.head_only.descent import accuracy, descend, first_best
from vlbench.methods.head_only.features import HeldoutFeatures, TrainingFeatures
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.ranges import BATCHES, COUNTS, FACTORS, SEEDS, SHARES, WEIGHTS
from vlbench.settings import Side

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Penalties that held-out videos choose among."""


class ZeroShotProbe(HeadOnly):
    """The linear probe that starts as zero-shot CLIP, ZS-LP of CLAP (CVPR 2024, arXiv 2312.12730): `s v . unit(W_c)`.

    `W` starts at the text features; cross entropy trains it. The same hyper-parameters serve every dataset; those of
    the descent are vlbench's.

    Args:
        backbone: Dual encoder whose towers stay as they are.
        updates: Number of steps of the training, whatever the number of videos.
        lr: Peak learning rate of SGD with momentum 0.9, which falls to 0 along half a cosine.
        batch: Number of videos of a step, at most.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video.
        seed: Seed of the order of the training features.
    """

    name = "zero_shot_probe"
    opens_vocabulary = False
    LEARNED: ClassVar[tuple[str, ...]] = ("class_weights",)
    TRAINED: ClassVar[tuple[str, ...]] = LEARNED
    PAPER: ClassVar[Mapping[str, object]] = {
        "updates": 200,
        "lr": 0.1,
        "batch": 256,
        "prompts": "video",
        "view_fusion": "probabilities",
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **HeadOnly.SIDES,
        "prompts": "training",
        "updates": "training",
        "batch": "training",
    }
    class_weights: Tensor

    def __init__(
        self,
        backbone: DualEncoder,
        updates: int = 200,
        lr: float = 0.1,
        batch: int = 256,
        prompts: str | list[str] = "video",
        view_fusion: ViewFusion = "probabilities",
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, prompts, view_fusion, seed)
        COUNTS.check("updates", updates)
        WEIGHTS.check("lr", lr)
        BATCHES.check("batch", batch)
        SEEDS.check("seed", seed)
        self.updates = updates
        self.lr = lr
        self.batch = batch

    @override
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        weights = text.detach().clone().requires_grad_(True)
        optimizer = torch.optim.SGD([weights], lr=self.lr, momentum=0.9)
        descend(
            optimizer, lambda video, labels: F.cross_entropy(self._logits(video, weights), labels), training,
            batch_size=self.batch, seed=self.seed, steps=self.updates,
        )  # fmt: skip
        self.set_learned(class_weights=weights)

    def _logits(self, video: Tensor, weights: Tensor) -> Tensor:
        logits: Tensor = self.backbone.logit_scale.exp() * video @ F.normalize(weights, dim=-1).T
        return logits

    @override
    def score(self, video: Tensor, classes: None) -> Tensor:
        return self._logits(video, self.class_weights)


class LogisticProbe(HeadOnly):
    """Logistic regression on unit features: `W_c . v + b_c`, trained to the end by L-BFGS.

    The mean cross entropy and `penalty / 2 |W|^2` are minimised. Held-out videos choose the penalty among `PENALTIES`,
    the first of equals; without them it is the one that is given.

    Args:
        backbone: Dual encoder whose towers stay as they are.
        penalty: Weight of the squared weights where no held-out videos choose it.
        iterations: Most iterations of L-BFGS.
        view_fusion: What is averaged over the views of a video.
    """

    name = "logistic_probe"
    opens_vocabulary = False
    LEARNED: ClassVar[tuple[str, ...]] = ("class_weights", "class_biases")
    TRAINED: ClassVar[tuple[str, ...]] = LEARNED
    PAPER: ClassVar[Mapping[str, object]] = {"penalty": 1e-4, "iterations": 100, "view_fusion": "probabilities"}
    SIDES: ClassVar[Mapping[str, Side]] = {**HeadOnly.SIDES, "penalty": "training", "iterations": "training"}
    class_weights: Tensor
    class_biases: Tensor

    def __init__(
        self,
        backbone: DualEncoder,
        penalty: float = 1e-4,
        iterations: int = 100,
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(backbone, "video", view_fusion)
        FACTORS.check("penalty", penalty)
        COUNTS.check("iterations", iterations)
        self.penalty = penalty
        self.iterations = iterations

    @override
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        penalties = (self.penalty,) if heldout is None else PENALTIES
        solutions = [self.solve(training, len(text), penalty) for penalty in penalties]
        best = 0
        if heldout is not None:
            logits = [heldout.units @ weights.T + biases for weights, biases in solutions]
            best = first_best([accuracy(each, heldout.labels) for each in logits])
        weights, biases = solutions[best]
        self.set_learned(class_weights=weights, class_biases=biases)

    def solve(self, training: TrainingFeatures, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
        """Weights `(C, D)` and biases `(C,)` for a penalty; every pass of a video is a sample.

        Args:
            training: Features of the training videos.
            classes: Number C of classes.
            penalty: Weight of the squared weights.
        """
        samples = F.normalize(training.passes, dim=-1).flatten(0, 1)
        labels = training.labels.repeat_interleave(training.passes.shape[1])
        weights = samples.new_zeros(classes, samples.shape[1]).requires_grad_(True)
        biases = samples.new_zeros(classes).requires_grad_(True)
        optimizer = torch.optim.LBFGS(
            [weights, biases], max_iter=self.iterations, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-6, tolerance_change=1e-9,
        )  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(samples @ weights.T + biases, labels) + penalty / 2 * weights.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return weights.detach(), biases.detach()

    @override
    def score(self, video: Tensor, classes: None) -> Tensor:
        logits: Tensor = video @ self.class_weights.T
        return logits + self.class_biases if len(self.class_weights) else logits


class CLIPAdapter(HeadOnly):
    """CLIP-Adapter (IJCV 2024, arXiv 2110.04544) on the video feature: `v' = ratio relu(v A) B + (1 - ratio) v`.

    A score is `s unit(v') . w_c` with the texts of any classes. The paper's adapter on the image side; the descent's
    hyper-parameters are vlbench's, the same for every dataset.

    Args:
        backbone: Dual encoder whose towers stay as they are.
        ratio: Part of the adapted feature in the mixture.
        reduction: Factor by which the adapter's middle is narrower than the features.
        updates: Number of steps of the training, whatever the number of videos.
        lr: Peak learning rate of AdamW, which falls to 0 along half a cosine.
        batch: Number of videos of a step, at most.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video.
        seed: Seed of the adapter's initial weights and of the order of the training features.
    """

    name = "clip_adapter"
    LEARNED: ClassVar[tuple[str, ...]] = ("down", "up")
    TRAINED: ClassVar[tuple[str, ...]] = LEARNED
    PAPER: ClassVar[Mapping[str, object]] = {
        "ratio": 0.2,
        "reduction": 4,
        "updates": 200,
        "lr": 1e-3,
        "batch": 256,
        "prompts": "video",
        "view_fusion": "probabilities",
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **HeadOnly.SIDES,
        "ratio": "both",
        "reduction": "training",
        "updates": "training",
        "batch": "training",
    }
    down: Tensor
    up: Tensor

    def __init__(
        self,
        backbone: DualEncoder,
        ratio: float = 0.2,
        reduction: int = 4,
        updates: int = 200,
        lr: float = 1e-3,
        batch: int = 256,
        prompts: str | list[str] = "video",
        view_fusion: ViewFusion = "probabilities",
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, prompts, view_fusion, seed)
        SHARES.check("ratio", ratio)
        COUNTS.check("reduction", reduction)
        COUNTS.check("updates", updates)
        WEIGHTS.check("lr", lr)
        BATCHES.check("batch", batch)
        SEEDS.check("seed", seed)
        self.ratio = ratio
        self.reduction = reduction
        self.updates = updates
        self.lr = lr
        self.batch = batch

    @override
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        width = text.shape[1]
        narrow = max(1, width // self.reduction)
        generator = torch.Generator().manual_seed(self.seed)
        # torch's own way to begin a linear layer: uniform within 1 / sqrt(inputs).
        down = (torch.rand(narrow, width, generator=generator) * 2 - 1) / width**0.5
        up = (torch.rand(width, narrow, generator=generator) * 2 - 1) / narrow**0.5
        down, up = (each.to(text).requires_grad_(True) for each in (down, up))
        optimizer = torch.optim.AdamW([down, up], lr=self.lr)
        descend(
            optimizer, lambda video, labels: F.cross_entropy(self._logits(video, text, down, up), labels), training,
            batch_size=self.batch, seed=self.seed, steps=self.updates,
        )  # fmt: skip
        self.set_learned(down=down, up=up)

    def _logits(self, video: Tensor, text: Tensor, down: Tensor, up: Tensor) -> Tensor:
        adapted = self.ratio * F.relu(video @ down.T) @ up.T + (1 - self.ratio) * video
        logits: Tensor = self.backbone.logit_scale.exp() * F.normalize(adapted, dim=-1) @ text.T
        return logits

    @override
    def score(self, video: Tensor, classes: Tensor) -> Tensor:
        if not len(self.down):
            logits: Tensor = self.backbone.logit_scale.exp() * video @ classes.T
            return logits
        return self._logits(video, classes, self.down, self.up)
