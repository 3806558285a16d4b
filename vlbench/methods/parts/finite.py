"""A training whose loss or weights are not finite ends, and no checkpoint of it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from vlbench.errors import TrainingError

_NEVER = 2**62


class FiniteTraining(Callback):
    """Ends a training at the first loss that is not finite, in all of its processes.

    The number of that step is kept on the device: the host reads it every `log_every_n_steps` steps, before a
    validation and before a checkpoint is written, and waits for the device at no other step.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._step = 0
        self._rates: dict[int, float] = {}

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first = torch.full((), _NEVER, dtype=torch.int64, device=pl_module.device)
        self._rates.clear()

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._step = trainer.global_step + 1
        self._rates[self._step] = max(float(group["lr"]) for group in groups)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._first is not None
        self._first = torch.where(outputs["loss"].isfinite(), self._first, self._first.clamp(max=self._step))
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        # Gradients of several batches may make one step.
        if trainer.global_step == self._step and every and self._step % every == 0:
            self._check()

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check()

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check()
        lost = not_finite(checkpoint["state_dict"])
        if lost:
            raise TrainingError(
                f"{len(lost)} of {len(checkpoint['state_dict'])} tensors of the method are not finite after step"
                f" {trainer.global_step}, {lost[0]} is one; no checkpoint of it is written: {_WAY_OUT}"
            )

    def _check(self) -> None:
        """Raises in every process if a loss of any of them was not finite."""
        if self._first is None:
            return
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(self._first, op=dist.ReduceOp.MIN)
        first = int(self._first.item())
        if first < _NEVER:
            raise TrainingError(
                f"the loss of step {first} is not finite, at a learning rate of {self._rates[first]:.3g}; the training"
                f" has ended, checkpoints of the steps before stay: {_WAY_OUT}"
            )
        self._rates = {step: rate for step, rate in self._rates.items() if step == self._step}


_WAY_OUT = (
    "give a smaller learning rate (model.lr), clip gradients (trainer.gradient_clip_val) or set trainer.precision to"
    " 32-true"
)


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Keys of the tensors that hold a number that is not finite, sorted.

    Args:
        state: State dict of a method, or a part of it.
    """
    flags = {key: value.isfinite().all() for key, value in sorted(state.items()) if value.is_floating_point()}
    # One transfer from the device for all of them.
    finite = torch.stack(list(flags.values())).tolist() if flags else []
    return [key for key, each in zip(flags, finite, strict=True) if not each]
