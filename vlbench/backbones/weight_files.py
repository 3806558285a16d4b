"""Reads files that others released, and says what is wrong with them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vlbench.errors import CheckpointError

_PLAIN = [
    (dict, "builtins.dict"),
    (list, "builtins.list"),
    (int, "builtins.int"),
    (defaultdict, "collections.defaultdict"),
]
"""Containers and numbers of Python, which do nothing but hold values."""


def read_released(path: str | Path, *, as_dictionaries: Sequence[str] = ()) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`, on the CPU; nothing in it is executed.

    Args:
        path: Released file, a dictionary that was saved by torch.
        as_dictionaries: Names `module.Class` of subclasses of dict that the file may hold and that are read as plain
            ordered ones; their modules are not imported.

    Raises:
        CheckpointError: If the file is missing, damaged or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the downloaded file")
    try:
        with torch.serialization.safe_globals([*_PLAIN, *((OrderedDict, name) for name in as_dictionaries)]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises whatever a damaged or foreign file makes it stumble over
        raise CheckpointError(f"{path} cannot be read as weights: {error}; download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; a dictionary of weights is needed")
    return content


def read_tensors(path: str | Path, *keys: str) -> dict[str, Tensor]:
    """The tensors of a released file by their names, which are below a key or by themselves.

    Args:
        path: Released file, a dictionary that was saved by torch.
        keys: Keys that the tensors may be below, the first of which that is there counts.

    Raises:
        CheckpointError: If the file is missing, damaged or holds something else.
    """
    content = read_released(path)
    state: Any = next((content[key] for key in keys if key in content), content)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        allowed = " or ".join(map(repr, keys))
        raise CheckpointError(f"{path} holds no weights by themselves or below the key {allowed}")
    return dict(state)


def read_imported(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by their names, float32.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    try:
        return {key: value.float() for key, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


_SHOWN = 7
"""Keys that a message names."""


def check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Compares two state dicts.

    Raises:
        CheckpointError: Naming missing, unexpected and misshapen keys, the first ones of each where there are many.
    """
    kinds = (
        [f"missing: {key}" for key in sorted(set(expected) - set(state))],
        [f"unexpected: {key}" for key in sorted(set(state) - set(expected))],
        [
            f"misshapen: {key} is {tuple(state[key].shape)}, needed is {tuple(expected[key].shape)}"
            for key in sorted(set(expected) & set(state))
            if state[key].shape != expected[key].shape
        ],
    )
    shown = [problem for problems in kinds for problem in problems[:_SHOWN]]
    if shown:
        left = sum(map(len, kinds)) - len(shown)
        more = [f"and {left} more"] if left else []
        raise CheckpointError(f"{what} does not fit the model:\n  " + "\n  ".join([*shown, *more]))


_POSITIONS = (
    "visual.positional_embedding",
    "visual.trunk.pos_embed",
    "positional_embedding",
    "text.positional_embedding",
)


def check_positions(expected: Mapping[str, Tensor], path: str | Path, model: str) -> None:
    """Refuses weights whose position tables have another length, which open_clip would interpolate in silence.

    A file that cannot be read is left to the one who loads it.

    Args:
        expected: State dict of the model.
        path: File of the weights.
        model: Name of the model, for the message.

    Raises:
        CheckpointError: If a table of the file has another shape.
    """
    for key, shape in _shapes(path).items():
        if key in expected and shape != tuple(expected[key].shape):
            raise CheckpointError(
                f"{path} is not of {model}: {key} is {shape}, {model} has {tuple(expected[key].shape)}; give the "
                "architecture of the file as model, and image_size for frames of another size"
            )


def _shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the position tables in a file, read without the rest of it."""
    try:
        if str(path).endswith(".safetensors"):
            with safe_open(path, framework="pt") as file:
                return {key: tuple(file.get_slice(key).get_shape()) for key in _POSITIONS if key in set(file.keys())}
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, SafetensorError, OSError, UnpicklingError, EOFError, ValueError, KeyError):
        return {}
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    plain = {str(key).removeprefix("module."): value for key, value in state.items()}
    return {key: tuple(plain[key].shape) for key in _POSITIONS if key in plain}
