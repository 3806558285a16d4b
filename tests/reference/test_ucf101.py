"""UCF-101's names and readers against the published files in `../shared`."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.ucf101_names import OFFICIAL_NAMES, class_of_video

SHARED = Path(__file__).resolve().parents[3] / "shared"
LABELS = SHARED / "labels" / "ucf_101_labels.csv"
SPLITS = SHARED / "splits" / "ucf_splits"

pytestmark = pytest.mark.skipif(
    not LABELS.is_file() or not SPLITS.is_dir(), reason=f"the published lists are not at {SHARED}"
)


def test_names_equal_the_published_ones() -> None:
    with LABELS.open(newline="") as file:
        published = [(int(row["id"]), row["name"]) for row in csv.DictReader(file)]
    assert published == list(enumerate(OFFICIAL_NAMES))


@pytest.mark.parametrize(("name", "count"), [("val1", 3783), ("val2", 3734), ("val3", 3696)])
def test_test_lists(name: str, count: int) -> None:
    items = read_path_label(SPLITS / f"{name}.txt", "videos", class_names=OFFICIAL_NAMES)
    assert len(items) == count
    assert {item.label for item in items} == set(range(101))


@pytest.mark.parametrize("shots", [2, 4, 8, 16])
def test_few_shot_lists(shots: int) -> None:
    items = read_path_label(SPLITS / f"train1_few_shot_{shots}.txt", "videos", class_names=OFFICIAL_NAMES)
    assert Counter(item.label for item in items) == dict.fromkeys(range(101), shots)


@pytest.mark.parametrize("name", sorted(path.stem for path in SPLITS.glob("*.txt")))
def test_labels_agree_with_the_file_names(name: str) -> None:
    items = read_path_label(SPLITS / f"{name}.txt", "videos", class_names=OFFICIAL_NAMES)
    assert [(item.id, class_of_video(item.id)) for item in items] == [
        (item.id, OFFICIAL_NAMES[item.label]) for item in items
    ]
