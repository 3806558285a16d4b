"""Videos that are trained on are not tested."""

import os
import time
from pathlib import Path

import pytest

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.folder import FolderVideos
from vlbench.datasets.specs import DatasetSpec, Subset, VideoItem
from vlbench.errors import ConfigError, DataError

pytestmark = pytest.mark.quick


class Splits(VideoDataset):
    """Four classes of three videos, as in UCF101 and HMDB51: each of two splits tests what the other one trains on."""

    folder = "fake"
    variants = ("fake",)
    leaking = False

    @property
    def spec(self):
        return DatasetSpec("fake", ("walk", "run", "jump", "sit"), base_classes=(0, 2), splits=2)

    def items(self, part, split):
        group = split if part == "test" or self.leaking else 3 - split
        return [VideoItem(self.root, label, f"{group}_{label}_{k}") for label in range(4) for k in range(3)]


class Leaking(Splits):
    leaking = True


@pytest.mark.parametrize("train", [Subset(), Subset(shots=2), Subset(classes="base")])
def test_all_training_videos_are_compared_with_the_test_videos(train):
    Splits(train=train).check("train")
    with pytest.raises(DataError, match=r"of the \d+ training videos of .* are test videos of official/split 1"):
        Leaking(train=train).check("train")
    with pytest.raises(DataError, match="one of the lists is wrong"):
        Leaking(train=train).check_disjoint()


@pytest.mark.parametrize("test", [Subset(split=2), [Subset(), Subset(split=2)]])
def test_crossed_official_splits_are_refused(test):
    with pytest.raises(
        ConfigError, match=r"12 of the 12 training videos .*official/split 2.* set data\.test\.split to 1"
    ):
        Splits(test=test).check("train")


def test_what_is_held_out_is_not_tested_either():
    Splits(heldout=0.3).check("train")
    with pytest.raises(DataError, match="12 of the 12 training videos"):
        Leaking(heldout=0.3).check("train")


def test_base_and_novel_classes_share_no_video():
    Leaking(train=Subset(classes="base"), test=Subset(classes="novel")).check("train")
    with pytest.raises(DataError, match="6 of the 6 training videos"):
        Leaking(train=Subset(classes="base"), test=[Subset(classes="novel"), Subset(classes="base")]).check("train")


def test_a_test_of_another_split_is_no_training():
    """Weights that were trained on nothing may be tested on any split."""
    Splits(test=Subset(split=2)).check("test")


def test_a_training_needs_no_test_videos():
    class Elsewhere(Splits):
        def items(self, part, split):
            if part == "test":
                raise self.missing(Path("test"))
            return super().items(part, split)

    Elsewhere().check("train")


def folder(root, **parts):
    for part, names in parts.items():
        for name in names:
            path = root / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return FolderVideos(root=str(root))


@pytest.mark.parametrize("how", ["symlinked folder", "symlink", "hard link"])
def test_files_of_a_folder_are_compared_and_not_their_names(tmp_path, how):
    data = folder(tmp_path, train=["cut/a.mp4", "stir/b.mp4"], test=[] if how == "symlinked folder" else ["cut/x.mp4"])
    if how == "symlinked folder":
        (tmp_path / "test").symlink_to(tmp_path / "train")
    else:
        copy = tmp_path / "test" / "stir" / "y.mp4"
        copy.parent.mkdir(parents=True)
        (os.symlink if how == "symlink" else os.link)(tmp_path / "train" / "stir" / "b.mp4", copy)
    with pytest.raises(DataError, match=r"training videos of official/split 1 are test videos"):
        data.check("train")


def test_folders_of_different_files_pass(tmp_path):
    folder(tmp_path, train=["cut/a.mp4", "stir/b.mp4"], test=["cut/a.mp4", "stir/b.mp4"]).check("train")


def test_one_list_for_both_parts_is_refused(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text("path,class\na.mp4,cut\nb.mp4,stir\n")
    with pytest.raises(DataError, match="2 of the 2 training videos"):
        FolderVideos(root=str(tmp_path)).check("train")


def test_a_quarter_of_a_million_videos_are_compared_in_a_moment():
    class Large(Splits):
        def items(self, part, split):
            count = 240_000 if part == "train" else 20_000
            return [VideoItem(self.root, k % 4, f"{part}/{k}") for k in range(count)]

    data = Large()
    data.videos("train"), data.videos("test")
    before = time.process_time()
    data.check_disjoint()
    assert time.process_time() - before < 2
