"""Predictions keyed by video, and what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy


@dataclass
class Predictions:
    """Scores of the evaluated videos of one test set.

    Attributes:
        ids: one a row.
        labels: `(N,)` int64.
        scores: `(N, C)` float32; only their order within a row matters.
        failures: id -> `(label, cause)` of the videos that could not be read. They count as wrong.
    """

    ids: list[str]
    labels: Tensor
    scores: Tensor
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Videos, readable or not."""
        return len(self.ids) + len(self.failures)

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions], num_classes: int) -> Predictions:
        """Joins parts into one, ordered by id, whatever the order or the number of the parts.

        Raises:
            ValueError: if a video is there twice.
        """
        ids = [name for part in parts for name in part.ids]
        failures = {name: failure for part in parts for name, failure in part.failures.items()}
        if len({*ids, *failures}) != sum(part.total for part in parts):
            raise ValueError("a video was evaluated twice; its id is not unique or the sampler padded the last batch")
        labels = torch.cat([part.labels for part in parts]) if parts else torch.empty(0, dtype=torch.int64)
        scores = torch.cat([part.scores for part in parts]) if parts else torch.empty(0, num_classes)
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return cls([ids[i] for i in order], labels[order], scores[order], dict(sorted(failures.items())))

    def gathered(self) -> Predictions:
        """The predictions of every process; each process gets all of them."""
        parts: list[Predictions | None] = [self]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            parts = [None] * dist.get_world_size()
            # Objects, not tensors: a process may have any number of videos, also none.
            dist.all_gather_object(parts, self)
        return Predictions.concatenate([part for part in parts if part is not None], self.scores.shape[1])


def half_class_accuracies(features: Tensor, classes: Tensor, labels: Tensor, draws: int = 10) -> Tensor:
    """Zero-shot accuracy on random halves of the classes, as MoTE's released code draws and scores them.

    Draw k permutes the classes with numpy's legacy generator seeded with k and keeps the first half, the videos of
    those classes, and as candidates those of them that occur among the videos. A score is the mean over views of
    cosines.

    Args:
        features: unit video features `(N, V, D)` of V views.
        classes: unit class features `(C, D)`.
        labels: int64 `(N,)`.
        draws: number of halves.

    Returns:
        `(draws, 2)`: top-1 and top-5 in per cent, top-5 clipped to the number of candidates.
    """
    scores = (features @ classes.T).mean(dim=1)
    rows = []
    for seed in range(draws):
        kept = torch.from_numpy(np.random.RandomState(seed).permutation(len(classes))[: len(classes) // 2])
        chosen = torch.isin(labels, kept)
        candidates, targets = labels[chosen].unique(return_inverse=True)
        of_half = scores[chosen][:, candidates]
        hits = [
            multiclass_accuracy(of_half, targets, len(candidates), top_k=min(k, len(candidates)), average="micro")
            for k in (1, 5)
        ]
        rows.append(100 * torch.stack(hits))
    return torch.stack(rows)


def classification_metrics(predictions: Predictions, top_k: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Accuracies in per cent, 0..100; unreadable videos count as wrong.

    Args:
        predictions: of one test set.
        top_k: values of k; one larger than the number of classes is clipped to it.

    Returns:
        `top1`, `top5` over videos, and `mean_per_class`, the mean of the top-1 accuracies of the classes that occur.
    """
    num_classes = predictions.scores.shape[1]
    if predictions.total == 0:
        return {**{f"top{k}": float("nan") for k in top_k}, "mean_per_class": float("nan")}
    failed = torch.bincount(
        torch.tensor([label for label, _ in predictions.failures.values()], dtype=torch.int64), minlength=num_classes
    )
    read = torch.bincount(predictions.labels, minlength=num_classes)
    if len(predictions.ids) == 0:
        return {**{f"top{k}": 0.0 for k in top_k}, "mean_per_class": 0.0}
    scores, labels = predictions.scores, predictions.labels
    metrics = {}
    for k in top_k:
        accuracy = multiclass_accuracy(scores, labels, num_classes, top_k=min(k, num_classes), average="micro")
        metrics[f"top{k}"] = 100 * accuracy.item() * len(predictions.ids) / predictions.total
    by_class = multiclass_accuracy(scores, labels, num_classes, average="none")
    expected = read + failed
    occurs = expected > 0
    metrics["mean_per_class"] = 100 * (by_class * read / expected.clamp(min=1))[occurs].mean().item()
    return metrics
