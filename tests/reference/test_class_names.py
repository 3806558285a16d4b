"""Class names, halves and lists of Kinetics and Something-Something against the published files in `../shared`."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from vlbench.datasets import VideoDataset
from vlbench.datasets.diving48 import Diving48
from vlbench.datasets.jester import GESTURES
from vlbench.datasets.kinetics import Kinetics400, Kinetics600, Kinetics700
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.moments import MomentsInTime, words_of
from vlbench.datasets.something import SomethingSomethingV2
from vlbench.datasets.specs import ClassSet, Subset

SHARED = Path(__file__).resolve().parents[3] / "shared"
LABELS, SPLITS = SHARED / "labels", SHARED / "splits"
NAMES = SHARED / "subsets" / "class_names"

pytestmark = pytest.mark.skipif(
    not LABELS.is_dir() or not SPLITS.is_dir(), reason=f"the published lists are not at {SHARED}"
)

HALVED = [(Kinetics400, "kinetics_400"), (SomethingSomethingV2, "ssv2_174")]


def published_names(name: str) -> list[str]:
    with (LABELS / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(len(rows)))
    return [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("dataset", "published"),
    [
        (Kinetics400, "kinetics_400_labels"),
        (Kinetics600, "kinetics_600_labels"),
        (SomethingSomethingV2, "ssv2_labels"),
    ],
)
def test_names_equal_the_published_ones(dataset: type[VideoDataset], published: str) -> None:
    assert list(dataset().spec.class_names) == published_names(published)


@pytest.mark.parametrize(("dataset", "published"), HALVED)
@pytest.mark.parametrize("half", ["base", "novel"])
def test_halves_hold_the_published_classes(dataset: type[VideoDataset], published: str, half: ClassSet) -> None:
    names = dataset(test=Subset(classes=half)).test_classes.names
    assert sorted(names) == sorted(published_names(f"{published}_{half}_labels"))


@pytest.mark.parametrize("variant", ["vifi", "mote", "open-vclip"])
@pytest.mark.parametrize("split", [1, 2, 3])
def test_zero_shot_classes_equal_the_published_ones(variant: str, split: int) -> None:
    data = Kinetics600(variant=variant, test=Subset(split=split))
    assert list(data.test_classes.names) == published_names(f"ZS_split{split}_K600")


@pytest.mark.skipif(not NAMES.is_dir(), reason=f"the class lists of other datasets are not at {NAMES}")
def test_names_of_other_datasets_equal_those_of_an_independent_list() -> None:
    assert list(GESTURES) == (NAMES / "jester_label_map.txt").read_text().splitlines()
    actions = (NAMES / "kinetics_label_map_k700.txt").read_text().splitlines()
    assert (len(actions), actions) == (
        Kinetics700().facts.class_count,
        sorted(set(actions)),
    )  # the order of Kinetics700
    events = {words_of(name) for name in (NAMES / "mit_label_map.txt").read_text().splitlines()}
    assert len(events) == MomentsInTime(variant="mit-339").facts.class_count
    dives = set((NAMES / "diving48_label_map.txt").read_text().splitlines())
    assert {name.count("+") for name in dives} == {3}
    assert len(dives) == Diving48().facts.class_count


# ---- lists: every line is read, under the class it was published under ----


def empty_root(tmp_path: Path, dataset: type[VideoDataset]) -> str:
    dataset(root=str(tmp_path)).video_folder.mkdir(parents=True, exist_ok=True)
    return str(tmp_path)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_zero_shot_lists(tmp_path: Path, split: int) -> None:
    data = Kinetics600(
        root=empty_root(tmp_path, Kinetics600), variant="vifi", test=Subset(split=split), splits_dir=str(SPLITS)
    )
    items = data.videos("test")
    listed = read_path_label(SPLITS / "k600_splits" / f"ZS_split{split}_K600_eval.txt", "videos")
    assert [(f"{item.id}.mp4", item.label) for item in items] == [(item.id, item.label) for item in listed]
    assert data.spec.counts is not None
    assert len(items) == data.spec.counts["test", split]
    assert {item.label for item in items} == set(range(160))


def test_a_zero_shot_list_below_the_root_reads_like_one_among_the_published(tmp_path: Path) -> None:
    folder = tmp_path / "zero_shot" / "vifi"
    folder.mkdir(parents=True)
    folder.joinpath("split2.txt").write_bytes((SPLITS / "k600_splits" / "ZS_split2_K600_eval.txt").read_bytes())
    below, among = (
        Kinetics600(root=str(tmp_path), variant="vifi", test=Subset(split=2), splits_dir=lists)
        for lists in (None, str(SPLITS))
    )
    assert below.videos("test") == among.videos("test")


@pytest.mark.parametrize(("dataset", "count"), [(Kinetics400, 19_877), (SomethingSomethingV2, 24_777)])
def test_test_lists(tmp_path: Path, dataset: type[VideoDataset], count: int) -> None:
    data = dataset(root=empty_root(tmp_path, dataset), splits_dir=str(SPLITS))
    items = data.videos("test")
    assert len(items) == len({item.id for item in items}) == count
    assert {item.label for item in items} == set(range(len(data.spec.class_names)))
    assert data.spec.counts is None or data.spec.counts["test", 1] == count


@pytest.mark.parametrize(
    ("dataset", "base", "novel"), [(Kinetics400, 9_944, 9_933), (SomethingSomethingV2, 17_562, 7_215)]
)
def test_halves_of_the_test_list_keep_their_classes(
    tmp_path: Path, dataset: type[VideoDataset], base: int, novel: int
) -> None:
    def words(classes: ClassSet) -> dict[str, str]:
        data = dataset(root=empty_root(tmp_path, dataset), test=Subset(classes=classes), splits_dir=str(SPLITS))
        return {item.id: data.test_classes.names[item.label] for item in data.videos("test")}

    halves = words("base"), words("novel")
    assert (len(halves[0]), len(halves[1])) == (base, novel)
    assert halves[0] | halves[1] == words("all")


@pytest.mark.parametrize("shots", [2, 4, 8, 16])
def test_few_shot_lists(tmp_path: Path, shots: int) -> None:
    root = empty_root(tmp_path, SomethingSomethingV2)
    data = SomethingSomethingV2(root=root, train=Subset(shots=shots), splits_dir=str(SPLITS))
    assert Counter(item.label for item in data.videos("train")) == dict.fromkeys(range(174), shots)


@pytest.mark.parametrize("dataset", [Kinetics400, SomethingSomethingV2])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_base_training_lists(tmp_path: Path, dataset: type[VideoDataset], seed: int) -> None:
    base = Subset(classes="base", shots=16, seed=seed)
    data = dataset(root=empty_root(tmp_path, dataset), train=base, splits_dir=str(SPLITS))
    counted = Counter(item.label for item in data.videos("train"))
    assert counted == dict.fromkeys(range(len(data.spec.base_classes)), 16)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [(Kinetics400, "k400_splits/train_tiny"), (SomethingSomethingV2, "base2novel_splits/ssv2_splits/base_train")],
)
def test_other_lists_read_and_name_videos_like_the_official_ones(dataset: type[VideoDataset], name: str) -> None:
    data = dataset()
    items = read_path_label(SPLITS / f"{name}.txt", "videos", class_names=data.spec.class_names)
    clips = [data.video_stems(item.id)[0] for item in items]
    assert [data.video_id(item.id, item.label).removeprefix("train/") for item in items] == clips
    assert len(set(clips)) == len(items)
