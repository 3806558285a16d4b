from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes import indices_from_pixels, write_video
from vlbench.clips.datamodules import HMDB51DataModule
from vlbench.datasets.descriptions import SHIPPED, Descriptions, read_descriptions
from vlbench.datasets.hmdb51 import CLASS_FOLDERS, HMDB51, LEGACY_NAMES, OFFICIAL_NAMES, read_hmdb_split
from vlbench.datasets.specs import Subset, VideoItem
from vlbench.errors import ConfigError, DataError

ROOT = Path("videos")


def video(name: str, number: int) -> str:
    return f"Some_title_{name}_f_cm_np1_fr_med_{number}.avi"


def uses(split: int) -> list[int]:
    """What the 101 videos of a class are for: 70 train and 30 test, others in each split, one unused."""
    ordered = [1] * 70 + [2] * 30 + [0]
    return ordered[-10 * split :] + ordered[: -10 * split]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The official layout without the videos: readers do not look for them."""
    (tmp_path / "hmdb51_org").mkdir()
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name, split in itertools.product(CLASS_FOLDERS, (1, 2, 3)):
        # the official lines end with a space
        lines = [f"{video(name, number)} {use} \n" for number, use in enumerate(uses(split))]
        (lists / f"{name}_test_split{split}.txt").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def lists(root: Path) -> Path:
    return root / "testTrainMulti_7030_splits"


# ---- names ----


def test_labels_are_places_in_alphabetical_order() -> None:
    assert len(set(CLASS_FOLDERS)) == 51
    assert sorted(CLASS_FOLDERS) == list(CLASS_FOLDERS)
    assert {label: OFFICIAL_NAMES[label] for label in (0, 20, 21, 44, 45, 50)} == {
        0: "brush hair",
        20: "kick",
        21: "kick ball",
        44: "sword",
        45: "sword exercise",
        50: "wave",
    }


def test_the_legacy_variant_swaps_two_pairs_of_names_and_nothing_else() -> None:
    official, legacy = HMDB51(), HMDB51(variant="legacy-names")
    assert (official.label, legacy.label) == ("hmdb51", "hmdb51/legacy-names")
    assert official.test_classes.names == OFFICIAL_NAMES
    assert legacy.test_classes.names == LEGACY_NAMES
    assert {label: name for label, name in enumerate(LEGACY_NAMES) if name != OFFICIAL_NAMES[label]} == {
        20: "kick ball",
        21: "kick",
        44: "sword exercise",
        45: "sword",
    }
    assert legacy.spec.base_classes == official.spec.base_classes


def test_descriptions_go_with_the_names() -> None:
    texts = []
    for variant in HMDB51.variants:
        spec = HMDB51(variant=variant).spec
        assert spec.descriptions is not None
        texts.append(dict(zip(spec.class_names, spec.descriptions.read().spatial, strict=True)))
    assert texts[0] == texts[1]


# ---- lists ----


@pytest.mark.parametrize("split", [1, 2, 3])
def test_every_split_has_70_training_and_30_test_videos_a_class(root: Path, split: int) -> None:
    data = HMDB51(root=str(root), train=Subset(split=split), test=Subset(split=split))
    train, test = data.videos("train"), data.videos("test")
    assert Counter(item.label for item in train) == dict.fromkeys(range(51), 70)
    assert Counter(item.label for item in test) == dict.fromkeys(range(51), 30)
    assert data.spec.counts is not None
    assert (data.spec.counts["train", split], data.spec.counts["test", split]) == (len(train), len(test))
    assert not {item.id for item in train} & {item.id for item in test}


def test_items_are_the_lines_of_the_class_files_in_their_order(root: Path) -> None:
    test = HMDB51(root=str(root), test=Subset(split=2)).videos("test")
    chosen = [number for number, use in enumerate(uses(2)) if use == 2]
    assert test[30 * 21 : 30 * 22] == [
        VideoItem(root / "hmdb51_org/kick_ball" / name, 21, f"kick_ball/{name}")
        for name in (video("kick_ball", number) for number in chosen)
    ]


def test_the_variants_have_the_same_labelled_videos(root: Path) -> None:
    official, legacy = (HMDB51(root=str(root), variant=variant).videos("test") for variant in HMDB51.variants)
    assert official == legacy


def test_videos_may_lie_in_the_other_folder(root: Path) -> None:
    (root / "hmdb51_org").rename(root / "videos")
    item = HMDB51(root=str(root)).videos("train")[0]
    assert item.path.parent == root / "videos/brush_hair"
    assert item.id.startswith("brush_hair/")


def test_the_base_half(root: Path) -> None:
    data = HMDB51(root=str(root), train=Subset(classes="base", shots=16), test=Subset(classes="novel"))
    assert (len(data.train_classes.names), len(data.test_classes.names)) == (26, 25)
    assert (data.train_classes.names[0], data.test_classes.names[-1]) == ("pour", "pick")
    assert Counter(item.label for item in data.videos("train")) == dict.fromkeys(range(26), 16)
    assert len(data.videos("test")) == 750


def test_file_names_with_odd_characters_are_read(root: Path) -> None:
    odd = "#1_(best)_of_[all]!!!_&_more+~;)@_pour_u_cm_np1_fr_med_0.avi"
    annotations = root / "testTrainMulti_7030_splits/pour_test_split1.txt"
    annotations.write_text(annotations.read_text().replace(video("pour", 0), odd))
    (root / "hmdb51_org/pour").mkdir()
    write_video(root / "hmdb51_org/pour" / odd, 12, codec="mpeg4")
    data = HMDB51DataModule(root=str(root), frames=3, image_size=32, num_workers=0)
    clips = data.test_dataloader().dataset
    read, absent = clips[30 * 25], clips[30 * 25 + 1]
    assert read.video is not None
    assert indices_from_pixels(read.video[0]) == [0, 4, 8]
    assert (read.id, read.label) == (f"pour/{odd}", 25)
    assert (absent.video, absent.label) == (None, 25)


@pytest.mark.parametrize("absent", ["hmdb51_org", "testTrainMulti_7030_splits"])
def test_missing_folders_are_the_one_message(root: Path, absent: str) -> None:
    (root / absent).rename(root / "elsewhere")
    with pytest.raises(DataError, match=rf"{absent} does not exist(.|\n)*hmdb51_org\.rar, test_train_splits\.rar"):
        HMDB51(root=str(root)).videos("train")


def test_there_is_no_validation_part_and_no_fourth_split(root: Path) -> None:
    with pytest.raises(ConfigError, match="no validation part"):
        HMDB51(root=str(root)).check("validation")
    with pytest.raises(ConfigError, match="3 official splits; split is 4"):
        HMDB51(root=str(root), test=Subset(split=4)).videos("test")


def test_a_missing_class_file_is_named(lists: Path) -> None:
    (lists / "kick_test_split1.txt").unlink()
    with pytest.raises(DataError, match=r"cannot read the list .*kick_test_split1\.txt: No such file"):
        read_hmdb_split(lists, ROOT, "test", 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x.avi", r":3: 'x.avi' has one field"),
        ("x.avi 3", r":3: label 3 is out of range; allowed: 0 to 2"),
        ("x.avi -1", r":3: label -1 is out of range; allowed: 0 to 2"),
        ("x.avi train", r":3: label 'train' is not an integer"),
        (f"{video('hit', 0)} 1", r":3: '.*_0\.avi' was listed before, at .*hit_test_split1\.txt:1"),
        ("../x.avi 1", r":3: path '../x.avi'"),
        ("hit/x.avi 0", r": 'hit/x.avi' has a folder; allowed: the name of a video in hit/"),
        (f"{video('hug', 0)} 0", r": 'Some_title_hug_.*' is a video of another class than hit"),
        (f"{video('white', 0)} 0", r": 'Some_title_white_.*' is a video of another class than hit"),
    ],
)
def test_a_doubtful_line_is_refused(lists: Path, line: str, expected: str) -> None:
    path = lists / "hit_test_split1.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], f"{line}\n", *lines[2:]]))
    with pytest.raises(DataError, match=re.escape(str(path)) + expected):
        read_hmdb_split(lists, ROOT, "train", 1)


def test_kick_and_kick_ball_are_told_apart_by_the_names_of_the_videos(lists: Path) -> None:
    kick, kick_ball = (lists / f"{name}_test_split1.txt" for name in ("kick", "kick_ball"))
    texts = kick.read_text(), kick_ball.read_text()
    kick.write_text(texts[1])
    with pytest.raises(DataError, match="another class than kick;"):
        read_hmdb_split(lists, ROOT, "test", 1)
    kick.write_text(texts[0])
    kick_ball.write_text(texts[0])
    with pytest.raises(DataError, match="another class than kick_ball;"):
        read_hmdb_split(lists, ROOT, "test", 1)


def test_a_title_may_end_in_the_name_of_another_class(lists: Path) -> None:
    path = lists / "run_test_split1.txt"
    odd = "Walk_(part_2)!!_run_walk_run_u_nm_np10_le_bad_7.avi"
    path.write_text(path.read_text().replace(video("run", 50), odd))
    items = read_hmdb_split(lists, ROOT, "train", 1)
    assert VideoItem(ROOT / "run" / odd, 32, f"run/{odd}") in items


@pytest.mark.parametrize(("use", "message"), [(1, "lists 69 train videos; allowed: 70"), (2, "29 test .* allowed: 30")])
def test_a_class_with_too_few_videos_is_refused(lists: Path, use: int, message: str) -> None:
    path = lists / "wave_test_split3.txt"
    lines = path.read_text().splitlines(keepends=True)
    del lines[uses(3).index(use)]
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=rf"wave_test_split3\.txt .*{message}"):
        read_hmdb_split(lists, ROOT, "test", 3)
    assert len(read_hmdb_split(lists, ROOT, "test", 2)) == 1530


# ---- descriptions ----


@pytest.fixture(scope="module")
def described() -> Descriptions:
    return read_descriptions(SHIPPED / "hmdb51", OFFICIAL_NAMES)


def names_class(sentences: tuple[str, ...], name: str) -> bool:
    """Whether a word of the sentences begins like each word of the class name ("smoker" like "smoke")."""
    text = " ".join(sentences).lower().replace("-", "")
    return all(re.search(rf"\b{word.removesuffix('e')}", text) for word in name.split())


def test_there_are_two_sentences_of_each_kind_and_none_twice(described: Descriptions) -> None:
    sentences = [sentence for part in (described.spatial, described.temporal) for pair in part for sentence in pair]
    assert len(sentences) == len(set(sentences)) == 204
    # at most 18 words: comfortably within CLIP's 77 tokens
    assert all(8 <= len(sentence.split()) <= 18 for sentence in sentences)
    assert all(sentence[0].isupper() and sentence.endswith(".") and sentence.isascii() for sentence in sentences)


@pytest.mark.parametrize(("label", "name"), list(enumerate(OFFICIAL_NAMES)))
def test_spatial_sentences_name_their_class(described: Descriptions, label: int, name: str) -> None:
    assert names_class(described.spatial[label], name)


def test_any_two_classes_swapped_would_be_noticed(described: Descriptions) -> None:
    unnoticed = [
        (OFFICIAL_NAMES[one], OFFICIAL_NAMES[other])
        for one, other in itertools.combinations(range(len(OFFICIAL_NAMES)), 2)
        if names_class(described.spatial[one], OFFICIAL_NAMES[other])
        and names_class(described.spatial[other], OFFICIAL_NAMES[one])
    ]
    assert unnoticed == []
