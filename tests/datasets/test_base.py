from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeDataset
from vlbench.datasets import UCF101
from vlbench.datasets.lists.heldout import hold_out
from vlbench.datasets.specs import DatasetSpec, Subset, VideoItem
from vlbench.errors import ConfigError, DataError

pytestmark = pytest.mark.quick

CLASSES = FakeDataset.CLASSES


@pytest.fixture
def root(tmp_path):
    """Four classes of six training and three test videos, of which only the names exist."""
    for part, number in (("train", 6), ("test", 3)):
        write_lists(
            tmp_path, **{part: [(f"{part}_{c}_{k}.mp4", c) for c in range(len(CLASSES)) for k in range(number)]}
        )
    return tmp_path


def dataset(root, **options):
    return FakeDataset(root=str(root), **options)


def test_subsets(root):
    data = dataset(root, train=Subset(classes="base", shots=2), test=Subset(classes="novel"))
    assert data.train_classes.names == ("walk", "jump")
    assert data.test_classes.names == ("run", "sit")
    assert data.train_classes.labels == (0, 2)
    assert sorted(item.label for item in data.videos("train")) == [0, 0, 1, 1]
    assert {item.id.split("_")[1] for item in data.videos("train")} == {"0", "2"}
    assert {item.id.split("_")[1] for item in data.videos("test")} == {"1", "3"}


def test_more_shots_than_videos_name_the_class(root):
    with pytest.raises(DataError, match=r"walk"):
        dataset(root, train=Subset(shots=7)).videos("train")


def write_lists(folder, **parts):
    """Lists of videos that need no files: only ids and labels count."""
    for part, entries in parts.items():
        (folder / f"{part}.txt").write_text("".join(f"{name} {label}\n" for name, label in entries))


def test_a_draw_that_holds_test_videos_is_refused(tmp_path):
    train = [(f"{label}_{k}.mp4", label) for label in range(4) for k in range(2)]
    write_lists(tmp_path, train=train, test=[("3_1.mp4", 3), ("x.mp4", 0)])
    data = FakeDataset(root=str(tmp_path), train=Subset(shots=2))
    for part in ("train", "test"):
        with pytest.raises(DataError, match=r"1 of the 8 training videos of own/2-shot seed 0 .*'3_1\.mp4' is one"):
            data.check(part)


def test_a_draw_is_tested_on_its_own_split_only(tmp_path):
    class Splits(FakeDataset):
        @property
        def spec(self):
            return DatasetSpec("fake", CLASSES, splits=2)

        def items(self, part, split):
            # As in UCF101 and HMDB51: each split tests what another one trains on.
            return [
                VideoItem(self.root, label, f"{(split if part == 'test' else 3 - split)}_{label}") for label in range(4)
            ]

    same = Splits(root=str(tmp_path), train=Subset(shots=1, split=2), test=Subset(split=2))
    same.check("train")
    with pytest.raises(ConfigError, match=r"4 of the 4 .*official/split 1.* set data\.test\.split to 2"):
        Splits(root=str(tmp_path), train=Subset(shots=1, split=2), test=Subset(split=1)).check("test")


def test_another_training_subset_reads_no_list_again(root, monkeypatch):
    data = dataset(root, train=Subset(shots=2, seed=0), test=Subset(classes="novel"), heldout=0.5)
    data.videos("test")
    tested = data.sets("test")
    before = data.videos("train")
    subset = Subset(shots=4, seed=3)
    other = data.with_training(subset)
    fresh = dataset(root, train=subset, test=Subset(classes="novel"), heldout=0.5)
    calls, items = [], FakeDataset.items
    monkeypatch.setattr(FakeDataset, "items", lambda self, part, split: calls.append(part) or items(self, part, split))
    for part in ("train", "validation", "test"):
        assert other.videos(part) == fresh.videos(part)
        assert other.list_name(part) == fresh.list_name(part)
    assert other.sets("test") == fresh.sets("test") == tested
    assert other.training_list(subset, 0.5) == fresh.training_list(subset, 0.5)
    assert calls == ["train", "train", "test"]  # once in each, but for the test list that was read
    assert data.videos("train") == before


def test_lists_are_named(root):
    data = dataset(root, train=Subset(shots=2, seed=5))
    assert (data.list_name("train"), data.list_name("test")) == ("own/2-shot seed 5", "official/split 1")
    assert dataset(root).list_name("train") == "official/split 1"


def test_the_base_half_is_the_more_frequent_one_where_the_dataset_states_none(tmp_path):
    class Unstated(FakeDataset):
        @property
        def spec(self):
            return DatasetSpec("fake", CLASSES)

    train = [(f"train_{label}_{k}.mp4", label) for label, count in enumerate((2, 3, 3, 2)) for k in range(count)]
    write_lists(tmp_path, train=train, test=[(f"test_{label}.mp4", label) for label in range(4)])
    data = Unstated(root=str(tmp_path), train=Subset(classes="base", shots=2), test=Subset(classes="novel"))
    data.check("train")
    assert data.train_classes.names == ("run", "jump")
    assert data.test_classes.names == ("walk", "sit")
    assert [item.label for item in data.videos("train")] == [0, 0, 1, 1]
    assert {item.id: item.label for item in data.videos("test")} == {"test_0.mp4": 0, "test_3.mp4": 1}


def test_a_test_split_may_hold_some_of_the_classes(tmp_path):
    class Splits(FakeDataset):
        @property
        def spec(self):
            return DatasetSpec("fake", CLASSES, base_classes=(0, 2), splits=2, split_classes={2: (1, 2, 3)})

    entries = [(f"{label}.mp4", label) for label in range(4)]
    write_lists(tmp_path, train=entries, test=entries)
    second = Splits(root=str(tmp_path), test=Subset(split=2))
    assert second.test_classes.names == ("run", "jump", "sit")
    assert [(item.id, item.label) for item in second.videos("test")] == [("1.mp4", 0), ("2.mp4", 1), ("3.mp4", 2)]
    assert second.train_classes.names == CLASSES
    assert Splits(root=str(tmp_path)).test_classes.names == CLASSES
    assert Splits(root=str(tmp_path), test=Subset(split=2, classes="novel")).test_classes.names == ("run", "sit")


def test_missing_data_says_where_and_what_to_do(tmp_path):
    with pytest.raises(DataError) as error:
        UCF101(root=str(tmp_path / "nowhere")).check("train")
    text = str(error.value)
    for part in (str(tmp_path / "nowhere"), "VLBENCH_DATA", "--data.root", "crcv.ucf.edu", "data/synthetic.yaml"):
        assert part in text


def test_the_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("VLBENCH_DATA", str(tmp_path))
    assert UCF101().root == tmp_path / "ucf101"
    assert str(UCF101(root="/x").root) == "/x"


def test_validation_without_a_validation_part_is_refused(root):
    with pytest.raises(ConfigError, match=r"no validation part; `vlbench test`"):
        dataset(root).check("validation")


def test_a_split_that_does_not_exist_is_refused(root):
    with pytest.raises(ConfigError, match="1 official splits; split is 2"):
        dataset(root, test=Subset(split=2)).videos("test")


def test_ucf101_reads_the_official_layout(tmp_path):
    (tmp_path / "UCF-101").mkdir()
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist02.txt").write_text("Archery/v_Archery_g08_c01.avi 3\nYoYo/v_YoYo_g08_c02.avi 101\n")
    (lists / "testlist02.txt").write_text("BabyCrawling/v_BabyCrawling_g01_c01.avi\n")
    data = UCF101(root=str(tmp_path), train=Subset(split=2), test=Subset(split=2))
    assert [(item.label, item.id) for item in data.videos("train")] == [
        (2, "Archery/v_Archery_g08_c01.avi"),
        (100, "YoYo/v_YoYo_g08_c02.avi"),
    ]
    assert data.videos("test")[0].path == tmp_path / "UCF-101" / "BabyCrawling" / "v_BabyCrawling_g01_c01.avi"
    assert data.test_classes.names[3] == "Baby Crawling"
    assert UCF101(variant="camel").test_classes.names[3] == "BabyCrawling"
    assert data.label == "ucf101/words"


def test_held_out_videos_are_validated_on_and_not_trained_on(root):
    whole = {item.id for item in dataset(root).videos("train")}
    data = dataset(root, heldout=0.3, test=Subset(classes="novel"))
    data.check("train")
    train, held = ({item.id for item in data.videos(part)} for part in ("train", "validation"))
    assert train | held == whole
    assert not train & held
    (chosen,) = data.sets("validation")
    assert chosen.labels.keys() == held
    assert chosen.classes == data.train_classes  # the training classes, not the test subset's
    assert sorted(chosen.labels.values()) == [0, 0, 1, 1, 2, 2, 3, 3]  # 2 of 6
    assert data.list_name("train") == "official, 0.3 held out/split 1"
    assert {item.id for item in dataset(root, heldout=0.3).videos("validation")} == held
    other = dataset(root, heldout=0.3, train=Subset(seed=1))
    assert {item.id for item in other.videos("validation")} != held
    data.validate_on_test = True
    assert data.sets("validation") == data.sets("test")
    assert {item.id for item in data.videos("train")} == train


@given(share=st.floats(0.001, 0.999), count=st.integers(2, 30))
def test_a_class_keeps_videos_on_both_sides(share, count):
    items = [VideoItem(Path("x"), label, f"{label}-{k}") for label in range(2) for k in range(count)]
    kept, held = hold_out(items, share, 0, ("a", "b"))
    for label in range(2):
        number = sum(item.label == label for item in held)
        assert 1 <= number < count
        assert abs(number - share * count) <= 1
    assert sorted(kept + held) == sorted(items)


def test_a_class_of_one_video_cannot_be_held_out(root):
    with pytest.raises(DataError, match=r"class 0 \(walk\) has 1 training video"):
        dataset(root, heldout=0.5, train=Subset(shots=1)).check("train")
