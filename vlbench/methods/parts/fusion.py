"""One score of a video and a class from the scores of the video's views."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

ViewFusion = Literal["probabilities", "logits", "cosines", "softmax_of_mean"]
"""`probabilities`: mean over the views of the class probabilities. `logits`: mean of the logits. `cosines`: mean of the
cosines. `softmax_of_mean`: softmax of the mean of the softmaxed unscaled cosines, as MoTE's released code has it."""


def fused(cosines: Tensor, scale: Tensor | float, how: ViewFusion) -> Tensor:
    """Scores `(B, C)` of videos from the cosines of their views.

    Args:
        cosines: Cosines `(B, V, C)` of V views with C classes.
        scale: Factor that makes cosines logits.
        how: What is averaged over the views.
    """
    if how == "softmax_of_mean":
        return cosines.softmax(dim=-1).mean(dim=1).softmax(dim=-1)
    if how == "cosines":
        return cosines.mean(dim=1)
    logits = scale * cosines
    return logits.mean(dim=1) if how == "logits" else logits.softmax(dim=-1).mean(dim=1)
