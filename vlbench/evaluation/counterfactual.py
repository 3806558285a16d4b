"""Scores the same videos in several orders of their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from typing_extensions import override

from vlbench.clips.batch import EvaluatedVideos
from vlbench.evaluation.evaluator import Evaluation, Evaluator


class CounterfactualVideos(Protocol):
    """What an evaluation asks of a batch in several orders; `clips.counterfactual.CounterfactualBatch` answers it."""

    def in_orders(self) -> Iterator[tuple[str, EvaluatedVideos]]: ...  # noqa: D102 - explained by the class


class CounterfactualEvaluator(Evaluator):
    """Evaluates a method on the same videos in several orders of their frames; the classes are encoded once.

    Args:
        evaluator: Evaluator of the method, which has seen no video.
        orders: Names of the orders; the first one is what `compute` returns.

    Attributes:
        evaluations: Results in each order on each set, once they are computed.
    """

    def __init__(self, evaluator: Evaluator, orders: Sequence[str]) -> None:
        self.method, self.sets, self.classes = evaluator.method, evaluator.sets, evaluator.classes
        self._orders = {order: evaluator.anew() for order in orders}
        self.evaluations: dict[str, list[Evaluation]] = {}

    @override
    def update(self, batch: CounterfactualVideos) -> None:  # type: ignore[override]
        """Scores the videos of a batch in every order and keeps their predictions.

        Args:
            batch: Readable videos in several orders, and the causes of the others.
        """
        for order, videos in batch.in_orders():
            self._orders[order].update(videos)

    @override
    def compute(self) -> list[Evaluation]:
        """Results in the first order on every set; `evaluations` has those in every order."""
        self.evaluations = {order: evaluator.compute() for order, evaluator in self._orders.items()}
        return next(iter(self.evaluations.values()))
