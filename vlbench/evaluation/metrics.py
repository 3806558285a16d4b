"""Predictions keyed by video, and what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from vlbench.evaluation.statistics import resampled_top1


@dataclass
class Predictions:
    """Scores of the evaluated videos of one test set.

    Attributes:
        ids: Ids of the videos, one a row.
        labels: Labels of the videos, int64 `(N,)`.
        scores: `(N, C)` float32, the method's scores fused over the views; only their order within a row matters.
        cosines: `(N, C)` float32, the mean over the views of the method's scores, which are cosines for most methods.
        features: `(N, D)` float32, the mean over the views of the videos' unit features; their products with the
            classes' are the cosines. D is 0 for a method that compares more than one vector a video with the classes.
        failures: Id -> `(label, cause)` of the videos that could not be read. They count as wrong.
    """

    ids: list[str]
    labels: Tensor
    scores: Tensor
    cosines: Tensor
    features: Tensor
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def none(cls, num_classes: int, dim: int) -> Predictions:
        """Predictions of no video, for a set of classes."""
        scores = torch.empty(0, num_classes)
        return cls([], torch.empty(0, dtype=torch.int64), scores, scores, torch.empty(0, dim))

    @property
    def total(self) -> int:
        """Videos, readable or not."""
        return len(self.ids) + len(self.failures)

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Joins parts, at least one, into one, ordered by id, whatever the order or the number of the parts.

        Takes as much memory as the result does, beside the parts.

        Raises:
            ValueError: If a video is there twice.
        """
        ids = [name for part in parts for name in part.ids]
        failures = {name: failure for part in parts for name, failure in part.failures.items()}
        if len({*ids, *failures}) != sum(part.total for part in parts):
            raise ValueError("a video was evaluated twice; its id is not unique or the sampler padded the last batch")
        order = sorted(range(len(ids)), key=ids.__getitem__)
        positions = torch.empty(len(ids), dtype=torch.int64)
        positions[order] = torch.arange(len(ids))
        # A part without videos does not know how many dimensions their features would have had.
        filled = [part for part in parts if part.ids] or parts[:1]

        def joined(name: str) -> Tensor:
            tensors: list[Tensor] = [getattr(part, name) for part in filled]
            rows = tensors[0].new_empty(len(ids), *tensors[0].shape[1:])
            for tensor, places in zip(tensors, positions.split([len(tensor) for tensor in tensors]), strict=True):
                rows[places] = tensor
            return rows

        return cls(
            [ids[i] for i in order],
            joined("labels"),
            joined("scores"),
            joined("cosines"),
            joined("features"),
            dict(sorted(failures.items())),
        )

    def gathered(self) -> Predictions:
        """The predictions of every process, each of which gets all of them; ordered by id if those of a process are."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return self
        parts: list[Predictions | None] = [None] * dist.get_world_size()
        # Objects, not tensors: a process may have any number of videos, also none.
        dist.all_gather_object(parts, self)
        return Predictions.concatenate([part for part in parts if part is not None])


def half_class_accuracies(cosines: Tensor, labels: Tensor, draws: int = 10) -> Tensor:
    """Zero-shot accuracy on random halves of the classes, as MoTE's released code draws and scores them.

    Draw k permutes the classes with numpy's legacy generator seeded with k and keeps the first half, the videos of
    those classes, and as candidates those of them that occur among the videos.

    Args:
        cosines: `(N, C)`, the mean over the views of the cosines with all classes.
        labels: Labels of the videos, int64 `(N,)`.
        draws: Number of random halves.

    Returns:
        `(draws, 2)`: top-1 and top-5 in per cent, top-5 clipped to the number of candidates.
    """
    rows = []
    for seed in range(draws):
        num_classes = cosines.shape[1]
        kept = torch.from_numpy(np.random.RandomState(seed).permutation(num_classes)[: num_classes // 2])
        in_half = torch.isin(labels, kept)
        candidates, targets = labels[in_half].unique(return_inverse=True)
        of_half = cosines[in_half][:, candidates]
        hits = [
            multiclass_accuracy(of_half, targets, len(candidates), top_k=min(k, len(candidates)), average="micro")
            for k in (1, 5)
        ]
        rows.append(100 * torch.stack(hits))
    return torch.stack(rows)


def half_class_metrics(predictions: Predictions) -> dict[str, float]:
    """Mean and population standard deviation over `half_class_accuracies`; unreadable videos count as wrong."""
    failed = list(predictions.failures.values())
    labels = torch.cat([predictions.labels, torch.tensor([label for label, _ in failed], dtype=torch.int64)])
    # A video that was not read has no cosines; those of its own class are made the smallest.
    wrong = torch.zeros(len(failed), predictions.cosines.shape[1])
    wrong[range(len(failed)), labels[len(predictions.labels) :]] = -2.0
    accuracies = half_class_accuracies(torch.cat([predictions.cosines, wrong]), labels)
    names = ("half_top1", "half_top5")
    means = dict(zip(names, accuracies.mean(dim=0).tolist(), strict=True))
    spreads = zip((f"{name}_std" for name in names), accuracies.std(dim=0, correction=0).tolist(), strict=True)
    return {**means, **dict(spreads)}


def bootstrap_interval(predictions: Predictions, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """The central 95 % of the top-1 accuracies of resampled test sets, in per cent; unreadable videos count as wrong.

    Args:
        predictions: Predictions of one test set.
        draws: Number of resampled sets.
        seed: Seed of the resampling.

    Returns:
        `top1_low` and `top1_high`; empty without videos or draws.
    """
    if predictions.total == 0 or draws == 0:
        return {}
    correct = int((predictions.scores.argmax(dim=1) == predictions.labels).sum())
    low, high = resampled_top1(correct, predictions.total, draws, seed)
    return {"top1_low": low, "top1_high": high}


def classification_metrics(predictions: Predictions, top_k: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Accuracies in per cent, 0..100; unreadable videos count as wrong.

    Args:
        predictions: Predictions of one test set.
        top_k: Values of k; one larger than the number of classes is clipped to it.

    Returns:
        `top1`, `top5` over videos, and `mean_per_class`, the mean of the top-1 accuracies of the classes that occur.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> labels, features = torch.tensor([0, 1, 1]), torch.zeros(3, 0)
        >>> lost = {"d.mp4": (0, "truncated")}
        >>> predictions = Predictions(["a.mp4", "b.mp4", "c.mp4"], labels, scores, scores, features, lost)
        >>> round(classification_metrics(predictions)["top1"], 2)
        50.0
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
