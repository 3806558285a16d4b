"""CLIP-LoRA's released checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import read_released
from vlbench.errors import CheckpointError
from vlbench.methods.lora.module import LoRA
from vlbench.methods.parts.released_files import Imported, load_trained, training_in

_METADATA = ("r", "alpha", "encoder", "params", "position")
_TOWERS = {"both": "both", "vision": "image", "text": "text"}
_PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}
_MATRICES = {"down": "w_lora_A", "up": "w_lora_B"}


def import_released(path: Path, backbone: DualEncoder) -> Imported:
    """LoRA in a released `lora_weights.pt`.

    Args:
        path: Dictionary with `metadata` and `weights`, a `layer_i` for each adapted block, those of the text tower
            first, with `w_lora_A` `(r, D)` and `w_lora_B` `(D, r)` of each projection.
        backbone: Dual encoder with the weights that the terms were trained on.

    Raises:
        CheckpointError: If the file cannot be read or does not fit, or only some of the blocks have terms.
    """
    content = read_released(path)
    metadata: Any = content.get("metadata")
    weights: Any = content.get("weights")
    if not (isinstance(metadata, Mapping) and metadata.keys() >= set(_METADATA) and isinstance(weights, Mapping)):
        raise CheckpointError(
            f"{path} is no released checkpoint of CLIP-LoRA: weights, or metadata with {', '.join(_METADATA)}, are "
            "missing"
        )
    if metadata["position"] != "all" or metadata["encoder"] not in _TOWERS:
        raise CheckpointError(
            f"{path} has terms at the position {metadata['position']!r} of the encoder {metadata['encoder']!r}; only "
            f"files with the position 'all' and one of the encoders {', '.join(_TOWERS)} can be imported"
        )
    options = {
        "rank": int(metadata["r"]),
        "alpha": float(metadata["alpha"]),
        "parts": "".join(part for part in _PROJECTIONS if part in metadata["params"]),
        "towers": _TOWERS[metadata["encoder"]],
    }
    method = LoRA(backbone, **options)  # type: ignore[arg-type]
    released: dict[str, Tensor] = {
        f"{layer}.{projection}.{matrix}": value.float()
        for layer, projections in weights.items()
        for projection, matrices in projections.items()
        for matrix, value in matrices.items()
    }
    keys = {id(parameter): key for key, parameter in method.named_parameters()}
    state = {}
    for index, attention in enumerate(method.attentions()):
        for part, term in attention.terms().items():
            for name, matrix in _MATRICES.items():
                value = released.pop(f"layer_{index}.{_PROJECTIONS[part]}.{matrix}", None)
                if value is not None:
                    state[keys[id(getattr(term, name).weight)]] = value
    load_trained(path, method, {**state, **released})
    return Imported.of(method, training_in(path, content), options)
