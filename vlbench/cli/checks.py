"""Checks of the options of a training or a test: before data are prepared, weights downloaded and models built."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from vlbench.cli.methods import check_options
from vlbench.cli.usage import explain
from vlbench.cli.values import check_ranges, check_types
from vlbench.cli.weights import check_checkpoint
from vlbench.clips.datamodule import VideoDataModule
from vlbench.errors import ConfigError, user_error
from vlbench.methods.base import VideoTextMethod
from vlbench.results.callback import RecordWriter


@contextmanager
def explained(parser: ArgumentParser) -> Iterator[None]:
    """Context in which a parser reads options; whatever it raises is about what it was given, and becomes one sentence.

    Args:
        parser: Parser whose options are suggested where a name is wrong.

    Raises:
        ConfigError: On a wrong option.
    """
    try:
        yield
    except Exception as error:
        message = str(error) or f"the options cannot be read: {type(error).__name__}"
        raise (user_error(error) or ConfigError(explain(message, parser))) from error


def checked_data(command: str, config: Namespace) -> VideoDataModule:
    """The DataModule of some options, once everything that the options say has been checked.

    Args:
        command: One of Lightning's commands, such as `fit`.
        config: Options of the command, as the parser has read them.

    Raises:
        VlbenchError: If an option is wrong; the message names it and what is allowed.
    """
    classes: dict[str, type] = {"model": VideoTextMethod, "data": VideoDataModule, "trainer": Trainer}
    check_types(config, {**classes, "record": RecordWriter, "checkpoint": ModelCheckpoint})
    check_ranges(config)
    RecordWriter(**vars(config.record))
    if command == "fit":
        _check_selection(config)
    if config.ckpt_path is not None:
        check_checkpoint(Path(config.ckpt_path), resolve_name(config.model.class_path).name)
    _check_trainer(config.trainer)
    check_options(config.model)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VideoDataModule, "data")
    with explained(parser):
        datamodule = parser.instantiate(Namespace(data=config.data)).data
    assert isinstance(datamodule, VideoDataModule)
    return datamodule


def _check_trainer(options: Namespace) -> None:
    """Has Lightning check the trainer's options, before data are prepared and a model is built."""
    options_of_trainer = vars(options).items()
    plain: dict[str, Any] = {
        key: value
        for key, value in options_of_trainer
        if isinstance(value, bool | int | float | str) or key == "devices"
    }
    with warnings.catch_warnings():  # they come when the trainer is built for good
        warnings.simplefilter("ignore")
        try:
            Trainer(**{**plain, "logger": False, "enable_checkpointing": False})
        except Exception as error:
            problem = str(error).partition("\n")[0]
            raise ConfigError(f"the options of trainer do not fit this machine or each other: {problem}") from error


def check_slurm(trainer: Trainer) -> None:
    """Whether SLURM has started as many processes as the trainer's run has.

    With more of them each would do all of the work, with fewer the ones there would wait for the others for ever.

    Args:
        trainer: Trainer of the run.

    Raises:
        ConfigError: If not.
    """
    tasks = os.environ.get("SLURM_NTASKS")
    # Lightning starts the processes itself in a job of one of these names.
    if tasks is None or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return
    # Not its world_size, which is what SLURM says where the strategy knows of several processes.
    processes = trainer.num_devices * trainer.num_nodes
    if int(tasks) != processes:
        raise ConfigError(
            f"SLURM has {tasks} tasks (SLURM_NTASKS) and the run has {processes} processes (trainer.devices x "
            f"trainer.num_nodes = {trainer.num_devices} x {trainer.num_nodes}): give srun --ntasks={processes}, or "
            "make trainer.devices SLURM's tasks of a node, trainer.num_nodes its nodes and trainer.strategy ddp"
        )
    if processes > 1 and "SLURM_STEP_ID" not in os.environ:  # srun sets it, a batch script has none
        raise ConfigError(
            f"SLURM has {tasks} tasks (SLURM_NTASKS) and srun has not started this one (SLURM_STEP_ID is not set), so"
            " that it would wait for the others: put srun in front of the command in the batch script"
        )


def _check_selection(config: Namespace) -> None:
    """Whether a training can do what its options ask for."""
    if config.resume == "auto" and config.checkpoint.dirpath is None:
        raise ConfigError("resume is auto and checkpoint.dirpath null; give the folder that holds last.ckpt")
    if config.resume == "auto" and config.ckpt_path is not None:
        raise ConfigError(f"resume is auto and ckpt_path {config.ckpt_path}; give one of them")
    if config.selection == "last":
        return
    heldout = config.data.init_args.heldout
    if config.selection == "heldout" and not heldout:
        raise ConfigError(f"selection is heldout and data.heldout {heldout}; allowed: above 0, such as 0.2")
    if config.trainer.limit_val_batches == 0:
        raise ConfigError(
            f"selection is {config.selection} and trainer.limit_val_batches 0; without validation no epoch is better "
            "than another: set it to null, or selection to last"
        )
    if config.selection == "best_on_test":
        rank_zero_warn(
            "selection is best_on_test: best.ckpt is chosen by the test videos, which makes its accuracy on them "
            "optimistic. Use it only to compare with numbers that were made so, and report last.ckpt beside it."
        )
