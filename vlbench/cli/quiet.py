"""Keeps what other libraries say out of a run's output where it asks for nothing that the user could do."""

from __future__ import annotations

import logging
import os
import warnings

_WARNINGS = (
    r"The '\w+' does not have many workers",
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
)
"""Beginnings of warnings that a run gives although nothing is wrong."""


def silence() -> None:
    """Silences other libraries' tips and warnings, unless `VLBENCH_DEBUG` is set; those of vlbench stay."""
    if os.environ.get("VLBENCH_DEBUG"):
        return
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for beginning in _WARNINGS:
        warnings.filterwarnings("ignore", beginning)
    # open_clip's, on the root logger: weights are random, or vlbench's own, only where a configuration says so.
    logging.getLogger().addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "No pretrained weights loaded" not in record.getMessage()
