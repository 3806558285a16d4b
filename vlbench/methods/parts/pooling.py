"""One feature of a video from the features of its frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_mean(features: Tensor) -> Tensor:
    """Unit vectors `(B, D)`, at least float32, of the mean over the frames of features `(B, F, D)`."""
    return F.normalize(features.mean(dim=1, dtype=torch.promote_types(features.dtype, torch.float32)), dim=-1)


def mean_unit(features: Tensor) -> Tensor:
    """Means `(B, D)`, at least float32, of the unit vectors of features `(B, F, D)`.

    The product with a unit vector is the mean of the frames' cosines.
    """
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1).mean(dim=1)
