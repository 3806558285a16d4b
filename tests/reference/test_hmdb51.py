"""HMDB-51's names, labels and descriptions against the published files in `../shared`."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from vlbench.datasets.hmdb51 import CLASS_FOLDERS, HMDB51, LEGACY_NAMES, OFFICIAL_NAMES
from vlbench.datasets.lists.annotations import read_path_label

SHARED = Path(__file__).resolve().parents[3] / "shared"
LABELS = SHARED / "labels"
SPLITS = SHARED / "splits" / "hmdb_splits"
HALVES = SHARED / "splits" / "base2novel_splits" / "hmdb_splits"

pytestmark = pytest.mark.skipif(
    not all(folder.is_dir() for folder in (LABELS, SPLITS, HALVES)),
    reason=f"the published lists are not at {SHARED}",
)

# The longest class name that fits; search and not match, because any title stands before it.
_BY_LENGTH = "|".join(sorted(CLASS_FOLDERS, key=len, reverse=True))
_CLASS = re.compile(rf"_({_BY_LENGTH})_[fhlu]_[cn]m_np\d+_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+\.avi$")


def class_in(file_name: str) -> str:
    found = _CLASS.search(f"_{file_name}")
    assert found, file_name
    return found[1].replace("_", " ")


def published_names(file_name: str) -> tuple[str, ...]:
    with (LABELS / file_name).open(newline="") as file:
        rows = [(int(row["id"]), row["name"]) for row in csv.DictReader(file)]
    assert [label for label, _ in rows] == list(range(len(rows)))
    return tuple(name for _, name in rows)


@pytest.mark.parametrize("name", ["val1", "val2", "val3"])
def test_labels_of_the_test_lists_are_the_classes_in_the_file_names(name: str) -> None:
    items = read_path_label(SPLITS / f"{name}.txt", "videos", class_names=OFFICIAL_NAMES)
    assert [(item.id, OFFICIAL_NAMES[item.label]) for item in items] == [(item.id, class_in(item.id)) for item in items]
    assert Counter(item.label for item in items) == dict.fromkeys(range(51), 30)


@pytest.mark.parametrize("shots", [2, 4, 8, 16])
def test_few_shot_lists(shots: int) -> None:
    items = read_path_label(SPLITS / f"train1_few_shot_{shots}.txt", "videos", class_names=OFFICIAL_NAMES)
    assert Counter(item.label for item in items) == dict.fromkeys(range(51), shots)
    assert all(OFFICIAL_NAMES[item.label] == class_in(item.id) for item in items)


def test_legacy_names_equal_the_published_label_file() -> None:
    assert published_names("hmdb_51_labels.csv") == LEGACY_NAMES


def test_the_legacy_variant_names_120_videos_wrongly() -> None:
    items = read_path_label(SPLITS / "val1.txt", "videos", class_names=LEGACY_NAMES)
    wrong = Counter(LEGACY_NAMES[item.label] for item in items if LEGACY_NAMES[item.label] != class_in(item.id))
    assert wrong == {"kick": 30, "kick ball": 30, "sword": 30, "sword exercise": 30}


def test_the_halves_equal_the_published_ones() -> None:
    official, legacy = HMDB51().spec, HMDB51(variant="legacy-names").spec
    base, novel = (tuple(LEGACY_NAMES[label] for label in legacy.labels(half)) for half in ("base", "novel"))
    assert base == published_names("hmdb_51_base_labels.csv")
    assert novel == published_names("hmdb_51_novel_labels.csv")
    assert official.labels("base") == legacy.labels("base")


@pytest.mark.parametrize(
    ("name", "half", "count"),
    [
        ("base_train", "base", 70),
        ("base_val", "base", 30),
        ("fs_base_s1_train", "base", 16),
        ("fs_base_s2_train", "base", 16),
        ("fs_base_s3_train", "base", 16),
        ("novel_val", "novel", 30),
    ],
)
def test_labels_of_the_half_lists_count_inside_the_half(name: str, half: str, count: int) -> None:
    labels = HMDB51().spec.labels(half)  # type: ignore[arg-type]
    names = [OFFICIAL_NAMES[label] for label in labels]
    items = read_path_label(HALVES / f"{name}.txt", "videos", class_names=names)
    assert [(item.id, names[item.label]) for item in items] == [(item.id, class_in(item.id)) for item in items]
    assert Counter(item.label for item in items) == dict.fromkeys(range(len(labels)), count)
