"""A dataset that is restricted to the classes of a file."""

import pytest

from tests.fakes import FakeDataset
from vlbench.bank.dataset import BankDataset
from vlbench.clips.datamodule import VideoDataModule
from vlbench.datasets.kinetics import Kinetics400
from vlbench.datasets.lists.class_names import read_class_names
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError
from vlbench.tools import doctor
from vlbench.tools.prepare import subset as copy_subset

WALK, RUN, JUMP, SIT = range(4)


class FakeDataModule(VideoDataModule):
    """Clips of the fake dataset."""

    dataset_class = FakeDataset


@pytest.fixture
def root(tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        lines = []
        for k in range(count):
            for label, name in enumerate(FakeDataset.CLASSES):
                video = f"{part}/{name}_{k}.mp4"
                (tmp_path / video).parent.mkdir(exist_ok=True)
                (tmp_path / video).write_bytes(video.encode())
                lines.append(f"{video} {label}\n")
        (tmp_path / f"{part}.txt").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def listed(tmp_path):
    """Writes a list of classes and returns its path."""

    def write(content, name="moving.txt"):
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return write


def test_both_sides_have_the_listed_classes_in_the_order_of_the_labels(root, listed):
    dataset = FakeDataset(root=str(root), class_list=listed("sit\nRun\n"))
    for classes, part in ((dataset.train_classes, "train"), (dataset.test_classes, "test")):
        assert (classes.names, classes.labels) == (("run", "sit"), (RUN, SIT))
        assert classes.all_names == FakeDataset.CLASSES
        videos = dataset.videos(part)
        assert {(video.id.split("/")[1].split("_")[0], video.label) for video in videos} == {("run", 0), ("sit", 1)}
        assert len(videos) == {"train": 8, "test": 4}[part]
    assert dataset.listed_classes.labels == (RUN, SIT)


def test_halves_are_cut_from_the_listed_classes(root, listed):
    dataset = FakeDataset(
        root=str(root),
        train=Subset(classes="base"),
        test=Subset(classes="novel"),
        class_list=listed("walk\nsit\nrun\n"),
    )
    assert (dataset.train_classes.names, dataset.test_classes.names) == (("walk",), ("run", "sit"))


def test_a_class_keeps_its_draw(root, listed):
    few = Subset(shots=2, seed=3)
    whole = {video.id for video in FakeDataset(root=str(root), train=few).videos("train")}
    some = {video.id for video in FakeDataset(root=str(root), train=few, class_list=listed("jump\n")).videos("train")}
    assert some == {video for video in whole if "jump" in video}


def test_published_lists_are_cut_too(tmp_path, listed):
    (tmp_path / "lists/k400_splits").mkdir(parents=True)
    names = Kinetics400().spec.class_names
    lines = [f"val/abcdefghij{k}_000001_000011.mp4 {label}\n" for k, label in enumerate((7, 3, 7))]
    (tmp_path / "lists/k400_splits/val.txt").write_text("".join(lines))
    dataset = Kinetics400(str(tmp_path), splits_dir=str(tmp_path / "lists"), class_list=listed(f"{names[7]}\n"))
    clips = [f"val/abcdefghij{k}_000001_000011" for k in (0, 2)]
    assert [(video.id, video.label) for video in dataset.videos("test")] == [(clip, 0) for clip in clips]
    assert dataset.list_name("test").startswith("val (altered, ")
    assert "classes of moving" in dataset.list_name("test")


def test_names_say_which_classes(root, listed):
    dataset = FakeDataset(root=str(root), class_list=listed("sit\nrun\n"))
    assert (dataset.label, FakeDataset(root=str(root)).label) == ("fake/moving", "fake")
    assert dataset.list_name("test").startswith("official, classes of moving ")
    assert dataset.list_name("test").endswith("/split 1")
    # Two files of one name are told apart by their classes, whose order and spelling do not count.
    same, other = (
        FakeDataset(root=str(root), class_list=listed(content)).list_name("test")
        for content in ("RUN\nsit\n", "run\njump\n")
    )
    assert same == dataset.list_name("test") != other


def test_the_classes_are_in_the_settings_and_their_file_is_not(root, listed):
    def settings(content, name="moving.txt"):
        module = FakeDataModule(root=str(root), image_size=32, class_list=content and listed(content, name))
        return {side: module.settings(side) for side in ("training", "test")}

    whole, some = settings(None), settings("sit\nrun\n")
    for side in ("training", "test"):
        assert {name for name in whole[side] if whole[side][name] != some[side][name]} == {"dataset"}
    assert settings("run\nsit\n", "again.txt") == some
    assert settings("run\n") != some
    # All classes by a list are not the dataset without one: its name says so, and its records do not mix with others.
    assert settings("".join(f"{name}\n" for name in FakeDataset.CLASSES)) != whole


def test_a_csv_file_names_classes_in_a_column(root, listed):
    path = listed("id,name\n0,sit\n1,walk\n", "moving.csv")
    assert FakeDataset(root=str(root), class_list=path).test_classes.names == ("walk", "sit")


def test_classes_that_differ_in_case_alone_are_told_apart(root, tmp_path):
    classes = ("Run", "run", "sit")
    (tmp_path / "some.txt").write_text("Run\nSIT\n")
    assert read_class_names(tmp_path / "some.txt", classes, "this") == ["Run", "sit"]
    (tmp_path / "some.txt").write_text("run\nRun\n")
    assert read_class_names(tmp_path / "some.txt", classes, "this") == ["run", "Run"]
    (tmp_path / "some.txt").write_text("sit\nRUN\n")
    with pytest.raises(ConfigError, match=r"some\.txt:2: RUN may be Run or run; give it in the spelling of the class"):
        read_class_names(tmp_path / "some.txt", classes, "this")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("walk\nrunn\n", r"moving\.txt:2: runn is no class of fake: did you mean run\?"),
        ("walk\nwalk\n", "names walk twice"),
        ("", "names no class"),
    ],
)
def test_other_lists_are_refused(root, listed, content, message, own_cache):
    dataset = FakeDataset(root=str(root), class_list=listed(content))
    with pytest.raises(ConfigError, match=message):
        dataset.videos("test")
    (finding,) = doctor.check(dataset, workers=0, progress=False).findings
    assert finding.severity == "error"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,label\n0,walk\n", r"moving\.csv:1: the header lacks name or class or class_name; its columns: id, label;"),
        ("name,class\nwalk,run\n", r"moving\.csv:1: the header has 2 columns where one is allowed"),
        ("id,name\n0,walk\n1\n", r"moving\.csv:3: 1 fields where the header has 2"),
        (
            "name,id\nwalk, fast,1\n",
            r"moving\.csv:2: 3 fields where the header has 2; put a field with commas in quotes",
        ),
    ],
)
def test_a_csv_file_that_may_leave_out_a_class_is_refused(root, listed, content, message):
    with pytest.raises(DataError, match=message):
        FakeDataset(root=str(root), class_list=listed(content, "moving.csv")).videos("test")


def test_a_list_that_is_not_there_is_refused(root):
    with pytest.raises(ConfigError, match=r"class_list is nowhere\.txt, which is no file"):
        FakeDataset(root=str(root), class_list="nowhere.txt")


def test_a_half_without_a_listed_class_is_refused(root, listed):
    dataset = FakeDataset(root=str(root), test=Subset(classes="novel"), class_list=listed("walk\n"))
    with pytest.raises(ConfigError, match="names none of the 2 classes of the subset with classes novel"):
        dataset.videos("test")


def test_all_classes_are_back_for_weights_of_all_classes(root, listed):
    dataset = FakeDataset(root=str(root), class_list=listed("walk\n"))
    assert len(dataset.videos("train")) == 4
    name, items = dataset.with_all_classes().training_list(Subset())
    assert (name, len(items)) == ("official/split 1", 16)
    assert len(dataset.training_list(Subset())[1]) == 4
    whole = FakeDataset(root=str(root))
    assert whole.with_all_classes() is whole


def test_a_few_videos_of_the_listed_classes_are_copied(root, listed, tmp_path):
    copy_subset(FakeDataset(root=str(root), class_list=listed("sit\nrun\n")), tmp_path / "few", videos=1)
    assert (tmp_path / "few/classes.txt").read_text() == "run\nsit\n"
    assert len((tmp_path / "few/train.csv").read_text().splitlines()) == 3


def test_every_dataset_takes_a_list(listed):
    assert BankDataset("bank", class_list=listed("walk\n")).class_list is not None


def test_classes_that_differ_in_capitals_alone_stay_apart(tmp_path):
    (tmp_path / "list.txt").write_text("sit\nRun\nrun\n")
    assert read_class_names(tmp_path / "list.txt", ("run", "Run", "Sit"), "the record") == ["Sit", "Run", "run"]
