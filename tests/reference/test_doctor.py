"""The doctor on the field's published lists and on real clips: every measured defect that a file can show."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.hmdb51 import HMDB51
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.specs import DatasetSpec, Part, Subset, VideoItem
from vlbench.tools.doctor import Finding, Report, check, check_folder, check_lists

SHARED = Path(__file__).resolve().parents[3] / "shared"
SPLITS, LABELS = SHARED / "splits", SHARED / "labels"
HALVES = SPLITS / "base2novel_splits"

needs_lists = pytest.mark.skipif(not SPLITS.is_dir(), reason=f"the published lists are not at {SHARED}")


pytestmark = pytest.mark.usefixtures("own_cache")


def findings(report: Report, code: str) -> dict[str, Finding]:
    return {Path(finding.where).name: finding for finding in report.findings if finding.code == code}


# -- 1: swapped names of HMDB-51 --------------------------------------------------------------------------------------


@needs_lists
def test_the_two_swapped_pairs_of_hmdb51_and_their_videos_are_reported() -> None:
    report = check_lists([SPLITS / "hmdb_splits"], LABELS / "hmdb_51_labels.csv")
    swapped = findings(report, "swapped")
    assert set(swapped) == {"labels 20 and 21", "labels 44 and 45"}
    assert "label 20 are of 'kick'," in swapped["labels 20 and 21"].text
    assert "label 44 are of 'sword'," in swapped["labels 44 and 45"].text
    mislabelled = findings(report, "mislabelled")
    for split in (1, 2, 3):
        assert len(mislabelled[f"val{split}.txt"].videos) == 120
        assert "120 of 1530 videos" in mislabelled[f"val{split}.txt"].text
    assert not findings(report, "misnamed")
    assert report.exit_code == 1


@needs_lists
def test_the_right_names_of_hmdb51_have_no_error(tmp_path: Path) -> None:
    with (LABELS / "hmdb_51_labels.csv").open(newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    for one in (20, 44):
        names[one], names[one + 1] = names[one + 1], names[one]
    labels = tmp_path / "labels.csv"
    labels.write_text("id,name\n" + "".join(f"{k},{name}\n" for k, name in enumerate(names)))
    assert check_lists([SPLITS / "hmdb_splits"], labels).exit_code == 0


@needs_lists
@pytest.mark.parametrize(("half", "pair"), [("base", "labels 19 and 20"), ("novel", "labels 20 and 21")])
def test_the_swap_is_found_in_each_half(half: str, pair: str) -> None:
    lists = sorted((HALVES / "hmdb_splits").glob(f"*{half}*.txt"))
    assert set(findings(check_lists(lists, LABELS / f"hmdb_51_{half}_labels.csv"), "swapped")) == {pair}


class PublishedHMDB51(HMDB51):
    """HMDB-51 whose three splits are tested by the published lists; the videos themselves are elsewhere."""

    def items(self, part: Part, split: int) -> list[VideoItem]:
        return read_path_label(SPLITS / "hmdb_splits" / f"val{split}.txt", self.root) if part == "test" else []


@needs_lists
def test_the_dataset_with_legacy_names_is_reported_and_with_official_names_is_not(tmp_path: Path) -> None:
    legacy, official = (
        check(PublishedHMDB51(root=str(tmp_path), variant=variant), progress=False)
        for variant in ("legacy-names", "hmdb51")
    )
    assert set(findings(legacy, "swapped")) == {"labels 20 and 21", "labels 44 and 45"}
    assert [len(finding.videos) for finding in findings(legacy, "mislabelled").values()] == [120, 120, 120]
    assert {finding.code for finding in official.findings} == {"missing"}


@needs_lists
@pytest.mark.parametrize("labels", ["ucf_101_labels", "kinetics_400_labels", "ssv2_labels"])
def test_the_other_published_lists_have_no_error(labels: str) -> None:
    folder = {"ucf": "ucf_splits", "kin": "k400_splits", "ssv": "ssv2_splits"}[labels[:3]]
    assert check_lists([SPLITS / folder], LABELS / f"{labels}.csv").exit_code == 0


# -- 2: three test sets called K600 -----------------------------------------------------------------------------------


class ZeroShotK600(VideoDataset):
    """The second split of a set that is expected to be as large as the first."""

    folder = "k600"
    variants = ("k600",)
    list_file = "ZS_split1_K600_eval.txt"

    @property
    def spec(self) -> DatasetSpec:
        return DatasetSpec("k600", tuple(str(label) for label in range(160)), counts={("test", 1): 14_084})

    def items(self, part: Part, split: int) -> list[VideoItem]:
        return read_path_label(SPLITS / "k600_splits" / self.list_file, self.root) if part == "test" else []


@needs_lists
@pytest.mark.parametrize(("split", "number"), [(1, 14_084), (2, 13_978), (3, 14_136)])
def test_a_test_set_of_another_size_is_not_taken_for_the_expected_one(split: int, number: int, tmp_path: Path) -> None:
    dataset = ZeroShotK600(str(tmp_path), None, Subset(), Subset(), None)
    dataset.list_file = f"ZS_split{split}_K600_eval.txt"
    count = findings(check(dataset, progress=False), "count")
    assert bool(count) == (split != 1)
    if count:
        assert f"{number} videos where 14084 are expected" in count["test"].text


# -- 6: few-shot lists that overlap the other test splits --------------------------------------------------------------


@needs_lists
@pytest.mark.parametrize(("dataset", "shared"), [("hmdb", {2: 233, 3: 254}), ("ucf", {2: 627, 3: 623})])
def test_few_shot_lists_overlap_the_other_splits(dataset: str, shared: dict[int, int]) -> None:
    labels = LABELS / {"hmdb": "hmdb_51_labels.csv", "ucf": "ucf_101_labels.csv"}[dataset]
    folder = SPLITS / f"{dataset}_splits"
    for split in (1, 2, 3):
        lists = [folder / "train1_few_shot_16.txt", folder / f"val{split}.txt"]
        overlap = findings(check_lists(lists, labels), "overlap")
        assert [len(finding.videos) for finding in overlap.values()] == ([] if split == 1 else [shared[split]])
        assert all("split 1 only" in finding.text for finding in overlap.values())


# -- 7: seeds that are one list ---------------------------------------------------------------------------------------


@needs_lists
def test_three_seeds_that_are_one_list_are_reported(tmp_path: Path) -> None:
    published = sorted((HALVES / "ucf_splits").glob("fs_base_s*_train.txt"))
    assert not findings(check_lists(published, LABELS / "ucf_101_base_labels.csv"), "same_list")
    for seed in (1, 2, 3):
        shutil.copyfile(published[0], tmp_path / f"fs_base_s{seed}_train.txt")
    same = findings(check_lists([tmp_path], LABELS / "ucf_101_base_labels.csv"), "same_list")
    assert set(same) == {"fs_base_s2_train.txt", "fs_base_s3_train.txt"}


# -- 9: CamelCase -----------------------------------------------------------------------------------------------------


@needs_lists
@pytest.mark.parametrize(("dataset", "camel"), [("ucf", True), ("hmdb", False)])
def test_camel_case_is_noted(dataset: str, camel: bool) -> None:
    labels = LABELS / {"ucf": "ucf_101_labels.csv", "hmdb": "hmdb_51_labels.csv"}[dataset]
    assert bool(findings(check_lists([SPLITS / f"{dataset}_splits" / "val1.txt"], labels), "wording")) == camel


# -- real clips -------------------------------------------------------------------------------------------------------


def test_real_clips(real_videos: Path) -> None:
    report = check_folder(real_videos, decode=True, workers=0, progress=False)
    assert {(finding.severity, finding.code, finding.where) for finding in report.findings} == {
        ("error", "damaged", "corrupted.mp4"),
        ("warning", "short", "unordered.mov"),
    }
    assert "28 of 50 frames" in findings(report, "damaged")["corrupted.mp4"].text
