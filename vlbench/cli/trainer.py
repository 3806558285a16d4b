"""`fit`, `validate`, `test` and `predict` through LightningCLI."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Set before torch starts its threads: idle ones that spin slow the data workers down several times on few cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from typing_extensions import override

import vlbench.backbones
import vlbench.data.all
import vlbench.methods  # noqa: F401 - class names in configs are found among imported classes
from vlbench.cli.configs import resolve_arguments
from vlbench.cli.weights import as_checkpoint
from vlbench.data.datamodule import VideoDataModule
from vlbench.methods.base import VideoTextMethod
from vlbench.results.callback import RecordWriter


class VlbenchCLI(LightningCLI):
    """LightningCLI with a record writer and a checkpoint of the last epoch."""

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(RecordWriter, "record")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                # One file, the last epoch's: which one is tested never depends on a score.
                "checkpoint.filename": "last",
                "checkpoint.save_top_k": 1,
                "checkpoint.enable_version_counter": False,
                "checkpoint.save_on_train_epoch_end": True,
            }
        )

    @override
    def before_instantiate_classes(self) -> None:
        command = self.config["subcommand"]
        if command != "fit":
            # Nothing is trained, so there is nothing to log over time.
            self.config[command].trainer.logger = False
        # Missing videos are noticed before weights are downloaded and a model is built.
        only_data = Namespace({"subcommand": command, command: Namespace(data=self.config[command].data)})
        self.parser.instantiate(only_data, instantiate_groups=False)[command].data.check(command)

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Any:
        trainer = super().instantiate_trainer(**kwargs)
        text = self.parser.dump(self.config)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RecordWriter):
                callback.config_digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return trainer


def run_trainer(arguments: Sequence[str]) -> None:
    """Runs one of Lightning's commands.

    Args:
        arguments: the command and its options; configurations may be given by name.

    Raises:
        VlbenchError: whatever the user can mend.
    """
    # Lightning reads the process's own arguments, also when it starts the other processes of a DDP run.
    with TemporaryDirectory() as folder:
        sys.argv[1:] = _with_checkpoints(resolve_arguments(arguments), Path(folder))
        _run(arguments[0])


def _with_checkpoints(arguments: list[str], folder: Path) -> list[str]:
    """The arguments with an exported safetensors file after `--ckpt_path` made a checkpoint in `folder`."""
    joined = [
        part for argument in arguments for part in argument.split("=", 1 if argument.startswith("--ckpt_path=") else 0)
    ]
    return [
        str(as_checkpoint(Path(value), folder)) if option == "--ckpt_path" and value.endswith(".safetensors") else value
        for option, value in zip(["", *joined], joined, strict=False)
    ]


def _run(command: str) -> None:
    VlbenchCLI(
        VideoTextMethod,
        VideoDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        save_config_callback=SaveConfigCallback if command == "fit" else None,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            # The datamodule hands out its own samplers: evaluation must neither pad nor drop.
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
        },
    )
