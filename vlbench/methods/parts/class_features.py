"""Class features from prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake

from vlbench.backbones.base import DualEncoder
from vlbench.files import cache_folder, write_atomically


def ensemble(features: Tensor, groups: int) -> Tensor:
    """One unit feature for each group of texts: the mean of their unit features, made unit again.

    Args:
        features: Features of the texts, group after group, `(groups * n, D)`.
        groups: Number C of groups.

    Returns:
        `(C, D)`.
    """
    return F.normalize(F.normalize(features, dim=-1).unflatten(0, (groups, -1)).mean(dim=1), dim=-1)


def prompted(class_names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Each name put into every template, class after class."""
    return [template.format(name) for name in class_names for template in templates]


@torch.no_grad()
def frozen_ensemble(backbone: DualEncoder, texts: Sequence[str], groups: int) -> Tensor:
    """`ensemble` of the text tower as it was loaded; kept on disk, for nothing in it ever changes.

    A method's blocks and branches are left out. A file is found again by the backbone's architecture, options and
    weights, the texts and what the tokenizer makes of them.

    Args:
        backbone: Whose text tower is frozen.
        texts: Group after group, equally many in each.
        groups: Number C of groups.

    Returns:
        `(C, D)`, without a graph.
    """
    parameter = backbone.logit_scale
    if parameter.is_meta or is_fake(parameter):  # sizes without values, there is nothing to keep
        return ensemble(backbone.encode_texts(texts, adapted=False), groups)
    ids = backbone.tokenize(texts)
    # Weights alone do not say what they compute: activation and number of heads are the architecture's.
    computed = backbone.identity.name, backbone.identity.digest, backbone.settings()
    key = hashlib.blake2b(f"{computed} {parameter.dtype} {groups} {list(texts)}".encode(), digest_size=16)
    key.update(ids.cpu().numpy().tobytes())
    path = cache_folder() / "class_features" / f"{key.hexdigest()}.safetensors"
    features = _read(path)
    if features is None:
        # Always in full precision and without dropout: the features must not depend on the training's.
        with torch.autocast(parameter.device.type, enabled=False), evaluating(backbone):
            features = ensemble(backbone.encode_texts(texts, adapted=False), groups)
        write_atomically(path, save({"features": features.cpu()}))
    return features.to(parameter.device)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, a module and its parts are in evaluation mode; then each is in the mode that it was in before."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _read(path: Path) -> Tensor | None:
    try:
        return load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):  # missing, or damaged by hand: computed again
        return None
