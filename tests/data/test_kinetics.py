import pytest

from vlbench.data.kinetics import Kinetics400
from vlbench.errors import DataError

HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture
def root(tmp_path):
    for folder in ("annotations", "train/archery", "val"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "annotations/train.csv").write_text(HEADER + "archery,aaaaaaaaaaa,5,15,train\n")
    (tmp_path / "annotations/val.csv").write_text(
        HEADER
        + "zumba,bbbbbbbbbbb,417,427,validate\nyoga,ccccccccccc,0,10,validate\nabseiling,ddddddddddd,1,11,validate\n"
    )
    (tmp_path / "train/archery/aaaaaaaaaaa_000005_000015.mp4").touch()
    (tmp_path / "val/bbbbbbbbbbb_000417_000427.mp4").touch()
    (tmp_path / "val/ccccccccccc.mkv").touch()
    return tmp_path


def test_both_layouts_with_and_without_times(root):
    data = Kinetics400(root=str(root))
    (train,) = data.videos("train")
    assert train.path == root / "train/archery/aaaaaaaaaaa_000005_000015.mp4"
    assert data.train_classes.names[train.label] == "archery"
    test = data.videos("test")
    assert [item.path.name for item in test[:2]] == ["bbbbbbbbbbb_000417_000427.mp4", "ccccccccccc.mkv"]
    assert [data.test_classes.names[item.label] for item in test] == ["zumba", "yoga", "abseiling"]


def test_a_listed_video_that_is_not_there_stays_in_the_manifest(root):
    absent = Kinetics400(root=str(root)).videos("test")[2]
    assert absent.id == "val/ddddddddddd_000001_000011"
    assert not absent.path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("youtube_id,time_start\nx,1\n", "lacks label, time_end"),
        (HEADER + "flying,x,1,2,train\n", r"train\.csv:2: 'flying' is no class"),
        (HEADER + "yoga,x,one,2,train\n", r"train\.csv:2: the times are not whole seconds"),
    ],
)
def test_bad_annotations_name_the_line(root, content, message):
    (root / "annotations/train.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        Kinetics400(root=str(root)).videos("train")


def test_missing_folders_are_the_one_message(tmp_path):
    with pytest.raises(DataError, match="cvdfoundation"):
        Kinetics400(root=str(tmp_path)).check("fit")


def test_400_classes_in_alphabetical_order():
    names = Kinetics400().test_classes.names
    assert len(set(names)) == 400
    assert list(names) == sorted(names)
