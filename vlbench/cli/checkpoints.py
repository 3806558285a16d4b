"""Checkpoints that survive being killed, and the way back from one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from vlbench.files import replacing

_KEY = "configuration"
_OF_THE_RUN = {
    "trainer": (
        *("accelerator", "strategy", "devices", "num_nodes", "plugins", "logger", "default_root_dir", "profiler"),
        *("enable_progress_bar", "enable_model_summary", "log_every_n_steps"),
    ),
    "data": ("root", "num_workers", "batch_size"),
    "loading": ("eval_batch_size", "effective_batch"),
}
"""Options that say where and how a training runs. The batch is what all processes make of it."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint it replaces, in the same folder, so that one of the two is always there.

    Lightning's own writing goes through the folder for temporary files, often on another disk: moving is copying then.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class Continuation(Callback):
    """Makes the checkpoints of a training the start of its continuation.

    They name the configuration they belong to. Random numbers are a function of seed and epoch, so that a training
    draws the same ones whether or not it was interrupted.

    Args:
        configuration: Digest of everything that the weights depend on, see `training_digest`.
        seed: Seed of the random numbers.
    """

    def __init__(self, configuration: str, seed: int) -> None:
        self.configuration = configuration
        self.seed = seed

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seed = np.random.SeedSequence([self.seed, trainer.current_epoch]).generate_state(1)[0]
        torch.manual_seed(int(seed))

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_KEY] = self.configuration

    def find(self, folder: Path) -> Path | None:
        """The checkpoint in `folder` that a training of this configuration left; says why there is none."""
        path = folder / "last.ckpt"
        if not path.is_file():
            _tell(f"{path} does not exist; training starts anew")
            return None
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(_KEY)
        except Exception as error:  # torch raises whatever a damaged file makes it stumble over
            _tell(f"{path} cannot be read ({error}); training starts anew")
            return None
        if stored != self.configuration:
            _tell(f"{path} belongs to another configuration; training starts anew")
            return None
        _tell(f"training continues from {path}")
        return path


@rank_zero_only
def _tell(text: str) -> None:
    print(f"resume: {text}")  # noqa: T201 - tells the user what happens


def training_digest(config: Mapping[str, Any], batch: int) -> str:
    """Digest of what the weights of a training depend on, and not of where it runs.

    Args:
        config: Configuration of `vlbench fit`, plain values.
        batch: Clips of an optimizer step.
    """
    model, data = config["model"], config["data"]
    kept = {
        "model": model,
        "data": {
            **data,
            "init_args": {
                **_without(data["init_args"], _OF_THE_RUN["data"]),
                "loading": _without(data["init_args"].get("loading", {}), _OF_THE_RUN["loading"]),
            },
        },
        "trainer": _without(config["trainer"], _OF_THE_RUN["trainer"]),
        "selection": config["selection"],
        "seed": config["seed_everything"],
        "batch": batch,
    }
    text = json.dumps(_as_floats(kept), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _as_floats(value: Any) -> Any:
    """The value with every number a float: of an option that takes both kinds, which one `0` becomes depends on the
    order in which Python met the types, and so on what was imported before."""
    if isinstance(value, Mapping):
        return {key: _as_floats(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_as_floats(entry) for entry in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _without(options: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in left_out}
