"""The field's published lists in `../shared/splits`, read through the datasets they belong to."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from vlbench.datasets import VideoDataset
from vlbench.datasets.hmdb51 import HMDB51
from vlbench.datasets.kinetics import Kinetics400, Kinetics600
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.lists.published import content_digest, known_digests
from vlbench.datasets.something import SomethingSomethingV2
from vlbench.datasets.specs import ClassSet, Part, Subset
from vlbench.datasets.ucf101 import UCF101
from vlbench.errors import ConfigError

SHARED = Path(__file__).resolve().parents[3] / "shared"
SPLITS = SHARED / "splits"

pytestmark = pytest.mark.skipif(not SPLITS.is_dir(), reason=f"the published lists are not at {SHARED}")

FILES = sorted(path.relative_to(SPLITS).as_posix() for path in SPLITS.rglob("*.txt"))
HALVES = {HMDB51: "hmdb_51", UCF101: "ucf_101", Kinetics400: "kinetics_400", SomethingSomethingV2: "ssv2_174"}


def dataset(
    kind: type[VideoDataset],
    root: Path,
    train: Subset = Subset(),  # noqa: B008 - frozen
    test: Subset = Subset(),  # noqa: B008 - frozen
    splits: Path = SPLITS,
    variant: str | None = None,
) -> VideoDataset:
    """A dataset without videos and without official lists; K600 in the variant that the lists belong to."""
    variant = variant or ("vifi" if kind is Kinetics600 else None)
    data = kind(root=str(root), variant=variant, train=train, test=test, splits_dir=str(splits))
    data.video_folder.mkdir(exist_ok=True)
    return data


def test_every_list_is_known() -> None:
    assert sorted(known_digests()["vifi"]) == FILES


@pytest.mark.parametrize("name", FILES)
def test_every_list_is_verified(name: str) -> None:
    assert content_digest(read_path_label(SPLITS / name, SPLITS)) == known_digests()["vifi"][name]


@pytest.mark.parametrize(
    ("kind", "split", "count"),
    [
        (HMDB51, 1, 1530), (HMDB51, 2, 1530), (HMDB51, 3, 1530),
        (UCF101, 1, 3783), (UCF101, 2, 3734), (UCF101, 3, 3696),
        (SomethingSomethingV2, 1, 24_777), (Kinetics400, 1, 19_877),
        (Kinetics600, 1, 14_084), (Kinetics600, 2, 13_978), (Kinetics600, 3, 14_136),
    ],
)  # fmt: skip
def test_test_lists(tmp_path: Path, kind: type[VideoDataset], split: int, count: int) -> None:
    data = dataset(kind, tmp_path, test=Subset(split=split))
    data.videos("test")
    assert len(data.videos("test")) == count
    assert {item.label for item in data.videos("test")} == set(range(len(data.test_classes.names)))
    assert data.list_name("test").startswith("vifi/")
    assert data.list_name("test").endswith(" (verified)")


@pytest.mark.parametrize("shots", [2, 4, 8, 16])
@pytest.mark.parametrize("kind", [HMDB51, UCF101, SomethingSomethingV2])
def test_few_shot_lists(tmp_path: Path, kind: type[VideoDataset], shots: int) -> None:
    data = dataset(kind, tmp_path, train=Subset(shots=shots))
    data.videos("train")
    assert Counter(item.label for item in data.videos("train")) == dict.fromkeys(
        range(len(data.spec.class_names)), shots
    )
    assert data.list_name("train") == f"vifi/train1_few_shot_{shots} (verified)"


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", HALVES)
def test_base_training_lists(tmp_path: Path, kind: type[VideoDataset], seed: int) -> None:
    data = dataset(kind, tmp_path, Subset(classes="base", shots=16, seed=seed), Subset(classes="base"))
    data.videos("train")
    assert Counter(item.label for item in data.videos("train")) == dict.fromkeys(range(len(data.spec.base_classes)), 16)
    assert data.list_name("train") == f"vifi/fs_base_s{seed}_train (verified)"


@pytest.mark.parametrize(
    ("kind", "classes", "num_classes", "count"),
    [
        (HMDB51, "base", 26, 780), (HMDB51, "novel", 25, 750),
        (UCF101, "base", 51, 2088), (UCF101, "novel", 50, 1695),
        (Kinetics400, "base", 200, 9944), (Kinetics400, "novel", 200, 9933),
        (SomethingSomethingV2, "base", 87, 17_562), (SomethingSomethingV2, "novel", 87, 7215),
    ],
)  # fmt: skip
def test_half_test_lists(
    tmp_path: Path, kind: type[VideoDataset], classes: ClassSet, num_classes: int, count: int
) -> None:
    """Each video of a half has the class that the published label file gives the number in the list.

    HMDB-51's label files of the halves swap the names of two pairs, as its label file of all classes does.
    """
    variant = "legacy-names" if kind is HMDB51 else None
    data = dataset(kind, tmp_path, test=Subset(classes=classes), variant=variant)
    assert len(data.test_classes.names) == num_classes
    with (SHARED / "labels" / f"{HALVES[kind]}_{classes}_labels.csv").open(newline="", encoding="utf-8-sig") as file:
        published = [row["name"].replace(" ", "").lower() for row in csv.DictReader(file)]
    group = f"base2novel_splits/{data.spec.lists}_splits"
    listed = {Path(item.id).stem: item.label for item in read_path_label(SPLITS / group / f"{classes}_val.txt", ".")}
    videos = data.videos("test")
    assert len(videos) == len(listed) == count
    names = [name.replace(" ", "").lower() for name in data.test_classes.names]
    assert {item.path.stem: names[item.label] for item in videos} == {
        stem: published[label] for stem, label in listed.items()
    }
    whole = {item.id: item.label for item in dataset(kind, tmp_path).videos("test")}
    assert all(whole[item.id] == data.test_classes.labels[item.label] for item in videos)


@pytest.mark.parametrize(
    ("kind", "shots", "split", "shared"),
    [
        (HMDB51, 16, 2, 233), (HMDB51, 16, 3, 254), (HMDB51, 2, 2, 36), (HMDB51, 2, 3, 35),
        (UCF101, 16, 2, 627), (UCF101, 16, 3, 623), (UCF101, 2, 2, 84), (UCF101, 2, 3, 76),
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", ["train", "test"])
def test_few_shot_lists_are_not_tested_on_other_splits(
    tmp_path: Path, kind: type[VideoDataset], shots: int, split: int, shared: int, part: Part
) -> None:
    data = dataset(kind, tmp_path, Subset(shots=shots), Subset(split=split))
    with pytest.raises(ConfigError, match=rf"{shared} of the \d+ training videos .*train1_few_shot_{shots} \(verified"):
        data.check(part)


def test_few_shot_lists_are_separate_draws(tmp_path: Path) -> None:
    """Unlike own draws they are not nested: of the 102 two-shot videos of HMDB-51, 7 are in the four-shot list."""
    two, four = (
        {item.id for item in dataset(HMDB51, tmp_path, Subset(shots=shots)).videos("train")} for shots in (2, 4)
    )
    assert len(two & four) == 7


def test_an_altered_copy_is_named_as_such(tmp_path: Path) -> None:
    copy = tmp_path / "lists"
    shutil.copytree(SPLITS / "ucf_splits", copy / "ucf_splits")
    path = copy / "ucf_splits" / "val1.txt"
    path.write_text("".join(f"videos/{line}\r\n" for line in path.read_text().splitlines()))
    assert dataset(UCF101, tmp_path, splits=copy).list_name("test") == "vifi/val1 (verified)"
    path.write_text(path.read_text().rsplit("videos/", 1)[0])
    altered = dataset(UCF101, tmp_path, splits=copy)
    assert len(altered.videos("test")) == 3782
    assert altered.list_name("test").startswith("val1 (altered, ")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shots 3, .*ucf_splits/train1_few_shot_16\.txt, .*leave data\.splits_dir"):
        dataset(UCF101, tmp_path, Subset(shots=3)).videos("train")


def test_missing_videos_keep_their_official_place(tmp_path: Path) -> None:
    data = dataset(Kinetics400, tmp_path)
    clip = tmp_path / "val" / "tying_bow_tie" / "0wR5jVB-WPk.mp4"
    clip.parent.mkdir(parents=True)
    clip.touch()
    paths = {item.id: item.path for item in data.videos("test")}
    assert paths["val/0wR5jVB-WPk_000417_000427"] == clip
    assert paths["val/3caPS4FHFF8_000036_000046"] == tmp_path / "val" / "3caPS4FHFF8_000036_000046.mp4"
