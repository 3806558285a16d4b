"""Objects, motions and the three class sets of the synthetic benchmark, with their words.

A class is a coloured shape that performs one motion. Ten of the fourteen motions come as pairs that are each
other's time reversal, so that no single frame tells the two apart. The three sets share no object:

- `shapes-k` plays the part of the large training set; a motion word is never tied to one object alone.
- `shapes-u` has one object a class: appearance decides.
- `shapes-s` crosses two objects with eight directed motions: the order of the frames decides.

Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vlbench.errors import ConfigError

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (215, 40, 40),
        "green": (45, 165, 60),
        "blue": (45, 75, 215),
        "yellow": (230, 210, 50),
        "purple": (145, 55, 180),
        "orange": (240, 135, 30),
        "white": (240, 240, 240),
        "cyan": (60, 200, 215),
    }
)
"""Colour word to mean RGB value, 0 to 255."""

SHAPES: tuple[str, ...] = ("ball", "box", "triangle", "star", "cross", "ring", "flag", "net")
"""Shape words; `render` knows how to draw each of them."""

MOTIONS: Mapping[str, str] = MappingProxyType(
    {
        "l2r": "moving from left to right",
        "r2l": "moving from right to left",
        "rise": "rising up from the bottom to the top",
        "fall": "falling down from the top to the bottom",
        "grow": "growing from small to large",
        "shrink": "shrinking from large to small",
        "appear": "appearing out of nothing",
        "vanish": "vanishing into nothing",
        "cw": "circling clockwise",
        "ccw": "circling counterclockwise",
        "bounce": "bouncing up and down",
        "shake": "shaking quickly",
        "blink": "blinking on and off",
        "still": "standing still",
    }
)
"""Motion key to the phrase that ends a class name."""

_FORWARD = (("l2r", "r2l"), ("rise", "fall"), ("grow", "shrink"), ("appear", "vanish"), ("cw", "ccw"))

REVERSED_OF: Mapping[str, str] = MappingProxyType({backward: forward for forward, backward in _FORWARD})
"""Motions that are drawn as another motion played backwards, and that other motion."""

PARTNERS: Mapping[str, str] = MappingProxyType({**dict(_FORWARD), **REVERSED_OF})
"""Motion key to its time reversal, both ways; undirected motions are absent."""

# Clauses on the course of a motion. The text tower reads all of them during pre-training.
MOTION_CLAUSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "l2r": ("begins at the left side and finishes at the right side", "heads for the right"),
        "r2l": ("begins at the right side and finishes at the left side", "heads for the left"),
        "rise": ("begins low and finishes high", "goes upwards until it is near the top"),
        "fall": ("begins high and finishes low", "goes downwards until it is near the bottom"),
        "grow": ("begins tiny and finishes huge", "takes up more and more room"),
        "shrink": ("begins huge and finishes tiny", "takes up less and less room"),
        "appear": ("begins invisible and finishes fully visible", "shows up little by little"),
        "vanish": ("begins fully visible and finishes invisible", "goes away little by little"),
        "cw": ("turns round a centre as a clock does", "runs along a round track, clock direction"),
        "ccw": ("turns round a centre as a clock running backwards", "runs along a round track, against the clock"),
        "bounce": ("leaps up and lands many times", "keeps hopping from the floor"),
        "shake": ("jitters around its own place", "trembles without going anywhere"),
        "blink": ("is shown and hidden in quick turns", "keeps flashing like a lamp"),
        "still": ("keeps its place from beginning to end", "rests without any motion"),
    }
)
"""Motion key to two ways of telling its course; a subject has to be put in front."""

SPATIAL_TEMPLATES: tuple[str, str] = (
    "every frame holds a {shape} of {colour} colour",
    "a {colour} {shape} in front of a cloudy wall",
)
TEMPORAL_TEMPLATES: tuple[str, str] = ("the {shape} {clause}", "as time goes by a {shape} {clause}")


@dataclass(frozen=True)
class SyntheticClass:
    """One class: a coloured shape that performs one motion.

    Attributes:
        colour: A key of `COLOURS`.
        shape: Shape, one of `SHAPES`.
        motion: A key of `MOTIONS`.
    """

    colour: str
    shape: str
    motion: str

    @property
    def object(self) -> str:
        """The thing that moves, such as `red ball`."""
        return f"{self.colour} {self.shape}"

    @property
    def name(self) -> str:
        """The class text as it enters prompts, such as `a red ball moving from left to right`."""
        return f"a {self.object} {MOTIONS[self.motion]}"


def _classes(*rows: tuple[str, str]) -> tuple[SyntheticClass, ...]:
    """Classes from rows of `("red ball", "l2r r2l")`, in the order written."""
    return tuple(
        SyntheticClass(colour, shape, motion)
        for thing, motions in rows
        for colour, shape in [thing.split(" ")]
        for motion in motions.split(" ")
    )


SETS: dict[str, tuple[SyntheticClass, ...]] = {
    "shapes-k": _classes(
        ("red ball", "l2r r2l grow shrink"),
        ("blue box", "rise fall appear vanish"),
        ("yellow star", "l2r r2l appear vanish"),
        ("purple cross", "rise fall grow shrink"),
        ("green triangle", "cw ccw"),
        ("orange ring", "shake"),
        ("white net", "bounce"),
        ("cyan flag", "blink"),
        ("orange triangle", "still"),
        ("cyan cross", "bounce"),
        ("white star", "shake"),
    ),
    "shapes-u": _classes(
        ("red triangle", "l2r"),
        ("red star", "bounce"),
        ("blue ring", "fall"),
        ("blue cross", "still"),
        ("green ball", "shrink"),
        ("green box", "shake"),
        ("yellow net", "appear"),
        ("yellow flag", "cw"),
        ("purple ball", "r2l"),
        ("purple star", "blink"),
        ("orange box", "rise"),
        ("blue triangle", "bounce"),
        ("cyan ring", "grow"),
        ("cyan star", "vanish"),
        ("white box", "ccw"),
        ("white cross", "shake"),
    ),
    "shapes-s": _classes(
        ("red ring", "l2r r2l rise fall grow shrink appear vanish"),
        ("green flag", "l2r r2l rise fall grow shrink appear vanish"),
    ),
}
"""Name of a set to its classes in label order."""

_BASE: dict[str, tuple[int, ...]] = {
    "shapes-k": (0, 1, 6, 7, 8, 9, 14, 15, 16, 18, 20, 22),
    "shapes-u": tuple(range(0, 16, 2)),
    # A checkerboard of objects and motion pairs: the base half has every word, the novel half only new combinations.
    "shapes-s": (0, 1, 4, 5, 10, 11, 14, 15),
}


def classes_of(name: str) -> tuple[SyntheticClass, ...]:
    """Classes of a set in label order.

    Raises:
        ConfigError: If there is no such set.
    """
    if name not in SETS:
        raise ConfigError(f"no synthetic set {name!r}; allowed: {', '.join(SETS)}")
    return SETS[name]


def base_labels(name: str) -> tuple[int, ...]:
    """Labels of a set's base half, ascending.

    Raises:
        ConfigError: If there is no such set.
    """
    classes_of(name)
    return _BASE[name]


def spatial_descriptions(cls: SyntheticClass) -> tuple[str, ...]:
    """Two sentences on what a frame of the class looks like; they say nothing of its motion."""
    return tuple(template.format(colour=cls.colour, shape=cls.shape) for template in SPATIAL_TEMPLATES)


def temporal_descriptions(cls: SyntheticClass) -> tuple[str, ...]:
    """Two sentences on what happens over time in the class; they leave the colour out."""
    return tuple(
        template.format(shape=cls.shape, clause=clause)
        for template, clause in zip(TEMPORAL_TEMPLATES, MOTION_CLAUSES[cls.motion], strict=True)
    )
