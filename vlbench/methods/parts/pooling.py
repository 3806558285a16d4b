"""One feature of a video from the features of its frames."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def unit_mean(features: Tensor) -> Tensor:
    """Unit vectors `(B, D)` of the mean over the frames of features `(B, F, D)`."""
    return F.normalize(features.mean(dim=1), dim=-1)
