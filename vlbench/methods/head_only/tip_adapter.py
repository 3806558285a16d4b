"""Tip-Adapter and Tip-Adapter-F: a cache of training features beside the classes' texts (arXiv 2207.09519)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.methods.head_only.base import HeadOnly
from vlbench.methods.head_only.descent import SMALLEST_EPS, accuracy, descend
from vlbench.methods.head_only.features import HeldoutFeatures, TrainingFeatures
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.ranges import BATCHES, COUNTS, FACTORS, SEEDS, WEIGHTS, Range
from vlbench.settings import Side

SCALE = 100.0
"""Factor on the cosines with the classes' texts, a constant of the released code."""

_LOWEST = 0.1
"""Smallest beta and alpha that a search tries."""


class CachedClasses(NamedTuple):
    """Classes that videos are scored against.

    Attributes:
        text: Unit text features `(C, D)` of the classes.
        values: Class of each cached video as a row of 0 and 1, `(N, C)`; zeros where its class is not among them.
    """

    text: Tensor
    values: Tensor


def cache_logits(cosines: Tensor, values: Tensor, alpha: Tensor | float, beta: Tensor | float) -> Tensor:
    """What the cache adds to the logits: `alpha exp(-beta (1 - v . k_i)) A`.

    Args:
        cosines: Products `(B, N)` of unit video features with the keys.
        values: Classes of the keys, 0 or 1, `(N, C)`.
        alpha: Weight of the cache.
        beta: Sharpness of the cache.

    Returns:
        `(B, C)`.
    """
    logits: Tensor = alpha * torch.exp(-beta * (1 - cosines)) @ values
    return logits


def search(
    text_logits: Tensor,
    cosines: Tensor,
    values: Tensor,
    labels: Tensor,
    *,
    scale: tuple[float, float] = (7.0, 3.0),
    steps: tuple[int, int] = (200, 20),
) -> tuple[float, float]:
    """The first beta and alpha of a grid, beta in the outer loop, with the best accuracy on some videos.

    Args:
        text_logits: Logits `(M, C)` of the videos by the classes' texts.
        cosines: Products `(M, N)` of the videos' unit features with the keys.
        values: Classes of the keys, 0 or 1, `(N, C)`.
        labels: Labels of the videos, int64 `(M,)`.
        scale: Ends of the grid of beta and of alpha, which it does not reach.
        steps: Number of values of beta and of alpha.

    Returns:
        Beta and alpha; if none gets a video right, the first of the grid.
    """
    grids = [
        [i * (end - _LOWEST) / count + _LOWEST for i in range(count)] for end, count in zip(scale, steps, strict=True)
    ]
    best, choice = 0.0, (grids[0][0], grids[1][0])
    with torch.no_grad():
        for beta in grids[0]:
            cached = cache_logits(cosines, values, 1.0, beta)
            for alpha in grids[1]:
                value = accuracy(text_logits + alpha * cached, labels)
                if value > best:
                    best, choice = value, (beta, alpha)
    return choice


class TipAdapter(HeadOnly):
    """Tip-Adapter (ECCV 2022): `100 v . w_c + alpha sum_i exp(-beta (1 - v . k_i)) A_ic`; nothing trains.

    Keys `k_i` are the training videos' mean features over the passes, made unit; `A_ic` is 1 where video i is of class
    c. The two factors are the same for every dataset, or chosen on the videos that `data.heldout` sets aside.

    Args:
        backbone: Dual encoder whose towers stay as they are.
        alpha: Weight of the cache where no held-out videos choose it.
        beta: Sharpness of the cache where no held-out videos choose it.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video.
        seed: Seed of the order of the features in a training of the keys.
    """

    name = "tip_adapter"
    LEARNED: ClassVar[tuple[str, ...]] = ("keys", "key_labels", "factors")
    PAPER: ClassVar[Mapping[str, object]] = {
        "alpha": 3.0,
        "beta": 1.0,
        "prompts": "person",
        "view_fusion": "probabilities",
    }
    SIDES: ClassVar[Mapping[str, Side]] = {**HeadOnly.SIDES, "alpha": "training", "beta": "training"}
    keys: Tensor
    key_labels: Tensor
    factors: Tensor

    def __init__(
        self,
        backbone: DualEncoder,
        alpha: float = 3.0,
        beta: float = 1.0,
        prompts: str | list[str] = "person",
        view_fusion: ViewFusion = "probabilities",
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, prompts, view_fusion, seed)
        WEIGHTS.check("alpha", alpha)
        FACTORS.check("beta", beta)
        SEEDS.check("seed", seed)
        self.alpha = alpha
        self.beta = beta

    @override
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        keys = training.units
        self.set_learned(keys=keys, key_labels=training.labels)
        self._choose_factors(heldout, keys, F.one_hot(training.labels, len(text)).to(keys.dtype), text)

    def _choose_factors(self, heldout: HeldoutFeatures | None, keys: Tensor, values: Tensor, text: Tensor) -> None:
        beta, alpha = self.beta, self.alpha
        if heldout is not None:
            logits = SCALE * heldout.units @ text.T
            beta, alpha = search(logits, heldout.units @ keys.T, values, heldout.labels)
        self.set_learned(factors=torch.tensor([alpha, beta], dtype=text.dtype))

    @override
    def encode_classes(self, class_names: Sequence[str]) -> CachedClasses:
        text = self.encode_text(class_names)
        places = {name: column for column, name in enumerate(class_names)}
        columns = torch.tensor([places.get(name, -1) for name in self.known_names], dtype=torch.int64)
        # A column more for the classes that are not among them, which is cut off.
        columns = torch.where(columns < 0, len(class_names), columns).to(text.device)
        values = text.new_zeros(len(self.keys), len(class_names) + 1)
        if len(self.keys):
            values.scatter_(1, columns[self.key_labels][:, None], 1.0)
        return CachedClasses(text, values[:, :-1])

    @override
    def score(self, video: Tensor, classes: CachedClasses) -> Tensor:
        logits: Tensor = SCALE * video @ classes.text.T
        if len(self.keys):
            alpha, beta = self.factors
            logits = logits + cache_logits(video @ self.keys.T, classes.values, alpha, beta)
        return logits


class TipAdapterF(TipAdapter):
    """Tip-Adapter-F: the keys of Tip-Adapter are the start of a training; texts and `A` stay.

    The weights of the last epoch are taken; the released code takes those of the best epoch on the test videos.

    Args:
        backbone: Dual encoder whose towers stay as they are.
        alpha: Weight of the cache in the training, and where no held-out videos choose it.
        beta: Sharpness of the cache in the training, and where no held-out videos choose it.
        epochs: Number of epochs of the training of the keys.
        lr: Peak learning rate of AdamW, which falls to 0 along half a cosine.
        weight_decay: Weight decay of AdamW on the keys.
        eps: Term of AdamW that keeps it from dividing by zero.
        batch: Number of videos of a step.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video.
        seed: Seed of the order of the training features.
    """

    name = "tip_adapter_f"
    TRAINED: ClassVar[tuple[str, ...]] = ("keys",)
    PAPER: ClassVar[Mapping[str, object]] = {
        **TipAdapter.PAPER,
        "epochs": 20,
        "lr": 1e-3,
        "weight_decay": 0.01,
        "eps": 1e-4,
        "batch": 256,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **TipAdapter.SIDES,
        "epochs": "training",
        "eps": "training",
        "batch": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        alpha: float = 3.0,
        beta: float = 1.0,
        epochs: int = 20,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        eps: float = 1e-4,
        batch: int = 256,
        prompts: str | list[str] = "person",
        view_fusion: ViewFusion = "probabilities",
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, alpha, beta, prompts, view_fusion, seed)
        COUNTS.check("epochs", epochs)
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("weight_decay", weight_decay)
        Range(SMALLEST_EPS, 1).check("eps", eps)
        BATCHES.check("batch", batch)
        self.epochs = epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.eps = eps
        self.batch = batch

    @override
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        values = F.one_hot(training.labels, len(text)).to(text.dtype)
        keys, _ = self.train_keys(training, values, text)
        self.set_learned(keys=keys, key_labels=training.labels)
        self._choose_factors(heldout, keys, values, text)

    def train_keys(
        self, training: TrainingFeatures, values: Tensor, text: Tensor, shuffle: bool = True
    ) -> tuple[Tensor, list[float]]:
        """Keys `(N, D)` after the training, which are not unit any more, and the loss of every step.

        Args:
            training: Features of the training videos.
            values: Classes of the videos, 0 or 1, `(N, C)`.
            text: Unit text features `(C, D)` of the classes.
            shuffle: Whether every epoch has another order of the videos.
        """
        keys = training.units.clone().requires_grad_(True)
        optimizer = torch.optim.AdamW([keys], lr=self.lr, weight_decay=self.weight_decay, eps=self.eps)

        def loss(video: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(self.logits_of(video, keys, values, text), labels)

        losses = descend(
            optimizer, loss, training,
            batch_size=self.batch, seed=self.seed, epochs=self.epochs, shuffle=shuffle,
        )  # fmt: skip
        return keys.detach(), losses

    def logits_of(self, video: Tensor, keys: Tensor, values: Tensor, text: Tensor) -> Tensor:
        """Logits `(B, C)` of unit features `(B, D)` in a training of the keys."""
        return SCALE * video @ text.T + cache_logits(video @ keys.T, values, self.alpha, self.beta)
