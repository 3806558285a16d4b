"""What a method's checkpoint holds beside Lightning's own: what trains, and which frozen weights it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from vlbench.backbones.identity import BackboneIdentity
from vlbench.errors import CheckpointError
from vlbench.evaluation.facts import TrainingFacts

_KEY = "vlbench"


def write_header(
    checkpoint: dict[str, Any],
    name: str,
    backbone: BackboneIdentity,
    training: TrainingFacts | None,
    configuration: Mapping[str, object] | None = None,
) -> None:
    """Has a checkpoint say what it is.

    Args:
        checkpoint: Checkpoint that Lightning is about to save.
        name: Name of the method.
        backbone: Identity of the frozen weights.
        training: Facts about the training, where they are known.
        configuration: Plain values that build the method anew, where they are known.
    """
    checkpoint[_KEY] = {
        "method": name,
        "backbone": backbone.as_dict(),
        "training": training.as_dict() if training is not None else None,
        "configuration": dict(configuration) if configuration is not None else None,
    }


def read_header(checkpoint: Mapping[str, Any], name: str, backbone: BackboneIdentity) -> TrainingFacts | None:
    """What a checkpoint says of its training.

    Args:
        checkpoint: Checkpoint that is about to be loaded.
        name: Name of the method that loads it.
        backbone: Identity of that method's frozen weights.

    Raises:
        CheckpointError: If it is of another method or belongs to other frozen weights.
    """
    header = header_in(checkpoint)
    if header["method"] != name:
        raise CheckpointError(f"the checkpoint is of method {header['method']!r}, the configuration of {name!r}")
    identity = backbone.as_dict()
    if header["backbone"]["digest"] != identity["digest"]:
        raise CheckpointError(
            f"the checkpoint was trained on {header['backbone']}, the configuration has {identity}; "
            "give the same backbone and pretrained weights (random ones need the same seed_everything)"
        )
    return TrainingFacts.from_dict(header["training"]) if header["training"] is not None else None


def header_in(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its method, its frozen weights and its training, as plain values.

    Raises:
        CheckpointError: If it says nothing: it was not written by vlbench.
    """
    header: dict[str, Any] | None = checkpoint.get(_KEY)
    if header is None:
        raise CheckpointError("the checkpoint was not written by vlbench: it names no method and no backbone")
    return header


def check_complete(state: Mapping[str, Tensor], expected: Collection[str]) -> None:
    """Whether a checkpoint holds what the method trains and nothing else.

    Args:
        state: State dict of the checkpoint.
        expected: Keys of what the method trains.

    Raises:
        CheckpointError: If keys are missing or unexpected.
    """
    missing, unexpected = sorted(set(expected) - state.keys()), sorted(state.keys() - set(expected))
    if missing or unexpected:
        raise CheckpointError(f"the checkpoint does not fit: missing {missing[:5]}, unexpected {unexpected[:5]}")


def state_digest(state: Mapping[str, Tensor], keys: Collection[str]) -> str:
    """Hexadecimal digest of some values of a state dict, of their names and bytes.

    Args:
        state: State dict of a method.
        keys: Keys of the values that count.
    """
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(state.items()):
        if key in keys:
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
