"""Captions that the tiny CLIP is pre-trained on.

Most tell what one frame shows. The others name the motion that the frame was taken from: a single frame
hardly shows it, but the text tower has to meet the words of the class names and descriptions, or it maps both
directions of a motion to one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlbench.synthetic.classes import (
    MOTION_CLAUSES,
    MOTIONS,
    SPATIAL_TEMPLATES,
    TEMPORAL_TEMPLATES,
    SyntheticClass,
)

MOTION_SHARE = 0.4
"""Share of the captions that name the motion."""

_STILL = (
    "a {}",
    "the {}",
    "{}",
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a video of a {}",
    "a frame with a {}",
    "a still from a video of a {}",
    "here is a {}",
    "one can see a {}",
)
_MOVING = ("a {} {}", "a video of a {} {}", "a photo of a {} {}", "a clip of a {} {}")
_CLAUSE = ("a {object} {clause}", *TEMPORAL_TEMPLATES, "a video in which a {object} {clause}")
_PLACES = (" on the {}", " at the {}", " near the {}", " in the {} of the image")


@dataclass(frozen=True)
class View:
    """Where and how the object is seen in one frame.

    Attributes:
        x: Centre, 0 (left) to 1 (right).
        y: Centre, 0 (top) to 1 (bottom).
        radius: Radius as a fraction of the frame.
        opacity: Opacity of the object, 0 to 1.
    """

    x: float
    y: float
    radius: float
    opacity: float


def caption(rng: np.random.Generator, cls: SyntheticClass, view: View) -> tuple[str, bool]:
    """Draws a caption for one frame.

    Returns:
        The caption and whether it names the motion.
    """
    if rng.random() < MOTION_SHARE:
        text, moving = _motion_caption(rng, cls), True
    elif rng.random() < 0.15:
        text, moving = _pick(rng, SPATIAL_TEMPLATES).format(colour=cls.colour, shape=cls.shape), False
    else:
        text, moving = _still_caption(rng, cls, view), False
    return text + ("." if rng.random() < 0.5 else ""), moving


def _motion_caption(rng: np.random.Generator, cls: SyntheticClass) -> str:
    kind = rng.random()
    if kind < 0.6:
        return _pick(rng, _MOVING).format(cls.object, MOTIONS[cls.motion])
    if kind < 0.9:
        clause = _pick(rng, MOTION_CLAUSES[cls.motion])
        return _pick(rng, _CLAUSE).format(object=cls.object, shape=cls.shape, clause=clause)
    return f"something is {MOTIONS[cls.motion]}"


def _still_caption(rng: np.random.Generator, cls: SyntheticClass, view: View) -> str:
    adjectives = []
    if view.opacity < 0.5:
        adjectives.append("faint")
    if view.radius < 0.14:
        adjectives.append("small")
    elif view.radius > 0.26:
        adjectives.append("large")
    thing = [word for word in adjectives if rng.random() < 0.7]
    kind = rng.random()
    if kind < 0.92:
        thing += [cls.object]
    else:  # a word alone, so that colours and shapes are learned apart
        thing = [f"{cls.colour} shape" if kind < 0.96 else cls.shape]
    text = _pick(rng, _STILL).format(" ".join(thing))
    return text + _pick(rng, _PLACES).format(_place(view)) if rng.random() < 0.6 else text


def _place(view: View) -> str:
    vertical = "top" if view.y < 0.36 else "bottom" if view.y > 0.64 else ""
    horizontal = "left" if view.x < 0.36 else "right" if view.x > 0.64 else ""
    return f"{vertical} {horizontal}".strip() or "middle"


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
