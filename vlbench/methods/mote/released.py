"""MoTE's released checkpoint format, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import read_released
from vlbench.errors import CheckpointError
from vlbench.methods.mote.head import ExpertMLP
from vlbench.methods.mote.module import MoTE
from vlbench.methods.parts.released_files import Imported, load_trained, training_in

_PARTS = ("model_state_dict", "fusion_model_state_dict")
_TRAIN_CLASSES = ("spe_cls_feature", "train_class_features")


def import_released(path: Path, backbone: DualEncoder) -> Imported:
    """MoTE in a released file such as `MoTE_B16.pt`.

    Args:
        path: Dictionary with `epoch`, `model_state_dict` (the image tower under OpenAI's names and the logit scale) and
            `fusion_model_state_dict` (the head and the training classes' features).
        backbone: Dual encoder with the original weights, which evaluation blends in and whose text tower is used.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    content = read_released(path)
    absent = [part for part in _PARTS if part not in content]
    if absent:
        raise CheckpointError(f"{path} is no released MoTE checkpoint: {', '.join(absent)} is missing")
    tower, head = (dict(content[part]) for part in _PARTS)
    state = {f"backbone.clip.{key}": value.float() for key, value in tower.items()}
    released, ours = _TRAIN_CLASSES
    for key, value in head.items():
        state[ours if key == released else f"head.{key}"] = value.float()
    blocks = "transformer.resblocks."
    method = MoTE(
        backbone,
        layers=_count(head, blocks, 2),
        experts=_count(head, f"{blocks}0.mlp.fc_up.", 5),
    )
    if ours in state:
        # How many classes it was trained on is the file's to say; their dimension is the backbone's.
        method.train_class_features = torch.empty(len(state[ours]), backbone.embed_dim)
    load_trained(path, method, state)
    options = {"layers": method.head.layers, "experts": method.head.experts}
    return Imported.of(method, training_in(path, content), options)


def merged_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights with every layer's experts merged, as evaluation merges them, into one plain MLP.

    Args:
        state: State dict of `MoTE`.

    Returns:
        Weights of `MoTE(experts=0)`; those given if there are no experts.
    """
    prefix = "head.transformer.resblocks."
    merged = {key: value for key, value in state.items() if not (key.startswith(prefix) and ".mlp." in key)}
    for index in range(_count(state, prefix, 3)):
        layer = f"{prefix}{index}.mlp."
        mlp = {key.removeprefix(layer): value for key, value in state.items() if key.startswith(layer)}
        if "mote_fusion_weight" in mlp:
            experts, width = len(mlp["mote_fusion_weight"]), mlp["fc_dn.0.bias"].shape[0]
            module = ExpertMLP(width, experts).to(mlp["fc_dn.0.bias"].dtype)
            module.load_state_dict(mlp)
            with torch.no_grad():
                mlp = module.plain().state_dict()
        merged |= {layer + name: value for name, value in mlp.items()}
    return merged


def _count(state: Mapping[str, Tensor], prefix: str, position: int) -> int:
    """How many numbered modules lie below a prefix."""
    return len({key.split(".")[position] for key in state if key.startswith(prefix)})
