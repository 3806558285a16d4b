"""ViFi-CLIP's and VL prompting's released checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.errors import CheckpointError
from vlbench.methods.parts.released_files import Imported, load_trained, vifi_line_file
from vlbench.methods.parts.starting import identify_start
from vlbench.methods.vifi_clip import ViFiCLIP
from vlbench.methods.vl_prompting import VLPrompting

_TOWERS = {"image_encoder": "visual.", "text_encoder": "", "logit_scale": "logit_scale"}
"""Modules in files of ViFi-CLIP's code, and the beginning of OpenAI's names for their weights."""

_PROMPTS = ("prompt_learner.ctx", "VPT", "VPT_shallow")
_OF_THE_CLASSES = ("complete_text_embeddings", "token_prefix", "token_suffix")
"""Buffers of the training classes' tokens; the backbone looks the vectors up by itself."""


def vifi_clip(path: Path, backbone: DualEncoder) -> Imported:
    """ViFi-CLIP in a file of its released code.

    Args:
        path: Dictionary with `epoch` and `model`, weights below `module.image_encoder`, `module.text_encoder` and
            `module.logit_scale`.
        backbone: Dual encoder with the original weights, which is given those of the file; the vectors of the
            vocabulary's tokens are its own.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    towers, prompts, training = _read(path)
    if prompts:
        raise CheckpointError(f"{path} holds learned prompts; import it with `vlbench weights import vl_prompting`")
    return Imported.of(_tuned(path, towers, backbone), training)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights of the towers by OpenAI's names, prompts by the released names, and what is known of the training.

    Args:
        path: File of ViFi-CLIP's released code, with or without prompts.

    Raises:
        CheckpointError: If the file cannot be read or holds what no ViFi-CLIP has.
    """
    weights, training = vifi_line_file(path, "ViFi-CLIP")
    towers, prompts = {}, {}
    for name, value in weights.items():
        if name.endswith(_OF_THE_CLASSES):
            continue
        if name.endswith(_PROMPTS):
            prompts[name] = value
            continue
        module, _, rest = name.partition(".")
        if module not in _TOWERS:
            raise CheckpointError(f"{path} holds {name}, which no ViFi-CLIP has")
        towers[_TOWERS[module] + rest] = value
    return towers, prompts, training


def _tuned(path: Path, towers: Mapping[str, Tensor], backbone: DualEncoder) -> ViFiCLIP:
    """ViFi-CLIP with the weights of a file.

    Args:
        path: File that the weights come from, for errors.
        towers: Weights of the towers by OpenAI's names.
        backbone: Dual encoder that is given the weights.
    """
    method = ViFiCLIP(backbone)
    load_trained(path, method, {f"backbone.clip.{key}": value for key, value in towers.items()})
    return method


def vl_prompting(path: Path, backbone: DualEncoder) -> Imported:
    """VL prompting in a file of ViFi-CLIP's released code; the towers in it are a fine-tuned ViFi-CLIP's, the start.

    Args:
        path: Dictionary as of ViFi-CLIP, with `prompt_learner.ctx`, `image_encoder.VPT` and the `VPT_shallow` of the
            later blocks of both towers.
        backbone: Dual encoder with the original weights, which is given those of the file.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    towers, prompts, training = _read(path)
    image = _stacked(path, prompts, "image_encoder.VPT", "image_encoder")
    text = _stacked(path, prompts, "prompt_learner.ctx", "text_encoder")
    if text is None:
        raise CheckpointError(f"{path} holds no learned prompts of the text; import it as vifi_clip")
    start = Imported.of(_tuned(path, towers, backbone), training)
    identify_start(backbone, ViFiCLIP.name)
    depth, tokens = (0, text.shape[1]) if image is None else image.shape[:2]
    method = VLPrompting(
        backbone, image_tokens=tokens, image_depth=depth, text_tokens=text.shape[1], text_depth=len(text)
    )
    state = {"text_prompts.tokens": text, **({} if image is None else {"image_prompts.tokens": image})}
    load_trained(path, method, state)
    names = ("image_tokens", "image_depth", "text_tokens", "text_depth")
    return Imported.of(method, training, {name: getattr(method, name) for name in names}, start)


def _stacked(path: Path, prompts: Mapping[str, Tensor], first: str, tower: str) -> Tensor | None:
    """Prompts `(depth, n, D)` of a tower, block after block from the first; `None` where there are none."""
    if first not in prompts:
        return None
    later = {name: tokens for name, tokens in prompts.items() if name.startswith(f"{tower}.transformer.resblocks.")}
    names = [f"{tower}.transformer.resblocks.{index}.VPT_shallow" for index in range(1, len(later) + 1)]
    if later.keys() != set(names) or any(tokens.shape != prompts[first].shape for tokens in later.values()):
        raise CheckpointError(f"{path} does not hold equally many prompts for the first blocks: {', '.join(later)}")
    return torch.stack([prompts[first], *(later[name] for name in names)])
