from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

import vlbench.datasets.descriptions as module
from vlbench.datasets import HMDB51, UCF101, ActivityNet, Kinetics400, Kinetics600, SomethingSomethingV2
from vlbench.datasets.descriptions import SHIPPED, Descriptions, read_descriptions
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


# ---- the descriptions in the package ----

DATASETS = {cls.folder: cls() for cls in (UCF101, HMDB51, Kinetics400, Kinetics600, SomethingSomethingV2, ActivityNet)}
KINDS = ("spatial", "temporal")

SMALL = set(re.findall(r"\w+", "a an the of or and with by for it its is so that at as something some to"))
"""Words of class names that are no content."""
PLACES = {"in", "on", "from", "into"}
"""Words that are content in Something-Something alone, where they tell classes apart."""

OTHER_FORMS: dict[str, tuple[str, ...]] = {
    # other forms than the name's, misspelt names included
    "apply lipstick": ("lipstick",),
    "dying hair": ("dye", "hair"),
    "mooping floor": ("mop", "floo"),
    "mopping floor": ("mop", "floo"),
    "playing flauta": ("play", "flut"),
    "polishing forniture": ("poli", "furn"),
    "popping balloons": ("pop", "ball"),
    "putting something that can't roll onto a slanted surface, so it slides down": (
        "put",
        "not",
        "roll",
        "slid",
        "down",
    ),
    "putting something that can't roll onto a slanted surface, so it stays where it is": ("put", "not", "roll", "stay"),
    "setting table": ("set", "tabl"),
    "sharpening knives": ("shar", "kni"),
    "skate boarding": ("skateboard",),
    "sipping cup": ("sip", "cup"),
    "situp": ("sit", "up"),
    "skiing": ("skier",),
    "skijet": ("jet ski",),
    "tie dying": ("tie", "dye"),
    "yo yo": ("yo yo",),
    "letting something roll up a slanted surface, so it rolls back down": ("let", "roll", "up", "back", "down"),
    "lifting something up completely, then letting it drop down": ("lift", "up", "comp", "then", "let", "drop", "down"),
    "lifting up one end of something, then letting it drop down": ("lift", "one", "end", "then", "let", "drop", "down"),
    # four letters would be too few, or the words of two classes differ in their order alone
    "bodysurfing": ("bodysurf",),
    "breading or breadcrumbing": ("breading", "breadcrumb"),
    "breakdancing": ("breakdanc",),
    "closing something": ("closing",),
    "faceplanting": ("faceplant",),
    "handstand pushups": ("handstand", "pushups"),
    "headbanging": ("headbang",),
    "headbutting": ("headbutt",),
    "opening something": ("opening",),
    "paintball": ("paintball",),
    "paragliding": ("paraglid",),
    "parasailing": ("parasail",),
    "photobombing": ("photobomb",),
    "photocopying": ("photocop",),
    "pulling something from left to right": ("pull", "from the left"),
    "pulling something from right to left": ("pull", "from the right"),
    "pushing something from left to right": ("push", "to the right"),
    "pushing something from right to left": ("push", "to the left"),
    "pushing wheelbarrow": ("push", "wheelbarrow"),
    "pushing wheelchair": ("push", "wheelchair"),
    "putting something, something and something on the table": ("putt", "thre"),
    "shooting basketball": ("shooting", "basket"),
    "skateboarding": ("skateboard",),
    "snowboarding": ("snowboard",),
    "snowkiting": ("snowkit",),
    "snowmobiling": ("snowmobil",),
    "turning the camera left while filming something": ("turning left",),
    "turning the camera right while filming something": ("turning right",),
    "wakeboarding": ("wakeboard",),
    "windsurfing": ("windsurf",),
}
"""How the words of a class begin in its sentences, where that is not by the first four letters of the name's words."""


def words_of(name: str, dataset: str) -> list[str]:
    """Content words of a class name."""
    words = re.findall(r"[a-z0-9]+", name.lower().replace("n't", " not").replace("'s", ""))
    dropped = SMALL if dataset == "ssv2" else SMALL | PLACES
    # UCF-101's many instruments are known by their names.
    return [word for word in words if word not in dropped and (dataset, word) != ("ucf101", "playing")]


def stems_of(name: str, dataset: str) -> tuple[str, ...]:
    """Beginnings of the content words of a class name: four letters at most, without -ing."""
    bases = [(word, word.removesuffix("ing")) for word in words_of(name, dataset)]
    return OTHER_FORMS.get(name.lower(), tuple((base if len(base) > 2 else word)[:4] for word, base in bases))


def names_class(text: str, stems: tuple[str, ...]) -> bool:
    return all(f" {stem}" in text for stem in stems)


@pytest.fixture(scope="module", params=DATASETS)
def dataset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def sentences(dataset: str, kind: str) -> tuple[tuple[str, ...], ...]:
    described = DATASETS[dataset].spec.descriptions
    assert described is not None
    read: tuple[tuple[str, ...], ...] = getattr(described.read(), kind)
    return read


@cache
def texts(dataset: str, kind: str) -> list[str]:
    """Both sentences of a kind of every class: words in lower case with a blank before each."""
    return [f" {' '.join(re.findall(r'[a-z0-9]+', ' '.join(pair).lower()))}" for pair in sentences(dataset, kind)]


@cache
def stems(dataset: str) -> list[tuple[str, ...]]:
    return [stems_of(name, dataset) for name in DATASETS[dataset].spec.class_names]


def test_every_class_has_two_sentences_of_each_kind(dataset: str) -> None:
    names = DATASETS[dataset].spec.class_names
    for kind in KINDS:
        assert [len(pair) for pair in sentences(dataset, kind)] == [2] * len(names)
        for sentence in itertools.chain(*sentences(dataset, kind)):
            assert 8 <= len(sentence.split()) <= 18, sentence
            assert sentence[0].isupper(), sentence
            assert sentence.endswith("."), sentence
            assert sentence.isascii(), sentence
            assert "  " not in sentence, sentence


def test_no_two_sentences_are_alike_over_all_datasets() -> None:
    """Kinetics-600 shares classes with Kinetics-400, and their sentences."""
    known = set(DATASETS["kinetics400"].spec.class_names)
    count: Counter[str] = Counter()
    for name, kind in itertools.product(DATASETS, KINDS):
        for label, pair in enumerate(sentences(name, kind)):
            if name != "kinetics600" or DATASETS[name].spec.class_names[label] not in known:
                count.update(" ".join(re.findall("[a-z]+", sentence.lower())) for sentence in pair)
    assert [sentence for sentence, times in count.items() if times > 1] == []
    assert count.total() == 4 * (101 + 51 + 400 + 232 + 174 + 200)


def test_kinetics600_has_the_sentences_of_kinetics400_where_the_class_is_the_same() -> None:
    earlier = DATASETS["kinetics400"].spec.class_names
    shared = [name for name in DATASETS["kinetics600"].spec.class_names if name in earlier]
    assert len(shared) == 368
    for kind in KINDS:
        of = {
            name: dict(zip(DATASETS[name].spec.class_names, sentences(name, kind), strict=True))
            for name in ("kinetics400", "kinetics600")
        }
        assert [of["kinetics600"][name] for name in shared] == [of["kinetics400"][name] for name in shared]
    for part in SHIPPED.joinpath("kinetics600").iterdir():
        assert len(json.loads(part.read_text())) == 232


NAMED = [("ucf101", "spatial"), *itertools.product(("kinetics400", "kinetics600", "ssv2", "activitynet"), KINDS)]
"""Sentences that name their class; UCF-101's temporal ones need not, and HMDB-51's have a test of their own."""


@pytest.mark.parametrize(("name", "kind"), NAMED)
def test_sentences_name_their_class(name: str, kind: str) -> None:
    named = zip(DATASETS[name].spec.class_names, texts(name, kind), stems(name), strict=True)
    assert [each for each, text, stems in named if not names_class(text, stems)] == []


@pytest.mark.parametrize(("name", "kind"), NAMED)
def test_any_two_classes_swapped_would_be_noticed(name: str, kind: str) -> None:
    names = DATASETS[name].spec.class_names
    about = [{label for label, stem in enumerate(stems(name)) if names_class(text, stem)} for text in texts(name, kind)]
    unnoticed = [
        (names[one], names[other])
        for one, others in enumerate(about)
        for other in others
        if one < other and one in about[other]
    ]
    assert unnoticed == []


@pytest.mark.parametrize("name", ["kinetics400", "kinetics600", "ssv2", "activitynet"])
def test_sentences_tell_a_class_from_those_with_a_word_in_common(name: str) -> None:
    """They have a word that the other name lacks; where it lacks none, they do not have all of its words."""
    names = DATASETS[name].spec.class_names
    words = [set(words_of(each, name)) for each in names]
    for kind in KINDS:
        same = [
            (names[one], names[other])
            for one, other in itertools.permutations(range(len(names)), 2)
            if words[one] & words[other]
            and not any(
                f" {stem}" in texts(name, kind)[one] for stem in set(stems(name)[one]) - set(stems(name)[other])
            )
            and names_class(texts(name, kind)[one], stems(name)[other])
        ]
        assert same == []


@pytest.mark.parametrize("name", DATASETS)
def test_the_files_are_read_when_they_are_needed_and_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def spy(path: Path, class_names: Sequence[str]) -> object:
        read.append(path)
        return original(path, class_names)

    original = module.read_sentences
    monkeypatch.setattr(module, "read_sentences", spy)
    module._shipped.cache_clear()
    described = [
        type(DATASETS[name])(variant=variant).train_classes.descriptions for variant in DATASETS[name].variants
    ]
    assert read == []
    assert all(each is not None and each.read() == each.read() for each in described)
    assert len(read) == len({*read}) * (2 if name == "ucf101" else 1)  # UCF-101's files go with either names


def test_variants_of_kinetics600_have_the_sentences_too() -> None:
    whole, part = Kinetics600().spec, Kinetics600(variant="vifi").spec
    assert whole.descriptions is not None
    assert whole.descriptions == part.descriptions
