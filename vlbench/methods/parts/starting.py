"""A backbone that starts from the weights of an earlier training instead of the original ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.identity import weights_digest
from vlbench.errors import CheckpointError
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.parts.checkpoint import header_in

_PREFIX = "backbone."


def start_from(backbone: DualEncoder, path: str | Path | None) -> None:
    """Gives a backbone the weights that a training left it with; its identity then names that training and its digest.

    What the method of that training added to the backbone is left out. On the meta device there is nothing to load.

    Args:
        backbone: Dual encoder with the original weights that the training started from.
        path: Checkpoint of that training; `None` leaves the backbone as it is.

    Raises:
        CheckpointError: If the file is no checkpoint of vlbench, belongs to other original weights, or has trained
            nothing of the backbone.
    """
    if path is None or backbone.mean.is_meta:
        return
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"pretrained_from is {path}, which is not a file; give a checkpoint of `vlbench fit`")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        header, state = header_in(content), content["state_dict"]
    except CheckpointError:
        raise
    except Exception as error:  # torch raises whatever a damaged or foreign file makes it stumble over
        raise CheckpointError(f"pretrained_from: {path} cannot be read as a checkpoint: {error}") from error
    identity = backbone.identity
    if header["backbone"]["digest"] != identity.digest:
        raise CheckpointError(
            f"pretrained_from: {path} was trained on {header['backbone']}, the configuration has "
            f"{identity.as_dict()}; give the same backbone and pretrained weights"
        )
    original = backbone.state_dict()
    trained = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    trained = {key: value for key, value in trained.items() if key in original}
    if not trained:
        raise CheckpointError(
            f"pretrained_from: {path} of method {header['method']!r} has trained nothing of the backbone to "
            "start from; give a checkpoint whose towers were fine-tuned"
        )
    misshapen = [key for key, value in trained.items() if value.shape != original[key].shape]
    if misshapen:
        raise CheckpointError(f"pretrained_from: {path} does not fit the backbone: {', '.join(misshapen[:5])}")
    backbone.load_state_dict({**original, **trained})
    identify_start(backbone, header["method"])


def identify_start(backbone: DualEncoder, method: str) -> None:
    """Has the identity of a backbone name the method that trained its weights, and their digest.

    Args:
        backbone: Dual encoder with the weights of a training, before a method adds anything to it.
        method: Name of the method of that training.
    """
    digest = weights_digest(backbone.named_parameters())
    origin = f"{backbone.identity.pretrained or 'random'}+{method}@{digest[:8]}"
    backbone.identity = replace(backbone.identity, pretrained=origin, digest=digest)


def start_parts(method: VideoTextMethod, path: str | Path | None) -> None:
    """Gives a method what a training of the same method has left it; of another method's training there is nothing.

    Args:
        method: Method whose backbone `start_from` has given the weights of the training.
        path: Checkpoint of that training; `None` leaves the method as it is.

    Raises:
        CheckpointError: If weights have other shapes than the method's; names them.
    """
    if path is None or method.backbone.logit_scale.is_meta:
        return
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if header_in(content)["method"] != method.name:
        return
    state = method.state_dict()
    trained = {key: content["state_dict"][key] for key in method.trained_keys() if key in content["state_dict"]}
    misshapen = [key for key, value in sorted(trained.items()) if value.shape != state[key].shape]
    if misshapen:
        sizes = (f"{key} is {tuple(trained[key].shape)} and not {tuple(state[key].shape)}" for key in misshapen[:3])
        raise CheckpointError(f"pretrained_from: {path} does not fit the method's options: {', '.join(sizes)}")
    method.load_state_dict({**state, **trained})
