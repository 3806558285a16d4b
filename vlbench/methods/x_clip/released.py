"""X-CLIP's released checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.errors import CheckpointError
from vlbench.methods.parts.released_files import Imported, load_trained, vifi_line_file
from vlbench.methods.x_clip.module import XCLIP

_POSITIONS = "mit.positional_embedding"
_NEW = (
    ("mit.", "integration."),
    ("prompts_visual_ln.", "generator.image_norm."),
    ("prompts_visual_proj", "generator.image_proj"),
    ("prompts_generator.", "generator."),
)
"""Beginnings of the released names of new parts outside the towers, and of ours."""
_OF_CROSS_BLOCKS = (
    (".cross_attn.q_proj.", ".query."),
    (".cross_attn.k_proj.", ".key."),
    (".cross_attn.v_proj.", ".value."),
    (".cross_attn.proj.", ".out."),
    (".mlp.3.", ".mlp.2."),
)


def own_name(name: str) -> str:
    """The name that a weight has in `XCLIP`.

    Args:
        name: Released name of the weight.
    """
    for released, start in _NEW:
        if name.startswith(released):
            name = start + name.removeprefix(released)
            for inside, here in _OF_CROSS_BLOCKS:
                name = name.replace(inside, here)
            return name
    return f"backbone.clip.{name}"


def import_released(path: Path, backbone: DualEncoder) -> Imported:
    """X-CLIP in a file of its released code.

    Args:
        path: Dictionary with `epoch` and `model`, whose weights have OpenAI's names and those of X-CLIP's parts.
        backbone: Dual encoder with the original weights, whose image tower is given those of the file.

    Raises:
        CheckpointError: If the file cannot be read or does not fit, or if its text tower is not the backbone's.
    """
    weights, training = vifi_line_file(path, "X-CLIP")
    if _POSITIONS not in weights or weights[_POSITIONS].ndim != 3:
        raise CheckpointError(f"{path} is no released checkpoint of X-CLIP: {_POSITIONS} is missing")
    frames = weights[_POSITIONS].shape[1]
    method = XCLIP(backbone, frames=frames)
    state = {own_name(name): value for name, value in weights.items()}
    keys = method.trained_keys()
    frozen = {key: value for key, value in method.state_dict().items() if key not in keys}
    _check_frozen(path, frozen, state)
    load_trained(path, method, {key: value for key, value in state.items() if key not in frozen})
    return Imported.of(method, training, {"frames": frames})


def _check_frozen(path: Path, frozen: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Whether what is frozen has the backbone's values in a file, where the file holds it."""
    for key, value in frozen.items():
        given = state.get(key)
        # The vectors of tokens are told apart by the text tower's other weights, and are many.
        if given is None or key.endswith("token_embedding.weight"):
            continue
        if given.shape != value.shape or not torch.allclose(given, value, atol=1e-4):
            raise CheckpointError(
                f"{path} has another {key} than the backbone; X-CLIP freezes the text tower: give the backbone that "
                "the training started from"
            )
