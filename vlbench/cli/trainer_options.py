"""Options of `fit`, `validate`, `test` and `predict` beside Lightning's, and what each can change."""

from __future__ import annotations

from functools import partial
from typing import Literal

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser

from vlbench.backbones.base import FRAME_OPTIONS
from vlbench.cli.values import checked_seed
from vlbench.datasets.specs import Selection
from vlbench.methods.base import VideoTextMethod
from vlbench.results.callback import RecordWriter

ELSEWHERE = {
    "model": "its settings",
    "data": "its settings",
    "trainer": "its settings",
    "seed_everything": "identity.seed",
    "selection": "identity.selection",
    "ckpt_path": "identity.weights",
    "matmul_precision": "a setting of the training and of the test",
    "record": "identity.protocol and identity.selection; its other options say what a record holds and where it goes",
}
"""Options of a training or a test that an identity states in fields of its own, and where."""

SAME_NUMBERS = {
    "compile": "the same computation by other kernels, which round in the last bits",
    "resume": "a resumed training draws what an uninterrupted one does",
    "checkpoint_minutes": "when a checkpoint is written, from which a training goes on exactly",
    "checkpoint": "what is kept; a checkpoint says whether its training was finished",
    "weights_only": "how a checkpoint is read",
    "verbose": "it shows",
}
"""Options of a training or a test that cannot change a number, and why."""


def add_options(parser: LightningArgumentParser) -> None:
    """Adds the options of vlbench to those of Lightning, and links those of which one follows from another.

    Args:
        parser: Parser of one of Lightning's commands.
    """
    parser.add_argument(
        "--selection",
        type=Selection,
        default="last",
        help="Which epoch counts. `last.ckpt` is written always; `heldout` also writes `best.ckpt`, the epoch with "
        "the best top-1 on the videos that `data.heldout` sets aside, `best_on_test` that with the best on the "
        "test videos. In a test, what its record says.",
    )
    parser.add_argument(
        "--resume",
        type=Literal["never", "auto"],
        default="never",
        help="`auto` continues a training from `last.ckpt` in `checkpoint.dirpath`, or from the newer "
        "`running.ckpt` of an epoch that has not ended, if it is there and of the same configuration. Other data "
        "are refused.",
    )
    parser.add_argument(
        "--checkpoint_minutes",
        type=float,
        default=30.0,
        help="Minutes of a training epoch between two checkpoints `running.ckpt`, which `--resume auto` goes on "
        "from exactly; 0 writes checkpoints at the end of epochs only.",
    )
    parser.add_argument(
        "--compile", type=bool, default=False, help="Compile the blocks of towers and methods by torch.compile."
    )
    parser.add_argument(
        "--matmul_precision",
        type=Literal["highest", "high", "medium"],
        default="highest",
        help="Precision of float32 matrix products and convolutions on a GPU: `highest` is float32, `high` TF32, "
        "`medium` bfloat16 for products and TF32 for convolutions.",
    )
    parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=checked_seed)
    parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=checked_seed)
    parser.link_arguments(
        "selection", "data.init_args.validate_on_test", compute_fn=lambda selection: selection == "best_on_test"
    )
    for option in FRAME_OPTIONS:
        of_backbone = partial(_frame_option, option)
        parser.link_arguments("model", f"data.init_args.{option}", compute_fn=of_backbone, apply_on="instantiate")
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


def _frame_option(name: str, method: VideoTextMethod) -> object:
    return method.backbone.frame_options()[name]
