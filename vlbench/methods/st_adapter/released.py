"""ST-Adapter's released checkpoint format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import read_released
from vlbench.errors import CheckpointError
from vlbench.methods.parts.released_files import Imported, load_trained, training_in
from vlbench.methods.st_adapter.module import STAdapter

_ADAPTER = re.compile(r"transformer\.resblocks\.(\d+)\.adapter_pre_(attn|mlp)\.(.+)")
_PLACES = {"attn": "before_attention", "mlp": "before_mlp"}


def st_adapter(path: Path, backbone: DualEncoder) -> Imported:
    """ST-Adapter in a file of its released code, which holds what trains and names no classes.

    Args:
        path: Dictionary with `next_epoch` and `model`, adapters below `transformer.resblocks` and the head as `fc`.
        backbone: Dual encoder with the original weights.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    content = read_released(path)
    weights = content.get("model")
    if not isinstance(weights, Mapping) or "fc.weight" not in weights:
        raise CheckpointError(f"{path} is no released checkpoint of ST-Adapter's code: model with fc.weight is missing")
    matches = {name: match for name in weights if (match := _ADAPTER.fullmatch(name))}
    kernels = [weights[name].shape for name in matches if name.endswith("adapter_pre_mlp.conv.weight")]
    if not kernels:
        raise CheckpointError(f"{path} holds no adapter_pre_mlp.conv.weight, which every ST-Adapter has")
    bottleneck, _, *kernel = kernels[0]
    depth, count = len(backbone.image.blocks), len(kernels)
    options = {
        "blocks": min(count, depth),
        "bottleneck": bottleneck,
        "before_attention": any(match[2] == "attn" for match in matches.values()),
    }
    frames, rows, columns = kernel
    method = STAdapter(backbone, **options, kernel=(frames, rows, columns))
    classes = len(weights["fc.weight"])
    method.head.use_classes([str(label) for label in range(classes)])
    state: dict[str, Tensor] = {}
    for name, value in weights.items():
        key = name.replace("fc.", "head.") if name.startswith("fc.") else name
        if match := matches.get(name):
            key = f"adapters.{int(match[1]) - depth + options['blocks']}.{_PLACES[match[2]]}.{match[3]}"
        state[key] = value.float()
    load_trained(path, method, state)
    if kernel != [3, 1, 1]:
        options["kernel"] = f"[{frames},{rows},{columns}]"
    training = training_in(path, {"epoch": int(content.get("next_epoch", 0)) - 1})
    return Imported.of(method, training, options, classes=classes)
