"""`fit`, `validate`, `test` and `predict` through LightningCLI."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

# Set before torch starts its threads: idle ones that spin slow the data workers down several times on few cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

import vlbench.bank.datamodule
import vlbench.clips.datamodules
import vlbench.methods  # noqa: F401 - class names in configs are found among imported classes
from vlbench.cli.checkpoints import Continuation, RunningCheckpoint, WholeCheckpointIO
from vlbench.cli.checks import check_slurm, checked_data, explained
from vlbench.cli.configs import config_name
from vlbench.cli.quiet import silence
from vlbench.cli.step_times import StepTimes, check_logger, log_to_csv
from vlbench.cli.summary import PARTS, summary
from vlbench.cli.trainer_options import add_options
from vlbench.cli.training_facts import training_data, training_digest
from vlbench.cli.values import check_lists
from vlbench.cli.weights import as_checkpoint
from vlbench.clips.accumulation import EffectiveBatch
from vlbench.clips.datamodule import VideoDataModule
from vlbench.methods.base import VideoTextMethod
from vlbench.names import name_bytes, one_line, quoted
from vlbench.processes import announce_parent
from vlbench.results.run_settings import batch_settings, validation_batch_settings
from vlbench.temporary import temporary_folder
from vlbench.yaml_files import check_yaml

_load_yaml = get_loader("yaml")


def _load_checked(text: str) -> Any:
    """What jsonargparse reads of an option, or of a file that an option names."""
    check_yaml(text, "the value of an option")
    # jsonargparse hands the null of a group within a class on to the group's parser in Python's word.
    return None if text == "None" else _load_yaml(text)


set_loader("yaml", _load_checked, exceptions=(yaml.YAMLError,))

_STRICT = {"exit_on_error": False, "allow_abbrev": False}
"""Arguments of parsers that raise their errors and take no beginning of an option's name for the option."""


class VlbenchCLI(LightningCLI):
    """LightningCLI with a record writer, a checkpoint of the last epoch and, where asked for, one of the best.

    Attributes:
        temporary_folder: Folder for a checkpoint that is made of an exported safetensors file.
        exit_code: Exit code of the command, 1 if a prediction leaves videos out.
    """

    temporary_folder: Path
    exit_code: int = 0

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_options(parser)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        (command,) = self.subcommands()
        with explained(self._subcommand_parsers[command]):
            super().parse_arguments(parser, args)
        check_lists(sys.argv[2:], self.config[command])

    def _parse_ckpt_path(self) -> None:
        """Reads no options from a checkpoint, as Lightning would: those of vlbench hold none."""

    @override
    def before_instantiate_classes(self) -> None:
        command = self.config["subcommand"]
        config = self.config[command]
        if command == "fit":
            check_logger(config.trainer.logger)
        else:
            # Nothing is trained, so there is nothing to log over time.
            config.trainer.logger = False
            if config.selection != "last":
                config.record.selection = config.selection
        # Missing videos are noticed before weights are downloaded and a model is built.
        datamodule = checked_data(command, config)
        datamodule.prepare_data()
        datamodule.setup(command)

    @override
    def after_instantiate_classes(self) -> None:
        config = self.config_init[self.config["subcommand"]]
        if config.ckpt_path is not None and Path(config.ckpt_path).suffix == ".safetensors":
            config.ckpt_path = as_checkpoint(Path(config.ckpt_path), self.temporary_folder)
        text = self.parser.dump(self.config)
        digest = hashlib.blake2b(name_bytes(text), digest_size=16).hexdigest()
        command = [config_name(word) for word in sys.argv[1:]]
        config.record.use(self.datamodule, seed=int(config.seed_everything), config_digest=digest, command=command)
        check_slurm(self.trainer)
        self.model.use(self.datamodule.dataset)
        self.trainer.strategy.checkpoint_io = WholeCheckpointIO()
        torch.set_float32_matmul_precision(config.matmul_precision)
        # Of its own, torch lets convolutions take TF32: the patches of a ViT would be rounded to three digits.
        torch.backends.cudnn.allow_tf32 = config.matmul_precision != "highest"
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy):
            if self.model.leaves_parameters_unused:
                strategy._ddp_kwargs["find_unused_parameters"] = True
            if not any(parameter.requires_grad for parameter in self.model.parameters()):
                # A head learns without gradients; a method that trains nothing says so itself, DDP before it.
                strategy.configure_ddp = lambda: None  # type: ignore[method-assign]
        if config.compile:
            self.model.compile_blocks()

    def before_fit(self) -> None:
        """Sets up which epochs are kept and where the training starts.

        Raises:
            ConfigError: If a training is to be resumed from a folder that has no fixed name.
        """
        config = self.config_init["fit"]
        trainer: Any = self.trainer
        plain = yaml.safe_load(self.parser.dump(self.config))["fit"]
        data = self.datamodule  # of a bank, the bank says what a clip is, and no option does
        self.model.configuration = {
            "seed_everything": int(config.seed_everything),
            "model": plain["model"],
            "data": {"frames": data.frames, "clip": asdict(data.clip)},
        }
        processes, weights = trainer.world_size, self.model.backbone.identity.digest
        batch = batch_settings(trainer, data)
        if config.selection != "last":
            batch |= validation_batch_settings(trainer, data)
        continuation = Continuation(
            training_digest(plain, batch, weights),
            int(config.seed_everything),
            training_data(self.datamodule.dataset),
            (processes, self.datamodule.batch_of_process(processes)),
        )
        # Before the checkpoint of the last epoch, which has to know of the best one.
        position = trainer.callbacks.index(config.checkpoint)
        if config.selection != "last":
            best = ModelCheckpoint(
                dirpath=config.checkpoint.dirpath, filename="best", monitor="val/top1", mode="max",
                enable_version_counter=False, save_on_train_epoch_end=True,
            )  # fmt: skip
            trainer.callbacks.insert(position, best)
        trainer.callbacks[:0] = [continuation, Timer()]
        log_to_csv(trainer)
        if trainer.loggers:
            trainer.callbacks.append(StepTimes())
        if config.checkpoint_minutes > 0:
            trainer.callbacks.append(RunningCheckpoint(config.checkpoint_minutes, config.checkpoint))
        if self.datamodule.loading.effective_batch is not None:
            trainer.callbacks.append(
                EffectiveBatch(self.datamodule.loading.effective_batch, self.datamodule.batch_size)
            )
        if config.resume == "auto":
            config.ckpt_path = continuation.find(Path(config.checkpoint.dirpath))
        self._announce()

    def after_fit(self) -> None:
        """Says where the checkpoints are."""
        for callback in self.trainer.checkpoint_callbacks:
            assert isinstance(callback, ModelCheckpoint)
            if callback.best_model_path:
                _say(f"checkpoint: {callback.best_model_path}")

    def before_validate(self) -> None:
        """Says what is evaluated."""
        self._announce()

    def before_test(self) -> None:
        """Says what is evaluated."""
        self._announce()

    def before_predict(self) -> None:
        """Says what is evaluated."""
        self._announce()

    def _announce(self) -> None:
        command = self.config["subcommand"]
        seed = self.config[command].seed_everything
        # What a prediction prints is read by other programs.
        file = sys.stderr if command == "predict" else sys.stdout
        for line in summary(seed, self.datamodule.dataset, PARTS[command], self.model):
            _say(line, file)

    def after_predict(self) -> None:
        """Prints a line for each video: its id, the name of the best class and the score, with tabs between.

        The videos that could not be read are named on standard error, and the command ends with exit code 1.
        """
        for batch in self.trainer.predict_loop.predictions:
            for video, name, score in batch:
                print(f"{quoted(video)}\t{quoted(name)}\t{score:.4f}")  # noqa: T201 - what was asked for
        sys.stdout.flush()
        unreadable = self.model.unreadable
        for video, cause in sorted(unreadable.items()):
            _say(f"unreadable: {quoted(video)}: {one_line(cause)}", sys.stderr)
        if unreadable:
            total = len(self.datamodule.dataset.videos("test"))
            _say(f"vlbench: error: {len(unreadable)} of {total} videos cannot be read", sys.stderr)
            # Another process of a DDP run that ended with an error would have Lightning end this one.
            self.exit_code = int(self.trainer.is_global_zero)


@rank_zero_only
def _say(line: str, file: TextIO | None = None) -> None:
    print(line, file=file or sys.stdout, flush=True)


def run_trainer(arguments: Sequence[str]) -> int:
    """Runs one of Lightning's commands.

    Args:
        arguments: The command and its options; configurations are given by path.

    Returns:
        0, or 1 if a prediction leaves out videos that cannot be read.

    Raises:
        VlbenchError: Whatever the user can mend.
    """
    silence()
    announce_parent()
    # Lightning reads the process's own arguments, also when it starts the other processes of a DDP run.
    sys.argv[1:] = arguments
    with temporary_folder() as folder:
        return run_lightning(arguments[0], folder)


def run_lightning(command: str, folder: Path, base: type[VlbenchCLI] = VlbenchCLI) -> int:
    """Parses the process's own arguments and runs one of Lightning's commands.

    Args:
        command: One of Lightning's commands, such as `fit`.
        folder: Folder for a checkpoint that is made of an exported safetensors file.
        base: Class of the command line.

    Returns:
        The exit code of the command.
    """

    class OneCommand(base):  # type: ignore[misc, valid-type]
        """Lightning builds a parser for each of its commands, each takes a quarter of a second; one is used."""

        temporary_folder = folder

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {command: LightningCLI.subcommands()[command]}

    command_line = OneCommand(
        VideoTextMethod,
        VideoDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        parser_kwargs={command: dict(_STRICT), **_STRICT},
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        save_config_callback=SaveConfigCallback if command == "fit" else None,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            # The datamodule hands out its own samplers: evaluation must neither pad nor drop.
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            # One line says what the table would, see `vlbench.cli.summary`; `vlbench methods show` says more.
            "enable_model_summary": False,
        },
    )
    return int(command_line.exit_code)
