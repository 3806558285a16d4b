"""Scores videos against lists of classes, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import EvaluatedVideos
from vlbench.datasets.specs import EvaluationSet
from vlbench.evaluation.kept import KeptFacts
from vlbench.evaluation.measures import Probability
from vlbench.evaluation.metrics import Predictions, classification_metrics
from vlbench.evaluation.stored_scores import label_array

Features: TypeAlias = Any
"""What a method makes of videos: a tensor whose first dimension counts the videos, or a named tuple of such tensors."""

ClassState: TypeAlias = Any
"""What a method makes of a list of classes, once for every set; only the method that made it looks inside."""


class EvaluatedMethod(Protocol):
    """What an evaluation asks of a method; see `vlbench.methods.base.VideoTextMethod`, which answers it."""

    backbone: DualEncoder
    keeps_features: ClassVar[bool]

    @property
    def probability(self) -> Probability: ...  # noqa: D102 - explained by the class

    @property
    def features_depend_on_classes(self) -> bool: ...  # noqa: D102 - explained by the class

    def encode_classes(self, class_names: Sequence[str], /) -> ClassState: ...  # noqa: D102 - explained by the class

    def encode_classes_with(self, class_names: Sequence[str], templates: Sequence[str], /) -> ClassState: ...  # noqa: D102

    def encode_frames(self, clips: Tensor, /) -> Features: ...  # noqa: D102

    def pool_frames(self, frames: Features, classes: ClassState, /) -> Features: ...  # noqa: D102

    def score(self, video: Features, classes: ClassState, /) -> Tensor: ...  # noqa: D102

    def fuse_views(self, scores: Tensor, /) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True)
class Evaluation:
    """Results on one set of videos and classes.

    Attributes:
        set: The videos and the classes.
        predictions: Predictions of all processes.
        metrics: Accuracies or the mean average precision in per cent, see `classification_metrics`.
        probability: Rule that makes class probabilities of the predictions.
        kept: What the kept scores of the predictions are of; `None` unless they were asked for.
    """

    set: EvaluationSet
    predictions: Predictions
    metrics: dict[str, float]
    probability: Probability
    kept: KeptFacts | None = None


class Evaluator:
    """Evaluates a method on sets of videos and classes, batch by batch.

    A batch may hold videos of several sets, in any order: every view of a video goes through the image tower once.
    The classes of every set are encoded once, when the evaluator is made. To evaluate with the weights that the method
    evaluates with, make and use the evaluator inside `method.evaluation_weights()`:

        with method.evaluation_weights():
            evaluator = Evaluator(method, dataset.sets("test"))
            for batch in batches:
                evaluator.update(batch)
            (evaluation,) = evaluator.compute()

    Args:
        method: Method to evaluate, in evaluation mode.
        sets: Videos and the classes that they are scored against.
        kept: What the scores that are kept beside the predictions are of; `None` keeps none.
        templates: Other sets of templates whose scores are kept, those of `kept.prompts` after the first.
    """

    def __init__(
        self,
        method: EvaluatedMethod,
        sets: Sequence[EvaluationSet],
        kept: KeptFacts | None = None,
        templates: Sequence[Sequence[str]] = (),
    ) -> None:
        self.method = method
        self.sets = list(sets)
        self.kept = kept
        # Once for all videos: in full precision, also where these are encoded in bfloat16.
        with torch.no_grad(), torch.autocast(method.backbone.mean.device.type, enabled=False):
            self.classes = [method.encode_classes(evaluated.classes.names) for evaluated in self.sets]
            self._others = [
                [method.encode_classes_with(evaluated.classes.names, each) for each in templates]
                for evaluated in self.sets
            ]
        self._parts = [[self._none(evaluated)] for evaluated in self.sets]

    def anew(self) -> Evaluator:
        """An evaluator on the same sets, with the same encoded classes, that has seen no video."""
        other = copy(self)
        other._parts = [[self._none(evaluated)] for evaluated in self.sets]
        return other

    def update(self, batch: EvaluatedVideos) -> None:
        """Scores the videos of a batch and keeps their predictions.

        Args:
            batch: Views of readable videos, and the causes of the others.
        """
        for parts, part in zip(self._parts, self.predict(batch), strict=True):
            parts.append(part)

    @torch.no_grad()
    def predict(self, batch: EvaluatedVideos) -> list[Predictions]:
        """Predictions of a batch for every set, which are not kept.

        Args:
            batch: Views of readable videos, and the causes of the others.
        """
        members = [[row for row, name in enumerate(batch.ids) if name in evaluated.labels] for evaluated in self.sets]
        states = [[classes, *others] for classes, others in zip(self.classes, self._others, strict=True)]
        # Other templates are other features of the classes, and mostly none of the videos.
        each = [of_set if self.method.features_depend_on_classes else of_set[:1] for of_set in states]
        scored = [(rows, state) for rows, of_set in zip(members, each, strict=True) for state in of_set]
        features = iter(self._encode(batch, scored) if batch.ids else [None for _ in scored])
        predictions = []
        for evaluated, of_set, pooled, rows in zip(self.sets, states, each, members, strict=True):
            videos = [next(features) for _ in pooled] * (len(of_set) // len(pooled))
            predictions.append(self._predictions(batch, evaluated, of_set, rows, videos))
        return predictions

    def compute(self) -> list[Evaluation]:
        """Results on every set, over the batches of all processes; every process gets all of them."""
        evaluations = []
        for evaluated, parts in zip(self.sets, self._parts, strict=True):
            parts[:] = [Predictions.concatenate(parts)]  # the parts are as large as what they are joined to
            predictions = parts[0].gathered()
            metrics = classification_metrics(predictions)
            evaluations.append(Evaluation(evaluated, predictions, metrics, self.method.probability, self.kept))
        return evaluations

    def _none(self, evaluated: EvaluationSet) -> Predictions:
        return Predictions.none(
            len(evaluated.classes.names), self.method.backbone.embed_dim, multi_label=evaluated.multi_label
        )

    def _encode(self, batch: EvaluatedVideos, scored: Sequence[tuple[Sequence[int], ClassState]]) -> list[Features]:
        """Features of some videos for each state of classes, with the first two dimensions `(B_i, V)`; `None` where
        B_i is 0.

        A group of views at a time: memory does not grow with their number.
        """
        dtype = self.method.backbone.mean.dtype
        count = len(batch.ids)
        views: list[list[Features]] = [[] for _ in scored]
        device = self.method.backbone.mean.device.type
        for group, frames in batch.encoded(self._frames):
            # Cosines of bfloat16 have three digits, which ties classes: cheap as it is, the rest is in full precision.
            with torch.autocast(device, enabled=False):
                for first in range(0, group * count, count):
                    for of_set, (rows, classes) in zip(views, scored, strict=True):
                        if rows:
                            view = slice(first, first + count)
                            part = _each(lambda x, rows=rows, view=view: _rows(x[view], rows).to(dtype), frames)
                            of_set.append(self.method.pool_frames(part, classes))
        return [_each(lambda *x: torch.stack(x, dim=1), *of_set) if of_set else None for of_set in views]

    def _frames(self, clips: Tensor) -> Features:
        """Frame features of clips `(N, T, 3, S, S)` uint8."""
        return self.method.encode_frames(self.method.backbone.normalize(clips))

    def _predictions(
        self,
        batch: EvaluatedVideos,
        evaluated: EvaluationSet,
        states: Sequence[ClassState],
        rows: Sequence[int],
        videos: Sequence[Features],
    ) -> Predictions:
        part = self._none(evaluated)
        video = videos[0]
        if video is not None:
            with torch.autocast(self.method.backbone.mean.device.type, enabled=False):
                scores = self._of_views(video, states[0], len(rows))
                fused = self.method.fuse_views(scores)
                part.scores = fused.cpu()
                if self.kept is not None:
                    every = [
                        scores,
                        *(self._of_views(*each, len(rows)) for each in zip(videos[1:], states[1:], strict=True)),
                    ]
                    if self.kept.fused:
                        every = [fused[:, None], *(self.method.fuse_views(each)[:, None] for each in every[1:])]
                    part.kept = torch.stack(every, dim=1).float().cpu()
            part.ids = [batch.ids[row] for row in rows]
            part.labels = torch.from_numpy(
                label_array([evaluated.labels[name] for name in part.ids], part.scores.shape[1], evaluated.multi_label)
            )
            part.cosines = scores.mean(dim=1).cpu()
            # Only one vector a video can be compared with other classes later on.
            single = self.method.keeps_features and isinstance(video, Tensor) and video.ndim == 3
            vectors = video if single else scores[:, :, :0]
            part.features = vectors.float().mean(dim=1).cpu()
        part.failures = {
            name: (evaluated.labels[name], cause)
            for name, (_, cause) in batch.failures.items()
            if name in evaluated.labels
        }
        return part

    def _of_views(self, video: Features, classes: ClassState, count: int) -> Tensor:
        """Scores `(B, V, C)` float32 of the views of `count` videos."""
        flat = self.method.score(_each(lambda x: x.flatten(0, 1), video), classes)
        scores: Tensor = flat.unflatten(0, (count, -1)).float()
        return scores


def _rows(x: Tensor, rows: Sequence[int]) -> Tensor:
    """Rows of a tensor, in ascending order; the tensor itself where they are all."""
    return x if len(rows) == len(x) else x.index_select(0, torch.tensor(rows).to(x.device))


def _each(function: Callable[..., Tensor], *features: Features) -> Features:
    """A function of tensors, applied to features: to the tensors themselves or to each field of named tuples."""
    first = features[0]
    if isinstance(first, Tensor):
        return function(*features)
    return type(first)(*(function(*fields) for fields in zip(*features, strict=True)))
