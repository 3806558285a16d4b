"""Gradient accumulation that makes an optimizer step see the same clips on any number of processes."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer
from typing_extensions import override

from vlbench.clips.samplers import micro_batches
from vlbench.errors import ConfigError


class EffectiveBatch(Callback):
    """Accumulates gradients until an optimizer step has seen `clips` training clips over all processes.

    Args:
        clips: Training clips of an optimizer step, over all processes.
        batch_size: Training clips that a process can take at once.
    """

    def __init__(self, clips: int, batch_size: int) -> None:
        self.clips = clips
        self.batch_size = batch_size

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        _, steps = micro_batches(self.clips, trainer.world_size, self.batch_size)
        if trainer.accumulate_grad_batches not in (1, steps):
            raise ConfigError(
                f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}, effective_batch "
                f"{self.clips} makes it {steps}; set only one of them"
            )
        trainer.accumulate_grad_batches = steps
