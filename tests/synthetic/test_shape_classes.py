from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import pytest

from vlbench.errors import ConfigError
from vlbench.synthetic.classes import (
    COLOURS,
    MOTION_CLAUSES,
    MOTIONS,
    PARTNERS,
    SETS,
    SHAPES,
    SyntheticClass,
    base_labels,
    classes_of,
    spatial_descriptions,
    temporal_descriptions,
)
from vlbench.synthetic.tiny_clip import CONTEXT_LENGTH, tokenizer


def test_sets_have_the_calibrated_sizes() -> None:
    assert {name: len(classes) for name, classes in SETS.items()} == {"shapes-k": 24, "shapes-u": 16, "shapes-s": 16}
    assert len(MOTIONS) == 14
    assert len(COLOURS) == len(SHAPES) == 8


@pytest.mark.parametrize("name", SETS)
def test_every_class_can_be_drawn_and_is_listed_once(name: str) -> None:
    classes = classes_of(name)
    assert len(set(classes)) == len({cls.name for cls in classes}) == len(classes)
    for cls in classes:
        assert cls.colour in COLOURS
        assert cls.shape in SHAPES
        assert cls.motion in MOTIONS


def test_objects_are_disjoint_across_sets() -> None:
    objects = {name: {cls.object for cls in classes} for name, classes in SETS.items()}
    for one, other in combinations(SETS, 2):
        assert not objects[one] & objects[other]


def test_in_the_large_set_no_paired_motion_belongs_to_a_single_object() -> None:
    for motion in PARTNERS:
        if motion not in ("cw", "ccw"):  # these two share their one object, which therefore tells neither
            assert len({cls.object for cls in SETS["shapes-k"] if cls.motion == motion}) > 1


def test_class_name() -> None:
    assert SyntheticClass("red", "ball", "l2r").name == "a red ball moving from left to right"


def test_partners_are_mutual() -> None:
    assert len(PARTNERS) == 10
    assert all(PARTNERS[PARTNERS[motion]] == motion != PARTNERS[motion] for motion in PARTNERS)


@pytest.mark.parametrize("name", SETS)
def test_base_is_half_of_the_labels(name: str) -> None:
    base = base_labels(name)
    assert list(base) == sorted(set(base))
    assert len(base) == len(SETS[name]) // 2
    assert set(base) < set(range(len(SETS[name])))


def test_novel_classes_of_shapes_s_are_new_combinations_of_known_words() -> None:
    classes, base = SETS["shapes-s"], set(base_labels("shapes-s"))
    known = {word for label in base for word in classes[label].name.split()}
    for label, cls in enumerate(classes):
        assert label in base or set(cls.name.split()) <= known
        # The partner is on the same side, so that the order of the frames decides within either half.
        partner = SyntheticClass(cls.colour, cls.shape, PARTNERS[cls.motion])
        assert (classes.index(partner) in base) == (label in base)


@pytest.mark.parametrize("name", SETS)
def test_descriptions_are_distinct_and_fit_the_context(name: str) -> None:
    encode = tokenizer()
    seen: set[str] = set()
    for cls in SETS[name]:
        spatial, temporal = spatial_descriptions(cls), temporal_descriptions(cls)
        assert len(set(spatial)) == len(set(temporal)) == 2
        assert all(cls.colour in text and cls.shape in text for text in spatial)
        assert not seen & set(temporal)
        seen |= set(temporal)
        for text in (cls.name, *spatial, *temporal):
            assert len(encode.encode(f"a video of {text}.")) + 2 <= CONTEXT_LENGTH


def test_every_motion_has_its_own_clauses() -> None:
    assert set(MOTION_CLAUSES) == set(MOTIONS)
    clauses = [clause for pair in MOTION_CLAUSES.values() for clause in pair]
    assert len(set(clauses)) == 2 * len(MOTIONS)


def test_unknown_set() -> None:
    with pytest.raises(ConfigError, match="shapes-k, shapes-u, shapes-s"):
        base_labels("shapes-x")


def test_classes_and_generator_need_no_torch() -> None:
    code = "import vlbench.synthetic.generate, vlbench.synthetic.tiny_clip, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
