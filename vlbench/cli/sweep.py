"""`vlbench sweep`: a head on many draws of training videos, in one process."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningArgumentParser
from typing_extensions import override

from vlbench.bank.averaged import AveragedBank
from vlbench.bank.datamodule import FeatureBankDataModule
from vlbench.cli.quiet import silence
from vlbench.cli.trainer import VlbenchCLI, run_lightning
from vlbench.errors import ConfigError, DataError
from vlbench.methods.head_only.base import HeadOnly
from vlbench.ranges import COUNTS, SEEDS
from vlbench.results.callback import RecordWriter
from vlbench.results.pairs import digest_of, read_pair
from vlbench.temporary import temporary_folder

_UNHEEDED = (
    ("selection", "last", "tests the last epoch of each training"),
    ("ckpt_path", None, "trains a head anew on every draw"),
    ("resume", "never", "trains a head anew on every draw"),
)
"""Options of `fit` that a sweep can do nothing with: their names, their usual values, and what a sweep does."""


class SweepCLI(VlbenchCLI):
    """LightningCLI of `fit` whose run is a training and a test on every draw; neither leaves a checkpoint."""

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--draws",
            type=list[tuple[int, int]],
            default=[(1, 0)],
            help="Training videos a class and seed of each draw.",
        )

    @override
    def before_instantiate_classes(self) -> None:
        config = self.config["fit"]
        for name, usual, why in _UNHEEDED:
            if config[name] != usual:
                raise ConfigError(
                    f"{name} is {config[name]}, and a sweep {why}; leave it out, or use `vlbench fit` and"
                    " `vlbench test`"
                )
        super().before_instantiate_classes()

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        config = self.config_init[subcommand]
        method, data = self.model, self.datamodule
        if not isinstance(method, HeadOnly) or not isinstance(data, FeatureBankDataModule):
            raise ConfigError(
                f"a sweep is of heads on a bank, and {method.name} on {type(data).__name__} is none; use `vlbench fit`"
                " and `vlbench test`, or a head such as --config head_only/tip_adapter.yaml on --config data/bank.yaml"
            )
        for shots, seed in config.draws:
            COUNTS.check("shots of draws", shots)
            SEEDS.check("seeds of draws", seed)
        sweep(method, data, config.draws, config.record, vars(config.trainer))


def sweep(
    method: HeadOnly,
    data: FeatureBankDataModule,
    draws: Sequence[tuple[int, int]],
    record: RecordWriter,
    trainer: Mapping[str, Any],
) -> None:
    """Trains and tests a head on draws of training videos, one after the other, each with a record of its own.

    Args:
        method: Head, which is left with what it learned last.
        data: Data of the bank, whose features are averaged over the frames once.
        draws: Training videos a class and seed of each draw.
        record: Options of the records; a draw that this very stage of the runner has recorded is left out.
        trainer: Options of Lightning's Trainer.
    """
    bank = AveragedBank(data.bank)
    data.dataset.sets("test")  # read here, the test lists are those of every draw
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    for shots, seed in draws:
        writer = _writer(record, shots, seed)
        if _recorded(writer):
            continue
        drawn = data.drawn(shots, seed, bank)
        method.restart(seed)
        method.use(drawn.dataset)
        writer.use(drawn, seed)
        callbacks = [*(trainer.get("callbacks") or ()), Timer(), writer]
        runner = Trainer(**{**trainer, **quiet, "callbacks": callbacks})
        runner.fit(method, datamodule=drawn)
        runner.test(method, datamodule=drawn, verbose=False)


def _writer(given: RecordWriter, shots: int, seed: int) -> RecordWriter:
    """A writer of the record of one draw."""
    return RecordWriter(
        folder=None if given.folder is None else str(given.folder),
        name=None if given.name is None else f"{given.name}-{shots}shot-seed{seed}-test",
        stage=given.stage,
        protocol=given.protocol,
        half_classes=given.half_classes,
        bootstrap=given.bootstrap,
        keep=given.keep,
        keep_prompts=given.keep_prompts,
    )


def _recorded(writer: RecordWriter) -> bool:
    """Whether an earlier run of this very stage has left the record and its scores."""
    if writer.folder is None or writer.name is None or writer.stage is None:
        return False
    try:
        record, _ = read_pair(writer.folder / "records" / f"{writer.name}.json", digest_of)
    except DataError:
        return False
    return record.details.stage == writer.stage


def run_sweep(arguments: Sequence[str]) -> int:
    """Runs a sweep.

    Args:
        arguments: The command and its options; configurations are given by path.

    Returns:
        0.

    Raises:
        VlbenchError: Whatever the user can mend.
    """
    silence()
    sys.argv[1:] = ["fit", *arguments[1:]]
    with temporary_folder() as folder:
        return run_lightning("fit", Path(folder), SweepCLI)
