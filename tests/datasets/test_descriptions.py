from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from vlbench.datasets.descriptions import SHIPPED, Descriptions, read_descriptions
from vlbench.datasets.ucf101_names import WORDS
from vlbench.errors import DataError

NAMES = ("run", "jump")
GOOD = {"0": ["a runner", "a track"], "1": ["a jumper", "a pit"]}


def write(folder: Path, spatial: object = GOOD, temporal: object = GOOD) -> Path:
    for name, content in (("spatial.json", spatial), ("temporal.json", temporal)):
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_reads_classes_in_label_order_whatever_the_order_of_keys(tmp_path: Path) -> None:
    names = tuple("abcdefghijkl")
    spatial = {str(label): [f"sees {label}"] for label in reversed(range(12))}
    temporal = {str(label): [f"moves {label}", "ends"] for label in range(12)}
    described = read_descriptions(write(tmp_path, spatial, temporal), names)
    assert described.spatial == tuple((f"sees {label}",) for label in range(12))
    assert described.temporal == tuple((f"moves {label}", "ends") for label in range(12))
    assert len(described) == 12


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"0": ["a"]}, r"lacks key '1' \(1 in all\); allowed: exactly '0' to '1', one for each of the 2 classes"),
        ({"0": ["a"], "1": ["b"], "2": ["c"]}, r"has unknown key '2' \(1 in all\)"),
        ({"00": ["a"], "1": ["b"]}, "has unknown key '00'"),
        ({"run": ["a"], "jump": ["b"]}, r"has unknown key 'run' \(2 in all\)"),
        ({"0": ["a"], "1": ["b", "c"]}, r"key '1' \(jump\): 2 sentences; allowed: 1, as many as key '0' has"),
        ({"0": ["a"], "1": []}, r"key '1' \(jump\): \[\]; allowed: a list of one or more sentences"),
        ({"0": "abc", "1": ["b"]}, r"key '0' \(run\): 'abc'; allowed: a list"),
        ({"0": ["a"], "1": [" "]}, r"key '1' \(jump\): sentence 0 is ' '"),
        ({"0": ["a"], "1": [1]}, r"key '1' \(jump\): sentence 0 is 1"),
        ([["a"], ["b"]], "holds a list; allowed: an object"),
        ("{", "is not valid JSON .*; correct it"),
        ('{"0": ["a"], "1": ["b"], "0": ["c"]}', "key '0' occurs twice"),
    ],
)
@pytest.mark.parametrize("part", ["spatial", "temporal"])
def test_refuses_damaged_files(tmp_path: Path, part: str, content: object, expected: str) -> None:
    write(tmp_path, **{part: content})
    with pytest.raises(DataError, match=rf"{part}\.json,? ?.*{expected}"):
        read_descriptions(tmp_path, NAMES)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "temporal.json").unlink()
    with pytest.raises(DataError, match=r"cannot read the descriptions .*temporal\.json: No such file"):
        read_descriptions(tmp_path, NAMES)


def test_parts_must_describe_the_same_number_of_classes() -> None:
    with pytest.raises(DataError, match="1 classes have spatial and 0 temporal sentences"):
        Descriptions((("a",),), ())


def test_subset_picks_in_the_order_given() -> None:
    described = Descriptions((("s0",), ("s1",), ("s2",)), (("t0",), ("t1",), ("t2",)))
    assert described.subset((2, 0)) == Descriptions((("s2",), ("s0",)), (("t2",), ("t0",)))
    for label in (3, -1):
        with pytest.raises(DataError, match=f"label {label} has no descriptions; allowed: 0 to 2"):
            described.subset((0, label))


# ---- the descriptions in the package ----

# words of class names that many classes share or that are no content
COMMON = {"playing", "in", "on", "with", "and"}
# where the sentences use another form than the class name, or four letters are too few ("hands")
OTHER_FORMS = {
    "Apply Lipstick": ("lipstick",),
    "Handstand Pushups": ("handstand", "pushups"),
    "Mopping Floor": ("mop ", "floor"),
    "Skiing": ("skier",),
    "Skijet": ("jet ski",),
}


@pytest.fixture(scope="module")
def ucf101() -> Descriptions:
    return read_descriptions(SHIPPED / "ucf101", WORDS)


def names_class(sentences: tuple[str, ...], words: str) -> bool:
    """Whether the beginning (four letters) of each content word of the class name occurs in the sentences."""
    stems = OTHER_FORMS.get(words, tuple(word[:4] for word in words.lower().split() if word not in COMMON))
    text = " ".join(sentences).lower().replace("yo-yo", "yo yo")
    return all(stem in text for stem in stems)


def test_ucf101_has_two_sentences_of_each_kind_and_none_twice(ucf101: Descriptions) -> None:
    sentences = [sentence for part in (ucf101.spatial, ucf101.temporal) for pair in part for sentence in pair]
    assert len(sentences) == len(set(sentences)) == 404
    # at most 18 words: comfortably within CLIP's 77 tokens
    assert all(8 <= len(sentence.split()) <= 18 for sentence in sentences)
    assert all(sentence[0].isupper() and sentence.endswith(".") and sentence.isascii() for sentence in sentences)


@pytest.mark.parametrize(("label", "words"), list(enumerate(WORDS)))
def test_ucf101_spatial_sentences_name_their_class(ucf101: Descriptions, label: int, words: str) -> None:
    assert names_class(ucf101.spatial[label], words)


def test_any_two_classes_swapped_would_be_noticed(ucf101: Descriptions) -> None:
    unnoticed = [
        (WORDS[one], WORDS[other])
        for one, other in itertools.combinations(range(len(WORDS)), 2)
        if names_class(ucf101.spatial[one], WORDS[other]) and names_class(ucf101.spatial[other], WORDS[one])
    ]
    assert unnoticed == []


def test_another_order_of_the_classes_is_noticed(tmp_path):
    names = ("kick", "kick ball", "wave")
    about = {"0": ["someone will kick high"], "1": ["they kick ball after ball"], "2": ["an arm goes up"]}
    write(tmp_path, content := about, content)
    assert len(read_descriptions(tmp_path, names)) == 3
    write(tmp_path, content := {**about, "0": about["1"], "1": about["0"]}, content)
    with pytest.raises(
        DataError, match=r"key '0' \(kick\) is about 'kick ball'; key '1' \(kick ball\) is about 'kick'"
    ):
        read_descriptions(tmp_path, names)
    # A sentence may name another class beside its own, and one of several may name another alone.
    write(tmp_path, content := {**about, "0": ["a kick, not a wave"], "2": ["they wave"]}, content)
    assert len(read_descriptions(tmp_path, names)) == 3
