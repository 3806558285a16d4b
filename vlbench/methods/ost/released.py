"""OST's released checkpoint format, that of ViFi-CLIP's code with the table of tokens."""

from __future__ import annotations

from pathlib import Path

from vlbench.backbones.base import DualEncoder
from vlbench.errors import CheckpointError
from vlbench.methods.ost.module import OST
from vlbench.methods.parts.released_files import Imported, load_trained, vifi_line_file

_MODULES = {"image_encoder": "visual.", "text_encoder": "", "logit_scale": "logit_scale"}
"""Modules of the released code, and the beginning of OpenAI's names for their weights."""


def import_released(path: Path, backbone: DualEncoder) -> Imported:
    """OST in a file of its released code.

    Args:
        path: Dictionary with `epoch` and `model`, weights below `module.image_encoder`, `module.text_encoder` and
            `module.logit_scale`.
        backbone: Dual encoder with the original weights, which is given those of the file.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    weights, training = vifi_line_file(path, "OST")
    state = {}
    for name, value in weights.items():
        module, _, rest = name.partition(".")
        if module not in _MODULES:
            raise CheckpointError(f"{path} holds {name}, which no OST has")
        state[f"backbone.clip.{_MODULES[module]}{rest}"] = value
    method = OST(backbone)
    load_trained(path, method, state)
    return Imported.of(method, training)
