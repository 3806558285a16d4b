"""Open-VCLIP's and FROSTER's released checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import read_released
from vlbench.errors import CheckpointError
from vlbench.methods.froster import FROSTER
from vlbench.methods.open_vclip import OpenVCLIP
from vlbench.methods.parts.released_files import Imported, load_trained, training_in

_TEACHER = "raw_model."
_PROJECTORS = {"projector_v.": "image_projector.layers.", "projector_t.": "text_projector.layers."}


def open_vclip(path: Path, backbone: DualEncoder) -> Imported:
    """Open-VCLIP in a file of its released code.

    Args:
        path: Dictionary with `model_state`, weights of the whole CLIP below `model.` under OpenAI's names: a checkpoint
            of an epoch or the mean of several.
        backbone: Dual encoder with the original weights, which evaluation blends in; the file has its text tower.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    clip, projectors, training = _read(path, "Open-VCLIP")
    if projectors:
        raise CheckpointError(f"{path} holds FROSTER's projectors; import it with `vlbench weights import froster`")
    method = OpenVCLIP(backbone, average_from=None)
    keys = method.trained_keys()
    original = method.state_dict()
    other = [
        key
        for key, value in clip.items()
        if key in original and key not in keys
        and not (value.shape == original[key].shape and torch.allclose(value, original[key], atol=1e-3))
    ]  # fmt: skip
    if other:
        weights = backbone.identity.pretrained or "random"
        raise CheckpointError(
            f"{path} has another text tower than {backbone.identity.name} with {weights} weights: {other[0]} and "
            f"{len(other) - 1} more differ; give the weights that it was trained from"
        )
    # The text tower is the backbone's; what is neither is left for the complaint.
    load_trained(path, method, {key: value for key, value in clip.items() if key in keys or key not in original})
    return Imported.of(method, training)


def froster(path: Path, backbone: DualEncoder) -> Imported:
    """FROSTER in a file of its released code; the frozen teacher in it is left out.

    Args:
        path: Dictionary with `model_state`: the whole CLIP below `model.` under OpenAI's names, `projector_v` and
            `projector_t`, and `raw_model` in a checkpoint of an epoch.
        backbone: Dual encoder with the original weights, which is given those of the file.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    clip, projectors, training = _read(path, "FROSTER")
    if not projectors:
        raise CheckpointError(f"{path} holds no projectors; import it with `vlbench weights import open_vclip`")
    method = FROSTER(backbone, average_from=None)
    load_trained(path, method, {**clip, **projectors})
    return Imported.of(method, training)


def _read(path: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights of CLIP and of the projectors by our names, in float32, and what is known of the training.

    Raises:
        CheckpointError: If the file cannot be read or holds what neither method has.
    """
    content = read_released(path)
    if not isinstance(content.get("model_state"), Mapping):
        raise CheckpointError(f"{path} is no released checkpoint of {name}'s code: model_state is missing")
    clip, projectors = {}, {}
    for key, value in content["model_state"].items():
        module = next((prefix for prefix in _PROJECTORS if key.startswith(prefix)), None)
        if module is not None:
            projectors[_PROJECTORS[module] + key.removeprefix(module)] = value.float()
        elif key.startswith("model."):
            clip[f"backbone.clip.{key.removeprefix('model.')}"] = value.float()
        elif not key.startswith(_TEACHER):
            raise CheckpointError(f"{path} holds {key}, which neither Open-VCLIP nor FROSTER has")
    return clip, projectors, training_in(path, content)
