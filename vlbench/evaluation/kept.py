"""What an evaluation keeps beside its scores, so that other protocols are scored without decoding; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vlbench.errors import ConfigError

Kept = Literal["views", "templates", "epochs"]
"""What is kept on request: the scores of each `views` alone, those with other `templates` of the class names, and those
of the test videos after the `epochs` of a training."""


def kept_names(keep: Sequence[str] | str) -> tuple[Kept, ...]:
    """What is to be kept, each once, from the option that names it.

    Args:
        keep: Names of what is kept, or one text with commas between the names.

    Raises:
        ConfigError: If a name is none of `Kept`.

    Example:
        >>> kept_names("views,templates")
        ('views', 'templates')
    """
    names = keep.strip(" []").split(",") if isinstance(keep, str) else keep
    allowed: dict[str, Kept] = {name: name for name in get_args(Kept)}
    kept = dict.fromkeys(name.strip() for name in names if name)
    for name in kept:
        if name not in allowed:
            raise ConfigError(
                f"record.keep has {name!r}; allowed: {', '.join(allowed)}, several with commas between them"
            )
    return tuple(allowed[name] for name in kept)


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
