"""Class features from prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from vlbench.backbones.base import DualEncoder


def ensemble(backbone: DualEncoder, texts: Sequence[Sequence[str]]) -> Tensor:
    """One unit feature for each group of texts: the mean of their unit features, made unit again.

    Args:
        backbone: whose text tower is used.
        texts: C groups of the same number of texts.

    Returns:
        `(C, D)`.
    """
    flat = [text for group in texts for text in group]
    features = F.normalize(backbone.encode_texts(flat), dim=-1)
    return F.normalize(features.unflatten(0, (len(texts), -1)).mean(dim=1), dim=-1)


def prompted(class_names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """For each class its name put into every template."""
    return [[template.format(name) for template in templates] for name in class_names]
