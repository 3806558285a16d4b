import json
import random

import pytest

from vlbench.datasets.something import SomethingSomethingV2
from vlbench.datasets.specs import Subset
from vlbench.errors import DataError

NAMES = SomethingSomethingV2().test_classes.names
VIDEOS = "20bn-something-something-v2"


def entry(video, template, label="a label with objects in it"):
    return {"id": video, "label": label, "template": template, "placeholders": ["a cup"]}


@pytest.fixture
def root(tmp_path):
    (tmp_path / VIDEOS).mkdir()
    for name in ("78687.webm", "42326.mp4", "74225.webm"):
        (tmp_path / VIDEOS / name).touch()
    write(tmp_path, "train", [entry("78687", "Holding [something] next to [something]")])
    write(
        tmp_path,
        "validation",
        [
            entry("74225", "[Something] falling like a rock"),
            entry("42326", "Trying to bend [something unbendable] so nothing happens"),
            entry("151", "Holding [something]"),
        ],
    )
    return tmp_path


def write(root, part, entries, name="something-something-v2-{}.json"):
    path = root / name.format(part)
    path.parent.mkdir(exist_ok=True)
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def test_templates_without_brackets_are_the_classes(root):
    data = SomethingSomethingV2(root=str(root))
    assert [NAMES[item.label] for item in data.videos("train")] == ["Holding something next to something"]
    test = data.videos("test")
    assert [NAMES[item.label] for item in test] == [
        "Something falling like a rock",
        "Trying to bend something unbendable so nothing happens",
        "Holding something",
    ]
    assert [item.id for item in test] == ["74225", "42326", "151"]
    assert [item.path.name for item in test] == ["74225.webm", "42326.mp4", "151.webm"]
    assert not test[-1].path.exists()
    assert data.items("validation", 1) == []


@pytest.mark.parametrize("seed", range(3))
def test_every_class_is_found_whatever_stands_in_brackets(root, seed):
    rng = random.Random(seed)

    def bracketed(name):
        words = name.split(" ")
        for _ in range(rng.randint(0, len(words))):
            position = rng.randrange(len(words))
            words[position] = f"[{words[position].strip('[]')}]"
        return " ".join(words)

    write(root, "train", [entry(str(label), bracketed(name)) for label, name in enumerate(NAMES)])
    assert [item.label for item in SomethingSomethingV2(root=str(root)).videos("train")] == list(range(174))


def test_the_labels_folder_of_the_newer_archive_is_read_too(root):
    old = root / "something-something-v2-train.json"
    write(root, "train", old.read_text(), name="labels/{}.json")
    expected = SomethingSomethingV2(root=str(root)).videos("train")
    old.unlink()
    assert SomethingSomethingV2(root=str(root)).videos("train") == expected


def test_published_lists_give_the_same_ids(root):
    lists = root / "lists" / "ssv2_splits"
    lists.mkdir(parents=True)
    (lists / "validation.txt").write_text("74225.webm 3\n")
    (item,) = SomethingSomethingV2(root=str(root), splits_dir=str(lists.parent)).videos("test")
    assert item == SomethingSomethingV2(root=str(root)).videos("test")[0].relabelled(3)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[{", "is not JSON"),
        ("{}", "holds no list of videos"),
        ("[]", "holds no list of videos"),
        ([entry("1", "Holding [something]"), "2"], "entry 1 is '2'"),
        ([{"id": 1, "template": "Holding [something]"}], "entry 0 is .*'id' and 'template'"),
        ([{"id": "1", "label": "holding a cup"}], "entry 0 is .*'id' and 'template'"),
        ([entry(" ", "Holding [something]")], "entry 0 is .*'id' and 'template'"),
        ([entry("7", "Holding [something] upside down")], r"video 7 has the template .*none of the 174 classes"),
        ([entry("7", "Holding [something]")] * 2, "video 7 is listed twice"),
    ],
)
def test_bad_annotations_name_the_video(root, entries, message):
    path = write(root, "train", entries)
    with pytest.raises(DataError, match=message) as error:
        SomethingSomethingV2(root=str(root)).videos("train")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("gone", ["something-something-v2-train.json", VIDEOS])
def test_what_is_missing_is_the_one_message(root, gone):
    path = root / gone
    path.rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"(?s)does not exist.*developer\.qualcomm\.com"):
        SomethingSomethingV2(root=str(root)).videos("train")


def test_the_halves_cover_the_classes():
    data = SomethingSomethingV2(train=Subset(classes="base"), test=Subset(classes="novel"))
    assert len(NAMES) == len(set(NAMES)) == 174
    assert sorted(data.train_classes.labels + data.test_classes.labels) == list(range(174))
    assert len(data.train_classes.labels) == 87


def test_videos_are_never_mirrored():
    assert SomethingSomethingV2().spec.directional
