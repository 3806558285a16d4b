"""AIM's released checkpoint format, mmcv's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import check_keys, read_released
from vlbench.errors import CheckpointError
from vlbench.methods.aim.module import AIM
from vlbench.methods.parts.released_files import Imported, load_trained, training_in

_ADAPTER = re.compile(r"transformer\.resblocks\.(\d+)\.(S|T|MLP)_Adapter(_in)?\.D_fc([12])\.(weight|bias)")
_PLACES = {"S": "space", "T": "time", "MLP": "joint", "T_in": "before_time"}
_NOT_FROZEN = re.compile(r"ln_post\..*|proj")
_HEAD = {"cls_head.fc_cls.weight": "head.weight", "cls_head.fc_cls.bias": "head.bias"}


def aim(path: Path, backbone: DualEncoder) -> Imported:
    """AIM in a file of its released code, which holds the whole image tower and names no classes.

    Args:
        path: Dictionary with `meta` and `state_dict`, the tower below `backbone` and the head as `cls_head.fc_cls`.
        backbone: Dual encoder with the original weights, from which the frozen ones of the file must not differ.

    Raises:
        CheckpointError: If the file cannot be read, does not fit or has another frozen tower; keys are named.
    """
    content = read_released(path)
    weights = content.get("state_dict")
    if not isinstance(weights, Mapping) or not {*_HEAD, "backbone.temporal_embedding"} <= weights.keys():
        raise CheckpointError(
            f"{path} is no released checkpoint of AIM's code: state_dict with backbone.temporal_embedding and "
            "cls_head.fc_cls is missing"
        )
    tower, state = {}, {}
    for name, value in weights.items():
        part = name.removeprefix("backbone.")
        if name in _HEAD:
            state[_HEAD[name]] = value.float()
        elif part == "temporal_embedding":
            state["positions"] = value.float().squeeze(0)
        elif match := _ADAPTER.fullmatch(part):
            place = _PLACES[match[2] + (match[3] or "")]
            state[f"adapters.{match[1]}.{place}.{2 * int(match[4]) - 2}.{match[5]}"] = value.float()
        else:
            tower[part] = value.float()
    _check_frozen(path, backbone, tower)
    state |= {f"backbone.clip.visual.{name}": value for name, value in tower.items() if name.startswith("ln_post.")}
    hidden = state.get("adapters.0.space.0.bias")
    before_time = "adapters.0.before_time.0.bias" in state
    options: dict[str, Any] = {
        "frames": len(state["positions"]),
        "ratio": 0.25 if hidden is None else len(hidden) / backbone.image.width,
        "adapter_before_time": before_time,
        "adapter_scale": _scale(content.get("meta"), before_time=before_time),
    }
    method = AIM(backbone, **options)
    classes = len(state["head.weight"])
    method.head.use_classes([str(label) for label in range(classes)])
    load_trained(path, method, state)
    epochs = (content.get("meta") or {}).get("epoch", 0)
    return Imported.of(method, training_in(path, {"epoch": int(epochs) - 1}), options, classes=classes)


def _check_frozen(path: Path, backbone: DualEncoder, tower: Mapping[str, Tensor]) -> None:
    """Refuses a file whose frozen weights are not those of the backbone."""
    original = {key: value for key, value in backbone.visual.state_dict().items() if not _NOT_FROZEN.fullmatch(key)}
    frozen = {key: value for key, value in tower.items() if not _NOT_FROZEN.fullmatch(key)}
    check_keys(original, frozen, str(path))
    other = [key for key, value in original.items() if not torch.allclose(value.float(), frozen[key], atol=1e-4)]
    if other:
        raise CheckpointError(
            f"{path} was trained on another tower than {backbone.identity.name} with the weights "
            f"{backbone.identity.pretrained}: {other[0]} differs; give its backbone and its original weights"
        )


def _scale(meta: Any, *, before_time: bool) -> float:
    """The factor on the adapter beside the MLP: the configuration's in the file, or that of the released recipes."""
    text = str(meta.get("config", "")) if isinstance(meta, Mapping) else ""
    stated = re.search(r"adapter_scale\s*=\s*(\d+\.?\d*|\.\d+)", text)
    return float(stated[1]) if stated else 1.0 if before_time else 0.5
