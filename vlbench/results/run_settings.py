"""Settings of the trainer, and of a whole run: what an identity holds of trainer, data and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Timer

from vlbench.clips.options import LoadingOptions
from vlbench.settings import Side, of_side, plain

TRAINER_SIDES: Mapping[str, Side] = {
    "precision": "both",
    "fast_dev_run": "both",
    "use_distributed_sampler": "both",
    "callbacks": "both",
    "max_epochs": "training",
    "min_epochs": "training",
    "max_steps": "training",
    "min_steps": "training",
    "max_time": "training",
    "limit_train_batches": "training",
    "overfit_batches": "training",
    "accumulate_grad_batches": "training",
    "gradient_clip_val": "training",
    "gradient_clip_algorithm": "training",
    "sync_batchnorm": "training",
    "reload_dataloaders_every_n_epochs": "training",
    "limit_val_batches": "validation",
    "val_check_interval": "validation",
    "check_val_every_n_epoch": "validation",
    "limit_test_batches": "test",
}
"""What each option of Lightning's Trainer can change."""

TRAINER_SAME_NUMBERS: Mapping[str, str] = {
    "accelerator": "where it runs is the record's environment: device, processes, packages",
    "strategy": "how processes share a step; data.batch says what all of them make of it",
    "devices": "data.batch says what all processes make of a step, a sum over them rounds in the last bits; without "
    "data.loading.effective_batch their number is a setting of the training",
    "num_nodes": "as devices",
    "plugins": "where and how it runs; precision says what a precision plugin makes of the numbers",
    "logger": "it writes",
    "log_every_n_steps": "it writes",
    "enable_progress_bar": "it shows",
    "enable_model_summary": "it shows",
    "enable_autolog_hparams": "it writes",
    "model_registry": "it uploads",
    "profiler": "it measures",
    "detect_anomaly": "it stops a training and changes none",
    "barebones": "it leaves out logging, checkpoints and checks",
    "default_root_dir": "where files go",
    "enable_checkpointing": "what is kept; a checkpoint says whether its training was finished",
    "num_sanity_val_steps": "a look at validation videos before the training; an evaluation draws nothing",
    "limit_predict_batches": "a prediction leaves no record",
    "deterministic": "kernels that repeat; others round in the last bits",
    "benchmark": "faster kernels, which round in the last bits",
    "inference_mode": "how gradients are left out of an evaluation",
}
"""Options of Lightning's Trainer that cannot change a number, and why."""

CALLBACKS_SAME_NUMBERS: Mapping[str, str] = {
    "ModelCheckpoint": "what is kept; selection says which epoch is tested, and a checkpoint whether it is the last",
    "OnExceptionCheckpoint": "what is kept",
    "SaveConfigCallback": "it writes",
    "Timer": "max_time has its end",
    "ProgressBar": "it shows",
    "ModelSummary": "it shows",
    "LearningRateMonitor": "it writes",
    "DeviceStatsMonitor": "it writes",
    "ThroughputMonitor": "it writes",
}
"""Lightning's callbacks, by their class or a class that theirs extends, that cannot change a number, and why."""


class _Data(Protocol):
    loading: LoadingOptions

    def batch_of_step(self, trainer: Trainer, /) -> int: ...

    def batch_of_process(self, processes: int, /) -> int: ...

    def batch_of_evaluation(self) -> int: ...

    def settings(self, side: Side, /) -> dict[str, object]: ...


def run_settings(trainer: Trainer, data: _Data, side: Side) -> dict[str, object]:
    """Every option of data, trainer and torch that can change a number, by its name, such as `data.frames`.

    Args:
        trainer: Trainer of the run.
        data: DataModule of the run.
        side: What the option can change.
    """
    options = {name: read(trainer) for name, read in _READERS.items()}
    if data.loading.effective_batch is not None:
        del options["accumulate_grad_batches"]  # it follows from the batch and the number of processes
    of_batches = {"training": batch_settings, "validation": validation_batch_settings}.get(side)
    batch = of_batches(trainer, data) if of_batches is not None else {}
    return {
        **{f"data.{name}": value for name, value in {**data.settings(side), **batch}.items()},
        **{f"trainer.{name}": value for name, value in of_side(options, TRAINER_SIDES, side).items()},
        "matmul_precision": torch.get_float32_matmul_precision(),
        "convolutions_in_tf32": torch.backends.cudnn.allow_tf32 and trainer.strategy.root_device.type == "cuda",
    }


def batch_settings(trainer: Trainer, data: _Data) -> dict[str, int]:
    """The clips of an optimizer step, `batch`, and what else says which of them come together in a training.

    Args:
        trainer: Trainer of the run.
        data: DataModule of the run.
    """
    batch, processes = {"batch": data.batch_of_step(trainer)}, trainer.world_size
    if data.loading.effective_batch is None and processes > 1:
        batch["processes"] = processes  # which clips come together, and which come twice, depends on it
    elif any(
        _READERS[name](trainer) != whole for name, whole in (("limit_train_batches", 1.0), ("overfit_batches", 0))
    ):
        # The Trainer counts the batches that gradients are accumulated over, not the optimizer steps.
        batch["at_once"] = data.batch_of_process(processes) * processes
    return batch


def validation_batch_settings(trainer: Trainer, data: _Data) -> dict[str, int]:
    """What says which videos a validation is of, and after how many clips, where the Trainer counts batches.

    Args:
        trainer: Trainer of the run.
        data: DataModule of the run.
    """
    batch, processes = {}, trainer.world_size
    if _READERS["limit_val_batches"](trainer) not in (0, 1.0):
        batch["validated_at_once"] = data.batch_of_evaluation() * processes
    if _READERS["val_check_interval"](trainer) != 1.0:
        batch["at_once"] = data.batch_of_process(processes) * processes
    return batch


def with_views(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings with the views as papers state them, `data.clip.views: 4x3`, and their order where no paper has it."""
    if "data.clip.views.clips" not in settings:
        return {**settings}
    clips, crops = (settings[f"data.clip.views.{name}"] for name in ("clips", "crops"))
    order = settings.get("data.clip.views.order")
    return {**settings, "data.clip.views": f"{clips}x{crops}" if order is None else f"{clips}x{crops} {order}"}


def _attribute(name: str) -> Callable[[Trainer], object]:
    return lambda trainer: getattr(trainer, name)


def _of_processes(name: str) -> Callable[[Trainer], object]:
    """Whether the Trainer's connector has something that matters with several processes only."""
    return lambda trainer: bool(getattr(trainer._accelerator_connector, name)) and trainer.world_size > 1


def _amount(name: str) -> Callable[[Trainer], object]:
    """A number of batches, which is another thing than the same number as a share: 1 batch, or 1.0, all of them."""

    def read(trainer: Trainer) -> object:
        value = getattr(trainer, name)
        return f"{value} batches" if isinstance(value, int) and value else value

    return read


def _max_time(trainer: Trainer) -> object:
    durations = [timer._duration for timer in _callbacks(trainer) if isinstance(timer, Timer)]
    return next((duration for duration in durations if duration is not None), None)


def _described_callbacks(trainer: Trainer) -> object:
    """Callbacks that are not known to change nothing, with their options as far as attributes show them."""
    described = []
    for callback in _callbacks(trainer):
        kinds = {kind.__name__ for kind in type(callback).__mro__}
        if type(callback).__module__.startswith("vlbench.") or kinds & CALLBACKS_SAME_NUMBERS.keys():
            continue
        options = {name: value for name, value in vars(callback).items() if not name.startswith("_")}
        simple = {name: value for name, value in options.items() if isinstance(value, bool | int | float | str | dict)}
        text = ", ".join(f"{name}={plain(value)}" for name, value in sorted(simple.items()))
        described.append(f"{type(callback).__name__}({text})")
    return sorted(described)


def _callbacks(trainer: Trainer) -> list[Callback]:
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    return list(callbacks)


_AMOUNTS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches")
_READERS: dict[str, Callable[[Trainer], object]] = {
    **{name: _attribute(name) for name in TRAINER_SIDES},
    **{name: _amount(name) for name in _AMOUNTS},
    "use_distributed_sampler": _of_processes("use_distributed_sampler"),
    "sync_batchnorm": _of_processes("_layer_sync"),
    "val_check_interval": lambda trainer: (
        getattr(trainer, "_val_check_time_interval", None) or _amount("val_check_interval")(trainer)
    ),
    "callbacks": _described_callbacks,
    "max_time": _max_time,
}
"""How the value of each option is read from a Trainer, which keeps no list of its arguments."""
