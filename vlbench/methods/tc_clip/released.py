"""TC-CLIP's released checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.errors import CheckpointError
from vlbench.methods.parts.released_files import Imported, load_trained, vifi_line_file
from vlbench.methods.tc_clip.module import TCCLIP

_GENERATOR = "text_encoder.prompt_generation_layer.0."
_BEGINNINGS = (
    ("prompt_learner.ctx", "learned"),
    (f"{_GENERATOR}attn.", "generator.attention."),
    (f"{_GENERATOR}ln_1_kv.", "generator.norm_context."),
    (f"{_GENERATOR}ln_", "generator.norm"),
    (f"{_GENERATOR}mlp.", "generator.mlp."),
    ("image_encoder.", "backbone.clip.visual."),
    ("text_encoder.", "backbone.clip."),
    ("logit_scale", "backbone.clip.logit_scale"),
)
"""Beginnings of released names, and of ours."""
_OF_THE_CLASSES = ("token_prefix", "token_suffix")
"""Buffers of the training classes' tokens; the backbone looks the vectors up by itself."""


def own_name(name: str) -> str:
    """The name that a weight has in `TCCLIP`; queries, keys and values of an image block have one in common there.

    Args:
        name: Released name of the weight.
    """
    return next((here + name.removeprefix(given) for given, here in _BEGINNINGS if name.startswith(given)), name)


def packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in which queries, keys and values that have a linear map each are one, by the names of open_clip.

    Args:
        weights: Weights by names such as `attn.q_proj.weight`.
    """
    together = {}
    for name, value in weights.items():
        if ".attn.q_proj." in name:
            parts = [weights.get(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
            if all(part is not None for part in parts):
                together[name.replace(".q_proj.", ".in_proj_")] = torch.cat(
                    [part for part in parts if part is not None]
                )
        elif not (".attn.k_proj." in name or ".attn.v_proj." in name):
            together[name] = value
    return together


def import_released(path: Path, backbone: DualEncoder) -> Imported:
    """TC-CLIP in a file of its released code.

    Args:
        path: Dictionary with `epoch` and `model`, weights below `module.image_encoder`, `module.text_encoder` and
            `module.prompt_learner`.
        backbone: Dual encoder with the original weights, which is given those of the file; the vectors of the
            vocabulary's tokens are its own.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    weights, training = vifi_line_file(path, "TC-CLIP")
    if "prompt_learner.ctx" not in weights:
        raise CheckpointError(f"{path} is no released checkpoint of TC-CLIP: prompt_learner.ctx is missing")
    method = TCCLIP(backbone)
    state = {own_name(name): value for name, value in packed(weights).items() if not name.endswith(_OF_THE_CLASSES)}
    load_trained(path, method, state)
    return Imported.of(method, training)
