"""Published lists in a folder made by the test; the field's own are in tests/reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists import published
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.lists.published import content_digest, known_digests
from vlbench.datasets.specs import ClassSet, DatasetSpec, Part, Subset, VideoItem
from vlbench.datasets.ucf101 import UCF101
from vlbench.errors import ConfigError, DataError

pytestmark = pytest.mark.quick

NAMES = ("walk", "run", "jump", "sit")


class Fake(VideoDataset):
    """Four classes, two splits; the official lists are `<part><split>.txt` with class folders in their ids."""

    folder = "fake"
    variants = ("fake",)

    @property
    def spec(self) -> DatasetSpec:
        return DatasetSpec("fake", NAMES, base_classes=(1, 2), splits=2, lists="hmdb", source="nowhere")

    @property
    def video_folder(self) -> Path:
        return self.root / "videos"

    def items(self, part: Part, split: int) -> list[VideoItem]:
        return read_path_label(self.root / f"{part}{split}.txt", self.video_folder)

    def video_id(self, name: str, label: int) -> str:
        return f"{NAMES[label]}/{Path(name).name}"

    def label_of(self, name: str) -> int | None:
        stated = name.split("_")[0]
        return NAMES.index(stated) if stated in NAMES else None


def lines(entries: Mapping[str, int]) -> str:
    return "".join(f"{name} {label}\n" for name, label in entries.items())


def several(kind: str, count: int, labels: Mapping[int, int]) -> dict[str, int]:
    """`count` videos of each class of the dataset, under the label that the list gives the class."""
    return {f"{NAMES[label]}_{kind}{k}.avi": listed for label, listed in labels.items() for k in range(count)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dataset with all the lists, whose halves count backwards; val2 holds three of the eight training videos."""
    everything = {0: 0, 1: 1, 2: 2, 3: 3}
    lists = {
        "hmdb_splits/train1_few_shot_2": several("train", 2, everything),
        "hmdb_splits/val1": several("test", 3, everything),
        "hmdb_splits/val2": {"run_train0.avi": 1, "run_train1.avi": 1, "sit_train0.avi": 3, "walk_other.avi": 0},
        "base2novel_splits/hmdb_splits/fs_base_s1_train": several("train", 16, {2: 0, 1: 1}),
        "base2novel_splits/hmdb_splits/base_train": several("train", 20, {2: 0, 1: 1}),
        "base2novel_splits/hmdb_splits/base_val": several("test", 3, {2: 0, 1: 1}),
        "base2novel_splits/hmdb_splits/novel_val": several("test", 3, {3: 0, 0: 1}),
    }
    for name, entries in lists.items():
        path = tmp_path / "lists" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines(entries))
    for part, count in (("train", 20), ("test", 3)):
        official = several(part, count, everything)
        (tmp_path / f"{part}1.txt").write_text(
            lines({f"{NAMES[label]}/{name}": label for name, label in official.items()})
        )
    (tmp_path / "videos").mkdir()
    return tmp_path


def fake(root: Path, train: Subset = Subset(), test: Subset = Subset()) -> Fake:  # noqa: B008 - frozen
    return Fake(root=str(root), train=train, test=test, splits_dir=str(root / "lists"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


few = Subset(shots=2)
base = Subset(classes="base", shots=16, seed=1)


def test_few_shot_videos_are_the_listed_ones(root: Path) -> None:
    data = fake(root, train=few)
    data.check("train")
    assert {(item.id, item.label) for item in data.videos("train")} == {
        (f"{name}/{name}_train{k}.avi", label) for label, name in enumerate(NAMES) for k in range(2)
    }
    assert Counter(item.label for item in data.videos("test")) == {0: 3, 1: 3, 2: 3, 3: 3}


@pytest.mark.parametrize("classes", ["base", "novel"])
def test_halves_get_the_labels_of_the_dataset(root: Path, classes: ClassSet) -> None:
    data = fake(root, train=base, test=Subset(classes=classes))
    data.check("test")
    assert Counter(item.label for item in data.videos("train")) == {0: 16, 1: 16}
    assert data.train_classes.names == ("run", "jump")
    assert data.test_classes.names == {"base": ("run", "jump"), "novel": ("walk", "sit")}[classes]
    assert all(item.id.split("/")[0] == data.train_classes.names[item.label] for item in data.videos("train"))
    assert all(item.path.name.split("_")[0] == data.test_classes.names[item.label] for item in data.videos("test"))


def test_ids_are_those_of_the_official_lists(root: Path) -> None:
    official = {item.id: item.label for item in Fake(root=str(root)).videos("test")}
    assert {item.id: item.label for item in fake(root).videos("test")} == official


def test_a_list_of_everything_is_the_published_one_or_else_the_official_one(root: Path) -> None:
    data = fake(root, train=Subset(classes="base"))
    assert len(data.videos("train")) == 40
    assert data.list_name("train").startswith("base_train (altered, ")
    data = fake(root)
    assert len(data.videos("train")) == 80
    assert data.list_name("train") == "official/split 1"


@pytest.mark.parametrize(
    ("train", "missing"),
    [
        (Subset(shots=3), "hmdb_splits/train1_few_shot_3.txt"),
        (Subset(shots=2, split=2), "hmdb_splits/train2_few_shot_2.txt"),
        (Subset(classes="base", shots=16, seed=4), "base2novel_splits/hmdb_splits/fs_base_s4_train.txt"),
        (Subset(classes="novel", shots=16, seed=1), "base2novel_splits/hmdb_splits/fs_novel_s1_train.txt"),
        (Subset(classes="base", shots=8, seed=1), None),
        (Subset(classes="base", shots=16, seed=1, split=2), None),
    ],
)
def test_subsets_without_a_list_are_refused(root: Path, train: Subset, missing: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        fake(root, train=train).videos("train")
    text = str(error.value)
    assert f"shots {train.shots}, split {train.split}, seed {train.seed}" in text
    assert (f"there is no {missing}" if missing else "no published train list") in text
    assert "hmdb_splits/train1_few_shot_2.txt" in text
    assert "leave data.splits_dir out" in text


def test_halves_of_another_split_are_not_published(root: Path) -> None:
    with pytest.raises(ConfigError, match="no published test list has classes novel"):
        fake(root, test=Subset(classes="novel", split=2)).videos("test")


def test_a_wrong_folder_and_a_dataset_without_lists_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="which is no folder"):
        Fake(root=str(root), splits_dir=str(root / "nowhere")).videos("test")

    class Other(Fake):
        @property
        def spec(self) -> DatasetSpec:
            return DatasetSpec("other", NAMES)

    with pytest.raises(ConfigError, match="has for this dataset: nothing"):
        Other(root=str(root), splits_dir=str(root / "lists")).videos("test")


# Files ---------------------------------------------------------------------------------------------------------------


def test_files_are_found_at_their_place_or_anywhere_by_name(root: Path) -> None:
    videos = root / "videos"
    for place in ("walk/walk_test0.avi", "walk_test1.mp4", "a/b/walk_test2.MKV", "copies/walk_test0.avi"):
        path = videos / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (videos / ".trash").mkdir()
    (videos / ".trash" / "sit_test0.avi").touch()
    (videos / "sit_test0.txt").touch()
    paths = {item.id: item.path for item in fake(root).videos("test")}
    assert paths["walk/walk_test0.avi"] == videos / "walk/walk_test0.avi"
    assert paths["walk/walk_test1.avi"] == videos / "walk_test1.mp4"
    assert paths["walk/walk_test2.avi"] == videos / "a/b/walk_test2.MKV"
    # Not there: it keeps its official place and counts as unreadable.
    assert paths["sit/sit_test0.avi"] == videos / "sit/sit_test0.avi"


def test_folders_may_be_links_even_to_themselves(root: Path) -> None:
    elsewhere = root / "elsewhere"
    (elsewhere / "deeper").mkdir(parents=True)
    (elsewhere / "deeper" / "walk_test0.avi").touch()
    for name in ("linked", "once more"):
        (root / "videos" / name).symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(root / "videos")
    paths = {item.id: item.path for item in fake(root).videos("test")}
    assert paths["walk/walk_test0.avi"] == root / "videos/linked/deeper/walk_test0.avi"


def test_two_files_of_one_name_are_refused(root: Path) -> None:
    for folder in ("a", "b"):
        (root / "videos" / folder).mkdir()
        (root / "videos" / folder / "walk_test0.avi").touch()
    with pytest.raises(DataError, match=r"'walk_test0' is .*a/walk_test0\.avi or .*b/walk_test0\.avi"):
        fake(root).videos("test")


def test_a_dataset_may_know_other_names_of_its_files(root: Path) -> None:
    class Suffixed(Fake):
        def video_stems(self, name: str) -> tuple[str, ...]:
            return Path(name).stem, Path(name).stem.split("_")[1]

    (root / "videos" / "test2.mp4").touch()
    (root / "videos" / "walk_test1.mp4").touch()
    items = Suffixed(root=str(root), splits_dir=str(root / "lists")).videos("test")
    assert [item.path.name for item in items[:3]] == ["walk_test0.avi", "walk_test1.mp4", "test2.mp4"]


def test_no_videos_at_all_says_what_to_do(root: Path) -> None:
    (root / "videos").rmdir()
    with pytest.raises(DataError, match="VLBENCH_DATA"):
        fake(root).videos("test")


# Contradictions ------------------------------------------------------------------------------------------------------


def test_a_label_that_contradicts_the_file_name_is_refused(root: Path) -> None:
    edit(root / "lists/hmdb_splits/val1.txt", "run_test1.avi 1", "run_test1.avi 3")
    with pytest.raises(DataError, match=r"'run_test1\.avi' is listed under 'sit', its name says 'run'"):
        fake(root).videos("test")


def test_one_video_in_two_folders_is_refused(root: Path) -> None:
    edit(root / "lists/hmdb_splits/val1.txt", "run_test1.avi 1\n", "a/run_test1.avi 1\nb/run_test1.mp4 1\n")
    with pytest.raises(DataError, match=r"'a/run_test1\.avi' and 'b/run_test1\.mp4' are one video"):
        fake(root).videos("test")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("run_test1.avi 1", "run_test1.avi 0", "contradicts"),
        ("run_test1.avi 1", "run_test9.avi 1", "contradicts"),
        ("run_", "walk_", "holds other classes than fake's base half; in one of them only: walk, run"),
        ("jump_test2.avi 0", "jump_test2.avi 2", "out of range; allowed: 0 to 1"),
    ],
)
def test_a_half_that_cannot_be_explained_is_refused(root: Path, old: str, new: str, message: str) -> None:
    edit(root / "lists/base2novel_splits/hmdb_splits/base_val.txt", old, new)
    with pytest.raises(DataError, match=message):
        fake(root, train=base).videos("train")


@pytest.mark.parametrize("part", ["train", "test"])
def test_training_videos_in_another_splits_test_list_are_refused(root: Path, part: Part) -> None:
    with pytest.raises(ConfigError, match=r"3 of the 8 training videos .* set data\.test\.split to 1"):
        fake(root, train=few, test=Subset(split=2)).check(part)
    fake(root, train=Subset(), test=Subset(split=2)).check("test")  # nothing was trained on a few of these


def test_training_videos_in_the_same_splits_test_list_are_refused(root: Path) -> None:
    edit(root / "lists/hmdb_splits/val1.txt", "run_test1.avi", "run_train1.avi")
    with pytest.raises(DataError, match=r"1 of the 8 training videos .*one of the lists is wrong"):
        fake(root, train=few).check("train")


# Names and digests ---------------------------------------------------------------------------------------------------


def test_records_name_the_list_and_whether_it_is_the_published_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "lists/hmdb_splits/val1.txt"
    digest = content_digest(read_path_label(path, root))
    known = {"vifi": {"hmdb_splits/val1.txt": digest, "hmdb_splits/val2.txt": digest}}
    monkeypatch.setattr(published, "known_digests", lambda: known)
    assert fake(root).list_name("test") == "vifi/val1 (verified)"
    path.write_bytes(b"\n" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert fake(root).list_name("test") == "vifi/val1 (verified)"
    edit(path, "run_test1.avi 1\n", "")
    assert fake(root).list_name("test").startswith("val1 (altered, ")
    assert fake(root, train=few).list_name("train").startswith("train1_few_shot_2 (unknown, ")


entries = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=4), st.integers(0, 9)), min_size=1, unique_by=lambda entry: entry[0]
)


def digest_of(listed: list[tuple[str, int]]) -> str:
    return content_digest(VideoItem(Path(name), label, name) for name, label in listed)


@given(entries)
def test_folders_and_extensions_do_not_change_a_digest(listed: list[tuple[str, int]]) -> None:
    assert digest_of([(f"val/{name}.mp4", label) for name, label in listed]) == digest_of(
        [(f"{name}.avi", label) for name, label in listed]
    )


@given(entries, entries)
def test_digests_differ_where_lists_do(a: list[tuple[str, int]], b: list[tuple[str, int]]) -> None:
    assert (digest_of(a) == digest_of(b)) == (a == b)


def test_every_known_digest_is_of_one_list() -> None:
    digests = [digest for listed in known_digests().values() for digest in listed.values()]
    assert len(digests) == len(set(digests)) == 47


# UCF-101 -------------------------------------------------------------------------------------------------------------


def test_ucf101_gives_listed_videos_their_official_ids(tmp_path: Path) -> None:
    (tmp_path / "UCF-101").mkdir()
    lists = tmp_path / "ucf_splits"
    lists.mkdir()
    (lists / "val1.txt").write_text("v_HandStandPushups_g01_c01.avi 36\nv_YoYo_g01_c02.avi 100\n")
    official = tmp_path / "ucfTrainTestlist" / "testlist01.txt"
    official.parent.mkdir()
    official.write_text("HandstandPushups/v_HandStandPushups_g01_c01.avi\nYoYo/v_YoYo_g01_c02.avi\n")
    assert (
        UCF101(root=str(tmp_path), splits_dir=str(tmp_path)).videos("test")
        == UCF101(root=str(tmp_path)).videos("test")
    )  # fmt: skip
    edit(lists / "val1.txt", "100", "99")
    with pytest.raises(DataError, match="listed under 'Writing On Board', its name says 'Yo Yo'"):
        UCF101(root=str(tmp_path), splits_dir=str(tmp_path)).videos("test")
