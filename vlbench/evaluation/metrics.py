"""Predictions keyed by video, and what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from vlbench.datasets.specs import Truth
from vlbench.evaluation import stored_scores
from vlbench.evaluation.stored_scores import StoredScores


@dataclass
class Predictions:
    """Scores of the evaluated videos of one test set.

    Attributes:
        ids: Ids of the videos, one a row.
        labels: Labels of the videos, int64 `(N,)`, or int64 `(N, C)` of ones and zeros where a video may have several.
        scores: `(N, C)` float32, the method's scores fused over the views; only their order within a row matters.
        cosines: `(N, C)` float32, the mean over the views of the method's scores, which are cosines for most methods.
        features: `(N, D)` float32, the mean over the views of the videos' unit features; their products with the
            classes' are the cosines. D is 0 for a method that compares more than one vector a video with the classes.
        kept: `(N, P, V, C)` float32, the scores of V views, or of the fused ones, with P sets of templates; `None`
            unless they were asked for.
        failures: Id -> `(label or labels, cause)` of the videos that could not be read. They count as wrong.
    """

    ids: list[str]
    labels: Tensor
    scores: Tensor
    cosines: Tensor
    features: Tensor
    failures: dict[str, tuple[Truth, str]] = field(default_factory=dict)
    kept: Tensor | None = None

    def stored(self) -> StoredScores:
        """The predictions as a file of scores has them; they share their memory."""
        labels, scores, cosines, features = (
            each.numpy() for each in (self.labels, self.scores, self.cosines, self.features)
        )
        return StoredScores(self.ids, labels, scores, cosines, features, self.failures)

    @classmethod
    def none(cls, num_classes: int, dim: int, *, multi_label: bool = False) -> Predictions:
        """Predictions of no video, for a set of classes."""
        scores = torch.empty(0, num_classes)
        labels = torch.empty((0, num_classes) if multi_label else 0, dtype=torch.int64)
        return cls([], labels, scores, scores, torch.empty(0, dim))

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
            None if filled[0].kept is None else joined("kept"),
        )

    def gathered(self) -> Predictions:
        """The predictions of every process, each of which gets all of them; ordered by id if those of a process are."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return self
        parts: list[Predictions | None] = [None] * dist.get_world_size()
        # Objects, not tensors: a process may have any number of videos, also none.
        dist.all_gather_object(parts, self)
        return Predictions.concatenate([part for part in parts if part is not None])


def half_class_metrics(predictions: Predictions) -> dict[str, float]:
    """Metrics of `stored_scores.half_class_metrics`, of predictions that are not stored yet."""
    return stored_scores.half_class_metrics(predictions.stored())


def bootstrap_interval(predictions: Predictions, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Interval of `stored_scores.bootstrap_interval`, of predictions that are not stored yet."""
    return stored_scores.bootstrap_interval(predictions.stored(), draws, seed)


def classification_metrics(predictions: Predictions, top_k: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Metrics of `stored_scores.classification_metrics`, of predictions that are not stored yet.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> labels, features = torch.tensor([0, 1, 1]), torch.zeros(3, 0)
        >>> lost = {"d.mp4": (0, "truncated")}
        >>> predictions = Predictions(["a.mp4", "b.mp4", "c.mp4"], labels, scores, scores, features, lost)
        >>> classification_metrics(predictions)["top1"]
        50.0
    """
    return stored_scores.classification_metrics(predictions.stored(), top_k)
