"""Steps, log and optimizer of a training in Lightning's loops."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from lightning import Callback
from torch import Tensor
from torch.optim import AdamW, Optimizer
from typing_extensions import override

from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.methods.loops import EvaluationLoops
from vlbench.methods.parts.finite import FiniteTraining
from vlbench.methods.parts.running_terms import RunningTerms
from vlbench.optim import Schedule


class TrainingLoops(EvaluationLoops):
    """Trains the parameters that a method names on the loss that it states, beside the evaluation.

    Args:
        schedule: Schedule of the learning rate; the default one if absent.
    """

    def __init__(self, schedule: Schedule | None) -> None:
        super().__init__()
        self.schedule = schedule or Schedule()
        self._terms = RunningTerms()
        self._logged_step = 0

    @abstractmethod
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """`loss`, the scalar to minimise, and other scalars to log, of a batch of clips `(B, T, 3, H, W)` uint8."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimizer, each with its own `lr` and `weight_decay`."""

    @override
    def configure_callbacks(self) -> list[Callback]:
        return [*super().configure_callbacks(), FiniteTraining()]

    def on_train_start(self) -> None:
        """Begins a log: a training of an object that was trained before, or that goes on, has entries of its own."""
        self._terms = RunningTerms()
        self._logged_step = self.global_step

    @override
    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        terms = self.training_loss(batch)
        self._terms.update(terms)
        return terms["loss"]

    @override
    def on_train_batch_end(self, outputs: Any, batch: ClipBatch, batch_idx: int) -> None:
        """Logs the means of the loss's terms over the steps and processes since the last entry of the log."""
        step, every = self.global_step, self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step > self._logged_step and every and step % every == 0:
            self._logged_step = step
            means = {f"train/{key}": value for key, value in self._terms.means(self.trainer.strategy).items()}
            self.log_dict(means, on_step=True)
            self.log("loss", means["train/loss"], prog_bar=True, logger=False)

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Optimizer of a training: AdamW, unless overridden.

        Args:
            groups: Parameter groups of the method, see `parameter_groups`.
        """
        # One pass over each parameter: on a CPU the default's many small ones cost a quarter of a ViT-B/16 step.
        # Lightning's mixed precision, of which float16 scales gradients, clips none of an optimizer with one pass.
        mixed = str(self.trainer.precision).endswith("-mixed")
        return AdamW(groups, fused=not (mixed and self.trainer.gradient_clip_val))

    @override
    def configure_optimizers(self) -> Any:
        groups = self.parameter_groups()
        if not groups:
            raise ConfigError(f"{type(self).__name__} trains nothing; use `vlbench test`")
        optimizer = self.build_optimizer(groups)
        self.trainer.fit_loop.setup_data()  # a training without a number of epochs has no length of one before
        total = int(self.trainer.estimated_stepping_batches)
        # The Trainer makes an update of the batches that are left over at the end of an epoch, too.
        per_epoch = max(1, math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))
        scheduler = self.schedule.scheduler(optimizer, steps_per_epoch=per_epoch, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
