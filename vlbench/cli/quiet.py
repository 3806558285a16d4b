"""Keeps what other libraries say out of a run's output where it asks for nothing that the user could do."""

from __future__ import annotations

import logging
import os
import warnings

_WARNINGS = (
    # The loader has as many workers as there are cores, or as few as the user says.
    r"The '\w+' does not have many workers",
    # A test needs none of the callbacks of the training whose checkpoint it takes, and keeps no checkpoints itself.
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    r"The dirpath has changed from",
    # A folder of checkpoints is used again by a training that is continued, and `last.ckpt` is replaced on purpose.
    r"Checkpoint directory .* exists and is not empty",
    # The sampler goes on where the epoch was left, which Lightning does not know.
    r"You're resuming from a checkpoint that ended before the epoch ended",
    # Batch norms keep the averages of their weights.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # A dataset without a validation part has nothing to validate on.
    r"Total length of `list` across ranks is zero",
    # Every process logs the metrics of all of them.
    r"It is recommended to use `self\.log\('.*', \.\.\., sync_dist=True\)`",
    # Small sets are what a first try is made of.
    r"The number of training batches .* is smaller than the logging interval",
    # What Lightning has to mend with its own dependencies.
    r"Starting from v1\.9\.0, `tensorboardX` has been removed",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"`torch\.jit\.\w+` is (deprecated|not supported)",
    # What pytorchvideo has to mend with its own.
    r"'saved_variables' is deprecated",
)
"""Beginnings of warnings that a run gives although nothing is wrong."""


def silence() -> None:
    """Silences other libraries' tips and warnings, unless `VLBENCH_DEBUG` is set; other warnings take one line each."""
    if os.environ.get("VLBENCH_DEBUG"):
        return
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for beginning in _WARNINGS:
        warnings.filterwarnings("ignore", beginning)
    warnings.formatwarning = _one_line
    # open_clip's, on the root logger: weights are random, or vlbench's own, only where a configuration says so.
    logging.getLogger().addFilter(_is_news)


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {' '.join(str(message).split())}\n"


def _is_news(record: logging.LogRecord) -> bool:
    return "No pretrained weights loaded" not in record.getMessage()
