import pytest

from tests.official import ACTIONS, KINETICS_HEADER, kinetics700
from vlbench.datasets.kinetics import Kinetics700
from vlbench.errors import DataError


@pytest.fixture
def root(tmp_path):
    kinetics700(tmp_path, made=False)
    return tmp_path


def test_classes_are_those_of_the_list_in_alphabetical_order(root):
    data = Kinetics700(root=str(root))
    assert data.spec.class_names == ACTIONS  # listed the other way round
    assert [(item.id, item.label) for item in data.videos("train")] == [
        ("train/train000000_000005_000015", 0),
        ("train/train000699_000005_000015", 699),
    ]
    test = data.videos("test")
    assert (test[0].id, test[0].label) == ("val/clip0000000_000000_000010", 699)
    assert [item.path.is_file() for item in test] == [True] + 699 * [False]


def test_the_original_name_of_the_validation_list_is_read_too(root):
    expected = Kinetics700(root=str(root)).videos("test")
    (root / "annotations/val.csv").rename(root / "annotations/validate.csv")
    assert Kinetics700(root=str(root)).videos("test") == expected


def test_without_a_validation_list_the_training_list_names_the_classes(root):
    rows = [f"{name},clip{k:07},0,10,train\n" for k, name in enumerate(ACTIONS)]
    (root / "annotations/train.csv").write_text(KINETICS_HEADER + "".join(rows))
    (root / "annotations/val.csv").unlink()
    assert Kinetics700(root=str(root)).spec.class_names == ACTIONS


def test_a_training_video_of_another_class_is_refused(root):
    (root / "annotations/train.csv").write_text(KINETICS_HEADER + "flying,x,1,2,train\n")
    with pytest.raises(DataError, match=r"train\.csv:2: 'flying' is none of the 700 classes"):
        Kinetics700(root=str(root)).videos("train")


def test_a_list_without_a_column_of_classes_is_refused(root):
    (root / "annotations/val.csv").write_text("youtube_id,time_start,time_end\nx,1,2\n")
    with pytest.raises(
        DataError, match=r"val\.csv:1: the header lacks label; its columns: youtube_id, time_start, time_end;"
    ):
        Kinetics700(root=str(root)).videos("test")


def test_the_editions_have_names_of_their_own(root):
    labels = [Kinetics700(root=str(root), variant=variant).label for variant in Kinetics700.variants]
    assert labels == ["k700", "k700/k700-2020"]
