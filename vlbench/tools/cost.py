"""How many floating-point operations a method takes, counted without computing anything."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vlbench.clips.batch import ClipBatch
from vlbench.evaluation.operations import CountedOperations, sizes_only
from vlbench.methods.base import VideoTextMethod
from vlbench.tools.memory import prepare


class Operations(NamedTuple):
    """Floating-point operations of a method; a multiplication and an addition are two.

    Attributes:
        view: Operations of a view of a test video, without those of the classes, which are computed once.
        step: Operations of a training step that do not depend on its number of clips, such as those of the classes.
        clip: Operations of a training clip, beside those of the step.
    """

    view: float
    step: float
    clip: float


def count(method: VideoTextMethod, *, frames: int, classes: int) -> Operations:
    """Operations of a method's tests and of its trainings.

    The backward pass is taken for one forward pass, of the gradients that pass through, and for the part of another one
    that the parameters that train have of all parameters of the image tower.

    Args:
        method: Method on the meta device; it is of no other use afterwards.
        frames: Number T of frames of a clip.
        classes: Number C of training classes.
    """
    trains = any(parameter.requires_grad for parameter in method.parameters())
    tower = list(method.backbone.visual.parameters())  # adapters that stand inside blocks are among them
    trained = sum(parameter.numel() for parameter in tower if parameter.requires_grad)
    passes = 2 + trained / max(1, sum(parameter.numel() for parameter in tower))
    size = method.backbone.image_size

    def video_of(number: int) -> Tensor:
        return torch.empty(number, frames, 3, size, size, dtype=torch.uint8, device="meta")

    def clips(number: int) -> ClipBatch:
        labels = torch.empty(number, dtype=torch.int64, device="meta")
        return ClipBatch(video_of(number), labels, [str(index) for index in range(number)], {})

    with sizes_only():
        with CountedOperations() as view, torch.no_grad():
            method.encode_frames(method.backbone.normalize(video_of(1)))
        if not trains:
            return Operations(view.total, 0, 0)
        prepare(method, classes)
        forward = []
        for number in (8, 16):  # groups of clips that share a draw divide them
            with CountedOperations() as counted:
                method.training_loss(clips(number))
            forward.append(counted.total)
    a_clip = (forward[1] - forward[0]) / 8
    return Operations(view.total, passes * max(0, forward[0] - 8 * a_clip), passes * a_clip)
