"""Weights that are the mean of those after several epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.parts.blending import blended
from vlbench.optim import Schedule
from vlbench.ranges import COUNTS
from vlbench.settings import Side

_GOING_ON = "going_on"
"""Key of a checkpoint for what a training goes on from, where its state dict holds the mean."""


class AveragedTraining(VideoTextMethod):
    """A method whose weights are the mean of those that train after each epoch, from one epoch on.

    All epochs count the same. The state dict of a checkpoint is the mean, and so are the weights that a validation and
    whatever follows the training use; a training that goes on from a checkpoint goes on from its own weights, which
    the checkpoint holds as well. Before the first of these epochs has ended there is no mean, and the weights are the
    training's own.

    Args:
        backbone: Dual encoder of videos and texts.
        prompts: Name of a set of templates of the class names, or templates.
        schedule: Schedule of the learning rate.
        average_from: First epoch whose weights count, from 1; `None` takes the last weights alone.

    Raises:
        ConfigError: If `average_from` is outside its range.
    """

    SIDES: ClassVar[Mapping[str, Side]] = {**VideoTextMethod.SIDES, "average_from": "training"}

    def __init__(
        self, backbone: DualEncoder, prompts: str | Sequence[str], schedule: Schedule, *, average_from: int | None
    ) -> None:
        super().__init__(backbone, prompts, schedule)
        COUNTS.check("average_from", average_from, "the last weights")
        self.average_from = average_from
        self._forget_average()

    def _forget_average(self) -> None:
        self._mean: dict[str, Tensor] = {}
        self._averaged = 0
        self._next_epoch = 0

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def _average(self) -> None:
        """Has the weights after the current epoch count, once."""
        epoch = self.current_epoch
        if self.average_from is None or epoch + 1 < self.average_from or epoch < self._next_epoch:
            return
        trained = self._trained()
        if self._averaged:
            self._mean = {name: self._mean[name].to(parameter.device) for name, parameter in trained.items()}
            update = get_swa_multi_avg_fn()
            update(list(self._mean.values()), [parameter.detach() for parameter in trained.values()], self._averaged)
        else:
            self._mean = {name: parameter.detach().clone() for name, parameter in trained.items()}
        self._averaged += 1
        self._next_epoch = epoch + 1

    @override
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.is_last_batch:  # before the validation, which the epoch counts for
            self._average()

    def on_train_epoch_end(self) -> None:
        """Has the weights count after an epoch that ended before its last batch."""
        self._average()

    def on_train_end(self) -> None:
        """Leaves the method with the mean."""
        with torch.no_grad():
            for name, parameter in self._trained().items():
                if name in self._mean:
                    parameter.copy_(self._mean[name])
        self._forget_average()

    @override
    def evaluation_weights(self) -> AbstractContextManager[None]:
        return blended(self._trained(), self._mean, 1.0) if self._mean else nullcontext()

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._mean:
            current = checkpoint["state_dict"]
            checkpoint["state_dict"] = {**current, **self._mean}
            checkpoint[_GOING_ON] = {"state_dict": current, "averaged": self._averaged, "next_epoch": self._next_epoch}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        current, trainer = checkpoint.get(_GOING_ON), self._trainer
        if current is not None and trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            self._mean = checkpoint["state_dict"]
            self._averaged, self._next_epoch = current["averaged"], current["next_epoch"]
            checkpoint["state_dict"] = current["state_dict"]
        super().on_load_checkpoint(checkpoint)
