"""Scores of what was read of videos, by the evaluator of a test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import Evaluation, Evaluator
from vlbench.evaluation.metrics import Predictions
from vlbench.inference.reading import MOST_VIDEOS, ReadBatch
from vlbench.methods.base import VideoTextMethod


class Scorer:
    """Scores videos by a method with the weights that it evaluates with.

    Args:
        method: Method in evaluation mode, on the device.
        device: Device that the model computes on.
    """

    def __init__(self, method: VideoTextMethod, device: torch.device) -> None:
        self.method = method
        self.device = device
        self._entered = 0
        self._weights = ExitStack()
        self._evaluator: Evaluator | None = None

    def scored(self, names: tuple[str, ...], batches: Iterable[ReadBatch]) -> Iterator[tuple[ReadBatch, Predictions]]:
        """What was read and what it was scored against some classes, batch by batch; ids are places in the batch.

        Args:
            names: Names of the classes.
            batches: Requests, and what was read for them.
        """
        with self._evaluation():
            evaluator = self._evaluator_of(names)
            for read in batches:
                with _float32_convolutions():
                    (part,) = evaluator.predict(self._here(read.batch))
                yield read, part

    def use(self, dataset: VideoDataset) -> None:
        """Hands a dataset to the method; what was made of classes before may be of the descriptions of another one.

        Args:
            dataset: Dataset that is evaluated next.
        """
        self._evaluator = None
        self.method.use(dataset)
        self.method.setup("test")

    def evaluated(self, batches: Iterable[Any]) -> list[Evaluation]:
        """Results on the test part of the dataset that the method was handed.

        Args:
            batches: Batches of the test part.
        """
        with self._evaluation():
            evaluator = self.method.evaluator("test")
            for batch in batches:
                with _float32_convolutions():
                    evaluator.update(self._here(batch))
            return evaluator.compute()

    def _evaluator_of(self, names: tuple[str, ...]) -> Evaluator:
        """An evaluator of some classes, which are encoded once for the videos that come one after the other."""
        if self._evaluator is None or self._evaluator.sets[0].classes.names != names:
            labels = {str(place): 0 for place in range(MOST_VIDEOS)}
            classes = ClassList(names, tuple(range(len(names))), names)
            with _float32_convolutions():
                self._evaluator = Evaluator(self.method, [EvaluationSet(Subset(), classes, labels, "")])
        return self._evaluator

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Context with the weights that the method evaluates with, also while another one is open."""
        if not self._entered:
            self._weights.enter_context(self.method.evaluation_weights())
        self._entered += 1
        try:
            yield
        finally:
            self._entered -= 1
            if not self._entered:
                self._weights.close()

    def _here(self, batch: Any) -> Any:
        return move_data_to_device(batch, self.device)


def checked_classes(method: VideoTextMethod, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes that a method is to score, in the order of its scores.

    Args:
        method: Method that scores them.
        classes: Names that were asked for; `None` where the method knows its only ones.

    Raises:
        ConfigError: If the method cannot score these classes, or there is nothing to choose among.
    """
    fixed, name = method.fixed_classes, method.name
    if fixed is not None:
        if not fixed:
            raise ConfigError(f"{name} has no open vocabulary and knows no classes yet; give a checkpoint of it")
        if classes is not None and (isinstance(classes, str) or sorted(classes) != sorted(fixed)):
            raise ConfigError(
                f"{name} has no open vocabulary: it scores its {len(fixed)} training classes and no others; leave"
                f" classes out, or give all of them, of which {fixed[0]!r} is the first"
            )
        return fixed
    if classes is None or isinstance(classes, str):
        raise ConfigError(f"classes is {classes!r}; allowed: two names or more, each once, none empty")
    names = tuple(classes)
    twice = next((each for place, each in enumerate(names) if each in names[:place]), None)
    if len(names) < 2 or twice is not None or not all(each.strip() for each in names):
        given = f"{len(names)} names" + ("" if twice is None else f", {twice!r} twice")
        raise ConfigError(f"classes are {given}; allowed: two names or more, each once, none empty")
    return names


@contextmanager
def _float32_convolutions() -> Iterator[None]:
    """Context in which a GPU computes convolutions in float32, as in a test; torch lets them take TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
