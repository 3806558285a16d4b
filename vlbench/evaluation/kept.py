"""What an evaluation keeps beside its scores, so that other protocols are scored without decoding; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kept = Literal["views", "templates", "epochs"]
"""What is kept on request: the scores of each `views` alone, those with other `templates` of the class names, and those
of the test videos after the `epochs` of a training."""


@dataclass(frozen=True)
class Keep:
    """What an evaluation is to keep.

    Attributes:
        views: Whether the scores of each view are kept; otherwise those that the views are fused to.
        templates: Whether scores with other templates of the class names are kept.
        prompts: Sets of templates by name, or templates; `None` takes every named set and each template of the
            method's own set.
    """

    views: bool = False
    templates: bool = False
    prompts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class KeptFacts:
    """What the kept scores of an evaluation are of.

    Attributes:
        prompts: Names of the sets of templates, or the templates as JSON, the method's own first.
        prompts_option: Whether the method has templates as an option; without, no prompts change its scores.
        fusion: What the method averages over the views of a video.
        fusion_option: Whether the method has that as an option.
        scale: Factor that makes scores logits.
        fused: Whether the scores are those that the views are fused to, instead of one for each view.
    """

    prompts: tuple[str, ...]
    prompts_option: bool
    fusion: str
    fusion_option: bool
    scale: float
    fused: bool
