"""Sentences that turn a class name into text for the text tower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product

from vlbench.errors import ConfigError

_STEMS = ("a photo of", "a video of", "a example of", "a demonstration of")
_FORMS = (
    "{}.",
    "a person {}.",
    "a person using {}.",
    "a person doing {}.",
    "a person during {}.",
    "a person performing {}.",
    "a person practicing {}.",
)

PROMPTS: dict[str, tuple[str, ...]] = {
    "video": ("a video of {}",),  # MSTA
    "photo": ("a photo of a {}.",),  # ViFi-CLIP
    "person": ("a photo of a person doing {}.",),  # Tip-Adapter on UCF-101
    "name": ("{}.",),  # behind learned tokens
    "bare": ("{}",),  # X-CLIP
    "action": (  # ActionCLIP: 16
        "a photo of action {}",
        "a picture of action {}",
        "Human action of {}",
        "{}, an action",
        "{} this is an action",
        "{}, a video of action",
        "Playing action of {}",
        "{}",
        "Playing a kind of action, {}",
        "Doing a kind of action, {}",
        "Look, the human is {}",
        "Can you recognize the action of {}?",
        "Video classification of {}",
        "A video of {}",
        "The man is {}",
        "The woman is {}",
    ),
    "mote": tuple(f"{stem} {form}" for stem, form in product(_STEMS, _FORMS)),  # MoTE: 28, "a example" included
}
"""Named template sets."""


def templates(prompts: str | Sequence[str]) -> tuple[str, ...]:
    """Templates by name, or those given.

    Args:
        prompts: A key of `PROMPTS`, or templates with one `{}` each.

    Raises:
        ConfigError: If the name is unknown or a template has no place for the class name.
    """
    if isinstance(prompts, str):
        if prompts in PROMPTS:
            return PROMPTS[prompts]
        if "{}" not in prompts:
            raise ConfigError(f"prompts is {prompts!r}; allowed: {', '.join(PROMPTS)}, or templates that contain {{}}")
        return (prompts,)
    bad = [template for template in prompts if template.count("{}") != 1]
    if bad or not prompts:
        raise ConfigError(f"prompts are {list(prompts)}; each template needs exactly one {{}}, and there must be one")
    return tuple(prompts)


def prompts_name(given: Sequence[str]) -> str | list[str]:
    """The name of a set of templates, or the templates where they have no name.

    Args:
        given: Templates with one `{}` each, in order.
    """
    return next((name for name, known in PROMPTS.items() if known == tuple(given)), [*given])


def prompts_text(given: Sequence[str]) -> str:
    """The name of a set of templates, a single template, or templates as JSON: one text for each set.

    Args:
        given: Templates with one `{}` each, in order.
    """
    name = prompts_name(given)
    return name if isinstance(name, str) else name[0] if len(name) == 1 else json.dumps(name, ensure_ascii=False)
