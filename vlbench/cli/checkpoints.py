"""Checkpoints that survive being killed, and the way back from one of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.cloud_io import _load as torch_load
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from typing_extensions import override

from vlbench.cli.training_facts import data_differences
from vlbench.clips.datamodule import batches_of_open_epoch
from vlbench.errors import ConfigError
from vlbench.files import replacing

LAST, RUNNING = "last.ckpt", "running.ckpt"
"""Names of the checkpoints that a training may go on from: of the last epoch, and of one that has not ended."""

_STEPS_BETWEEN_AGREEMENTS = 16
_KEY, _DATA, _BATCHES, _RANDOM = "configuration", "data", "batches", "random"


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint it replaces, in the same folder, so that one of the two is always there; executes
    nothing that a checkpoint says.

    Lightning's own writing goes through the folder for temporary files, often on another disk: moving is copying then.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        # Through a file of Python's, whose errors say what is wrong; those of torch's own writer do not.
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                refused: BaseException | None = error
                while refused is not None and not isinstance(refused, OSError):
                    refused = refused.__context__
                raise refused or error from error

    @override
    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = lambda storage, _: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        content: dict[str, Any] = torch_load(path, map_location=map_location, weights_only=True)
        return content


class RunningCheckpoint(Callback):
    """Writes `running.ckpt` every so many minutes of an epoch, so that a long epoch is not lost as a whole.

    It is written between two optimizer steps, where no gradients are held back, and is gone when the epoch's own
    checkpoint is there.

    Args:
        minutes: Minutes between two checkpoints.
        checkpoint: Callback that writes the checkpoints of epochs; its folder is used.
    """

    def __init__(self, minutes: float, checkpoint: ModelCheckpoint) -> None:
        self.seconds = 60 * minutes
        self.checkpoint = checkpoint
        self._written = 0.0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._written = time.monotonic()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.is_last_batch:
            return
        # Several processes have to agree, which costs them a message: not at every step.
        if trainer.world_size > 1 and trainer.global_step % _STEPS_BETWEEN_AGREEMENTS:
            return
        due = time.monotonic() - self._written >= self.seconds
        if trainer.strategy.broadcast(due):
            trainer.save_checkpoint(self._path)
            self._written = time.monotonic()

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove(trainer)

    @property
    def _path(self) -> Path:
        return Path(str(self.checkpoint.dirpath)) / RUNNING

    def _remove(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            self._path.unlink(missing_ok=True)


class Continuation(Callback):
    """Makes the checkpoints of a training the start of its continuation.

    They name the configuration and the data they belong to. Random numbers are a function of seed and epoch, and those
    of an epoch that has not ended are in its checkpoint, so that a training draws the same ones whether or not it was
    interrupted.

    Args:
        configuration: Digest of everything that the weights depend on, see `training_digest`.
        seed: Seed of the random numbers.
        data: Facts about the training data, see `training_data`.
        batches: Number of processes, and of the clips that each takes at once.
    """

    def __init__(
        self,
        configuration: str,
        seed: int,
        data: Mapping[str, Any] | None = None,
        batches: tuple[int, int] = (1, 1),
    ) -> None:
        self.configuration = configuration
        self.seed = seed
        self.data = dict(data or {})
        self.batches = list(batches)
        self._random: list[dict[str, Tensor]] | None = None

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seed = np.random.SeedSequence([self.seed, trainer.current_epoch]).generate_state(1)[0]
        torch.manual_seed(int(seed))

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if self._random is not None:
            _set_random_state(self._random[trainer.global_rank], pl_module.device)
            self._random = None

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_KEY] = self.configuration
        checkpoint[_DATA] = self.data
        checkpoint[_BATCHES] = self.batches
        if batches_of_open_epoch(trainer):
            state = _random_state(pl_module.device)
            states: list[Any] = [state] * trainer.world_size
            if trainer.world_size > 1:
                torch.distributed.all_gather_object(states, state)
            checkpoint[_RANDOM] = states

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint.get(_RANDOM)

    def find(self, folder: Path) -> Path | None:
        """The newest checkpoint in `folder` that a training of this configuration left; says why there is none.

        Raises:
            ConfigError: If a checkpoint there is of a training on other data, whose weights would be overwritten.
        """
        steps: dict[Path, int] = {}
        reasons = []
        for path in (folder / LAST, folder / RUNNING):
            stored = self._stored(path)
            if not isinstance(stored, str):
                steps[path] = stored["global_step"]
            elif path.name == LAST or path.is_file():
                reasons.append(f"{path} {stored}")
        if not steps:
            _tell(f"{' and '.join(reasons)}; training starts anew")
            return None
        for reason in reasons:
            _tell(reason)
        newest = max(steps, key=lambda path: (steps[path], path.name == LAST))
        _tell(f"training continues from {newest}, {steps[newest]} steps")
        return newest

    def _stored(self, path: Path) -> dict[str, Any] | str:
        """A checkpoint that the training can go on from, or why it cannot."""
        if not path.is_file():
            return "does not exist"
        try:
            stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            data = stored.get(_DATA)
        except Exception as error:  # torch raises whatever a damaged file makes it stumble over
            return f"cannot be read ({error})"
        if data is not None and (differences := data_differences(data, self.data)):
            raise ConfigError(
                f"resume is auto, and {path} is of a training on other data: {'; '.join(differences)}. Give another "
                f"checkpoint.dirpath, or delete the checkpoints in {path.parent} to train anew"
            )
        if stored.get(_KEY) != self.configuration:
            return "belongs to another configuration"
        if _RANDOM in stored and stored.get(_BATCHES) != self.batches:
            return "is of an epoch in other batches or on another number of processes, which cannot go on in these"
        return stored


@rank_zero_only
def _tell(text: str) -> None:
    print(f"resume: {text}")  # noqa: T201 - tells the user what happens


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
