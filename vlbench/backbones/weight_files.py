"""Reads files that others released, and says what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from vlbench.errors import CheckpointError


def read_released(path: str | Path) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`, on the CPU; nothing in it is executed.

    Raises:
        CheckpointError: If the file is missing, damaged or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the downloaded file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}; download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; a dictionary of weights is needed")
    return content


def check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Compares two state dicts.

    Raises:
        CheckpointError: Naming every missing, unexpected and misshapen key.
    """
    problems = [f"missing: {key}" for key in sorted(set(expected) - set(state))]
    problems += [f"unexpected: {key}" for key in sorted(set(state) - set(expected))]
    problems += [
        f"misshapen: {key} is {tuple(state[key].shape)}, needed is {tuple(expected[key].shape)}"
        for key in sorted(set(expected) & set(state))
        if state[key].shape != expected[key].shape
    ]
    if problems:
        raise CheckpointError(f"{what} does not fit the model:\n  " + "\n  ".join(problems))
