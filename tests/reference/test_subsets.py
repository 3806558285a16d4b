"""The field's temporal and static classes of Kinetics-400 and Something-Something V2, as `vlbench audit` reads them."""

import csv
from pathlib import Path

import pytest

from vlbench.datasets import Kinetics400, SomethingSomethingV2
from vlbench.results.audit import read_subset

SHARED = Path(__file__).resolve().parents[3] / "shared"
SUBSETS = SHARED / "subsets"

pytestmark = pytest.mark.skipif(not SUBSETS.is_dir(), reason=f"the published subsets are not at {SUBSETS}")


@pytest.mark.parametrize(
    ("dataset", "files", "counts"),
    [
        (Kinetics400, ("kinetics_400_temporal32_labels.csv", "kinetics_400_static32_labels.csv"), (32, 32)),
        (SomethingSomethingV2, ("ssv2_temporal18_labels.csv", "ssv2_static16_labels.csv"), (18, 16)),
    ],
)
def test_published_subsets_are_classes_of_the_dataset(dataset, files, counts):
    classes = dataset("videos").spec.class_names
    subsets = [read_subset(f"{name}={SUBSETS / name}", classes) for name in files]
    assert [name for name, _ in subsets] == list(files)
    assert tuple(len(names) for _, names in subsets) == counts
    assert all(set(names) <= set(classes) for _, names in subsets)
    assert not set(subsets[0][1]) & set(subsets[1][1])


@pytest.mark.parametrize(
    ("dataset", "labels", "lists", "folder"),
    [
        (Kinetics400, "kinetics_400_temporal32_labels.csv", "k400_splits_val_temporal32.txt", "."),
        (Kinetics400, "kinetics_400_static32_labels.csv", "k400_splits_val_static32.txt", "."),
        (
            SomethingSomethingV2,
            "ssv2_temporal18_labels.csv",
            "ssv2_splits_validation_temporal18.txt",
            "20bn-something-something-v2",
        ),
        (
            SomethingSomethingV2,
            "ssv2_static16_labels.csv",
            "ssv2_splits_validation_static16.txt",
            "20bn-something-something-v2",
        ),
    ],
)
def test_a_list_of_classes_makes_the_published_subset_of_the_test_videos(dataset, labels, lists, folder, tmp_path):
    """The published subsets are tested as data.class_list does: their videos are those of the classes, all of them."""
    (tmp_path / folder).mkdir(exist_ok=True)
    data = dataset(root=str(tmp_path), splits_dir=str(SHARED / "splits"), class_list=str(SUBSETS / labels))
    videos = {Path(video.id).stem: data.test_classes.names[video.label] for video in data.videos("test")}
    with (SUBSETS / labels).open(newline="") as file:
        names = {int(row["id"]): row["name"] for row in csv.DictReader(file)}
    published = {}
    for line in (SUBSETS / lists).read_text().splitlines():
        name, label = line.rsplit(maxsplit=1)
        published[Path(name).stem] = names[int(label)]
    assert videos == published
