"""The multi-modal adapter's released checkpoint format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import read_released
from vlbench.errors import CheckpointError
from vlbench.methods.mma.module import MMA
from vlbench.methods.parts.released_files import Imported, load_trained, training_in

_OF_THE_CLASSES = ("token_embedding", "tokenized_prompts")
"""Buffers of the training classes' tokens; the backbone looks the vectors up by itself."""

_LAYERS = {
    "text_adapter.down.0": "text_down",
    "text_adapter.up": "text_up",
    "visual_adapter.down.0": "video_down",
    "visual_adapter.up": "video_up",
    "shared_adapter.0": "shared",
}
"""Layers of a block's adapters by their released names, without the number of the block."""


def import_released(path: Path, backbone: DualEncoder) -> Imported:
    """MMA in a released `model.pth.tar-5`. The factor on the adapters is not in the file: it is taken to be 0.001.

    Args:
        path: Dictionary with `epoch` and `state_dict`: `text_adapter`, `visual_adapter` and `shared_adapter` of blocks
            that are counted from 1.
        backbone: Dual encoder with the weights that the adapters were trained on.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    content = read_released(path)
    weights: Any = content.get("state_dict")
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} is no released checkpoint of the multi-modal adapter: state_dict is missing")
    named = {key: _place(key) for key in weights if key not in _OF_THE_CLASSES}
    blocks = {place[0] for place in named.values() if place is not None}
    shared = weights.get(f"shared_adapter.{min(blocks, default=1)}.0.weight")
    if not blocks or min(blocks) < 1 or shared is None:
        raise CheckpointError(f"{path} holds no adapters of blocks that are counted from 1: {', '.join(named)}")
    method = MMA(backbone, first_block=min(blocks), last_block=max(blocks), bottleneck=len(shared))
    state: dict[str, Tensor] = {}
    for key, place in named.items():
        ours = key if place is None else f"adapters.{place[0] - min(blocks)}.{place[1]}"
        state[ours] = weights[key].float()
    load_trained(path, method, state)
    options = {name: getattr(method, name) for name in ("first_block", "last_block", "bottleneck")}
    return Imported.of(method, training_in(path, {"epoch": int(content.get("epoch", 0)) - 1}), options)


def _place(key: str) -> tuple[int, str] | None:
    """Number of the block, and our name in it, of a weight with a released name; `None` of any other."""
    match = re.fullmatch(r"(\w+_adapter)\.(\d+)\.(.+)\.(weight|bias)", key)
    layer = _LAYERS.get(f"{match[1]}.{match[3]}") if match else None
    return (int(match[2]), f"{layer}.{match[4]}") if match and layer else None
