"""Validation, test and prediction as one evaluation in Lightning's loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from typing_extensions import override

from vlbench.clips.batch import ViewBatch
from vlbench.datasets.specs import Part
from vlbench.evaluation.evaluator import Evaluation, Evaluator
from vlbench.evaluation.kept import Keep


class EvaluationLoops(LightningModule, ABC):
    """Drives an `Evaluator` through Lightning's loops, with the weights that the method evaluates with.

    Attributes:
        evaluations: Results of the last validation or test, of all processes, on each set of videos and classes.
        keep: What evaluations keep beside their predictions; `None` for nothing.
        unreadable: Id -> cause of the videos of the last prediction, of all processes, that could not be read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.evaluations: list[Evaluation] = []
        self.keep: Keep | None = None
        self.unreadable: dict[str, str] = {}
        self._evaluator: Evaluator | None = None
        self._weights = ExitStack()

    @abstractmethod
    def evaluator(self, part: Part) -> Evaluator:
        """An evaluator of a part of the dataset.

        Raises:
            ConfigError: If the method cannot score the classes of that part.
        """

    def evaluation_weights(self) -> AbstractContextManager[None]:
        """Context in which the method computes with the weights that evaluation uses: its own, unless overridden."""
        return nullcontext()

    def enter_evaluation(self, part: Part) -> None:
        """Begins an evaluation of a part of the dataset."""
        self.leave_evaluation()
        self._weights.enter_context(self.evaluation_weights())
        self._evaluator = self.evaluator(part)

    def leave_evaluation(self) -> None:
        """Ends an evaluation, wherever it stands: the method computes with its own weights again."""
        self._evaluator = None
        self._weights.close()

    @override
    def configure_callbacks(self) -> list[Callback]:
        return [_LeaveEvaluation()]

    @override
    def on_validation_epoch_start(self) -> None:
        self.enter_evaluation("validation")

    @override
    def on_test_epoch_start(self) -> None:
        self.enter_evaluation("test")

    @override
    def on_predict_epoch_start(self) -> None:
        self.unreadable = {}
        self.enter_evaluation("test")

    @override
    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self._current().update(batch)

    @override
    def test_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self._current().update(batch)

    @override
    def predict_step(self, batch: ViewBatch, batch_idx: int) -> list[tuple[str, str, float]]:
        """`(id, class name, score)` of the best class of each readable video of the batch, for each set it is in."""
        evaluator = self._current()
        self.unreadable |= {video: cause for video, (_, cause) in batch.failures.items()}
        best = []
        for evaluated, predictions in zip(evaluator.sets, evaluator.predict(batch), strict=True):
            if predictions.ids:
                top = predictions.stored().best
                names = [evaluated.classes.names[index] for index in top]
                values = predictions.scores[range(len(top)), top].tolist()
                best += list(zip(predictions.ids, names, values, strict=True))
        return best

    @override
    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    @override
    def on_test_epoch_end(self) -> None:
        self._finish("test")

    @override
    def on_predict_epoch_end(self) -> None:
        parts: list[dict[str, str]] = [self.unreadable]
        if dist.is_available() and dist.is_initialized() and self.trainer.world_size > 1:
            parts = [{} for _ in range(self.trainer.world_size)]
            dist.all_gather_object(parts, self.unreadable)
        self.unreadable = {video: cause for part in parts for video, cause in part.items()}
        self.leave_evaluation()

    def _current(self) -> Evaluator:
        assert self._evaluator is not None
        return self._evaluator

    def _finish(self, stage: str) -> None:
        self.evaluations = self._current().compute()
        for index, evaluation in enumerate(self.evaluations):
            prefix = f"{stage}/{evaluation.set.subset.key}" if index else stage
            metrics = {f"{prefix}/{key}": value for key, value in evaluation.metrics.items()}
            self.log_dict(metrics, prog_bar=stage == "val")
        self.leave_evaluation()


class _LeaveEvaluation(Callback):
    """Has a method leave an evaluation that raised; Lightning tells callbacks of exceptions, but no module."""

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, EvaluationLoops)
        pl_module.leave_evaluation()
