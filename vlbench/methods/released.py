"""Importers of files that the papers' authors released, by the names of the methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import check_keys, read_released
from vlbench.errors import CheckpointError
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.mote.released import import_released as import_mote
from vlbench.methods.parts.starting import identify_start
from vlbench.methods.vifi_clip import ViFiCLIP
from vlbench.methods.vl_prompting import VLPrompting

_TOWERS = {"image_encoder": "visual.", "text_encoder": "", "logit_scale": "logit_scale"}
"""Modules in files of ViFi-CLIP's code, and the beginning of OpenAI's names for their weights."""

_PROMPTS = ("prompt_learner.ctx", "VPT", "VPT_shallow")
_OF_THE_CLASSES = ("complete_text_embeddings", "token_prefix", "token_suffix")
"""Buffers of the training classes' tokens; the backbone looks the vectors up by itself."""


@dataclass(frozen=True)
class Imported:
    """Released weights as the content of a checkpoint.

    Attributes:
        state: Weights that the method trains, by their keys.
        header: What the checkpoint says of its method, its frozen weights and its training, as plain values.
        options: Options of the method that a test with these weights has to have, by their names.
        start: Weights of the backbone that the method started from, where they are not the original ones.
    """

    state: dict[str, Tensor]
    header: dict[str, Any]
    options: Mapping[str, object]
    start: Imported | None = None

    @classmethod
    def of(
        cls,
        method: VideoTextMethod,
        training: Mapping[str, Any],
        options: Mapping[str, object] | None = None,
        start: Imported | None = None,
    ) -> Imported:
        """The weights of a method as they are now.

        Args:
            method: Method with the released weights.
            training: What is known of the training, as plain values.
            options: Options of the method that a test has to have.
            start: Weights of the backbone that the method started from.
        """
        keys = method.trained_keys()
        state = {key: value for key, value in method.state_dict().items() if key in keys}
        header = {"method": method.name, "backbone": method.backbone.identity.as_dict(), "training": dict(training)}
        return cls(state, header, options or {}, start)


def mote(path: Path, backbone: DualEncoder) -> Imported:
    """MoTE in a released file such as `MoTE_B16.pt`; see `vlbench.methods.mote.released`."""
    method, training = import_mote(path, backbone)
    return Imported.of(method, training, {"layers": method.head.layers, "experts": method.head.experts})


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


def vl_prompting(path: Path, backbone: DualEncoder) -> Imported:
    """VL prompting in a file of ViFi-CLIP's released code; the towers in it are a fine-tuned ViFi-CLIP's, the start.

    Args:
        path: Dictionary as of `vifi_clip`, with `prompt_learner.ctx`, `image_encoder.VPT` and the `VPT_shallow` of the
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
    _load(path, method, state)
    names = ("image_tokens", "image_depth", "text_tokens", "text_depth")
    return Imported.of(method, training, {name: getattr(method, name) for name in names}, start)


IMPORTERS: Mapping[str, Callable[[Path, DualEncoder], Imported]] = {
    "mote": mote,
    "vifi_clip": vifi_clip,
    "vl_prompting": vl_prompting,
}
"""Function that reads a method's released file for a backbone with the original weights, by the method's name."""


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights of the towers by OpenAI's names, prompts by the released names, and what is known of the training."""
    # The configuration in the file is read as a dictionary; its own class is neither needed nor executed.
    content = read_released(path, as_dictionaries=("yacs.config.CfgNode",))
    if not isinstance(content.get("model"), Mapping):
        raise CheckpointError(f"{path} is no released checkpoint of ViFi-CLIP's code: model is missing")
    towers, prompts = {}, {}
    for name, value in content["model"].items():
        released = name.removeprefix("module.")
        if released.endswith(_OF_THE_CLASSES):
            continue
        if released.endswith(_PROMPTS):
            prompts[released] = value.float()
            continue
        module, _, rest = released.partition(".")
        if module not in _TOWERS:
            raise CheckpointError(f"{path} holds {name}, which no ViFi-CLIP has")
        towers[_TOWERS[module] + rest] = value.float()
    training = {
        "dataset": f"released:{path.name}",
        "subset": {"classes": "all", "shots": None, "split": 1, "seed": 0},
        "epochs": int(content.get("epoch", -1)) + 1,
        "seed": 0,
    }
    return towers, prompts, training


def _tuned(path: Path, towers: Mapping[str, Tensor], backbone: DualEncoder) -> ViFiCLIP:
    """ViFi-CLIP with the weights of a file."""
    method = ViFiCLIP(backbone)
    state = {f"backbone.clip.{key}": value for key, value in towers.items()}
    _load(path, method, state)
    return method


def _load(path: Path, method: VideoTextMethod, state: Mapping[str, Tensor]) -> None:
    """Gives a method all that it trains."""
    keys = method.trained_keys()
    check_keys({key: value for key, value in method.state_dict().items() if key in keys}, state, str(path))
    method.load_state_dict({**method.state_dict(), **state})


def _stacked(path: Path, prompts: Mapping[str, Tensor], first: str, tower: str) -> Tensor | None:
    """Prompts `(depth, n, D)` of a tower, block after block from the first; `None` where there are none."""
    if first not in prompts:
        return None
    later = {name: tokens for name, tokens in prompts.items() if name.startswith(f"{tower}.transformer.resblocks.")}
    names = [f"{tower}.transformer.resblocks.{index}.VPT_shallow" for index in range(1, len(later) + 1)]
    if later.keys() != set(names) or any(tokens.shape != prompts[first].shape for tokens in later.values()):
        raise CheckpointError(f"{path} does not hold equally many prompts for the first blocks: {', '.join(later)}")
    return torch.stack([prompts[first], *(later[name] for name in names)])
