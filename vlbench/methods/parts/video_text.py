"""Text that depends on the video: each video is compared with class features of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class ConditionalVideos(NamedTuple):
    """Videos, and what the text of their classes is made from.

    Attributes:
        video: Unit features of the videos, `(B, D)`.
        context: Features `(B, P, D)` of each video that the text attends to, not normalised.
    """

    video: Tensor
    context: Tensor


def conditional_cosines(videos: ConditionalVideos, text: Callable[[Tensor], Tensor], at_once: int) -> Tensor:
    """Cosines `(B, C)` of videos with class features of their own; the product is in the videos' precision.

    Args:
        videos: Videos with their contexts.
        text: Function from contexts `(b, P, D)` to class features `(b, C, D)`, which need not be normalised.
        at_once: Number b of videos whose class features are in memory at once, 1 or more.

    Example:
        >>> videos = ConditionalVideos(torch.eye(2), torch.ones(2, 1, 2))
        >>> conditional_cosines(videos, lambda context: context.expand(-1, 3, -1), at_once=1)
        tensor([[0.7071, 0.7071, 0.7071],
                [0.7071, 0.7071, 0.7071]])
    """
    if torch.compiler.is_compiling():  # the loop would fix the number of videos that an exported program takes
        return _cosines(videos.video, text(videos.context))
    parts = [slice(first, first + at_once) for first in range(0, len(videos.video), at_once)]
    return torch.cat([_cosines(videos.video[part], text(videos.context[part])) for part in parts])


def _cosines(video: Tensor, classes: Tensor) -> Tensor:
    """Cosines `(B, C)` of unit features `(B, D)` with features `(B, C, D)`."""
    # Cosines of bfloat16 have three digits, which ties classes.
    with torch.autocast(video.device.type, enabled=False):
        return torch.einsum("bd,bcd->bc", video, F.normalize(classes.to(video.dtype), dim=-1))
