"""What a training's log holds beside its loss: learning rate, time of a step, and how much of it waits for data."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from typing_extensions import override

from vlbench.errors import ConfigError


def log_to_csv(trainer: Trainer) -> None:
    """Has a training that logs at all log to CSV too, below its default root folder; `trainer.logger: false` logs not.

    Args:
        trainer: Trainer of the training, before it begins.
    """
    loggers = trainer.loggers
    if loggers and not any(isinstance(logger, CSVLogger) for logger in loggers):
        trainer.loggers = [CSVLogger(trainer.default_root_dir), *loggers]  # the first says where checkpoints go


_PACKAGES = {"TensorBoardLogger": ("tensorboard", "tensorboardX"), "WandbLogger": ("wandb",)}
"""Packages of which a logger of Lightning needs one."""


def check_logger(logger: Any) -> None:
    """Whether the packages of a configured logger are installed, or of each of several.

    Args:
        logger: Value of the option `trainer.logger`.

    Raises:
        ConfigError: If one is missing; names the package.
    """
    for each in logger if isinstance(logger, list) else [logger]:
        name = str(getattr(each, "class_path", "")).rpartition(".")[2]
        packages = _PACKAGES.get(name, ())
        if packages and not any(find_spec(package) for package in packages):
            raise ConfigError(
                f"trainer.logger is {name}, and {packages[0]} is not installed; run `pip install {packages[0]}`, or"
                " leave the logger out: the log is written as CSV in any case"
            )


class StepTimes(Callback):
    """Logs `train/lr`, `train/step_seconds` and `train/data_share` with each entry of the log.

    The learning rate is the first parameter group's. Seconds are those of an optimizer step since the last entry; the
    share of data is the part of them in which the process waited for a batch, in [0, 1]. The clock is the host's: a GPU
    that still computes is waited for in the step that reads a value of it.
    """

    def __init__(self) -> None:
        self._restart(0)
        self._ended: float | None = None

    def _restart(self, step: int) -> None:
        self._step, self._seconds, self._waited = step, 0.0, 0.0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart(trainer.global_step)
        self._ended = None

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = time.monotonic()  # a validation between two epochs is no waiting for data

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        now = time.monotonic()
        if self._ended is not None:
            self._waited += now - self._ended
            self._seconds += now - self._ended
        self._ended = now

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self._ended is not None:
            self._seconds += now - self._ended
        self._ended = now
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or step <= self._step or step % every:
            return
        values = {
            "train/step_seconds": self._seconds / (step - self._step),
            "train/data_share": self._waited / self._seconds if self._seconds else 0.0,
        }
        if trainer.optimizers:
            values["train/lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        pl_module.log_dict(values, on_step=True)
        self._restart(step)
