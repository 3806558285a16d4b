import pytest

from tests.official import charades
from vlbench.datasets.charades import Charades
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError

HEADER = "id,subject,actions,length\n"


@pytest.fixture
def root(tmp_path):
    charades(tmp_path, made=False)
    return tmp_path


def test_a_video_has_every_action_once(root):
    data = Charades(root=str(root))
    assert data.spec.class_names[156] == "Doing deed 156"
    assert [(item.id, item.labels) for item in data.items("train", 1)] == [("46GP8", (92, 147)), ("N11GT", (98,))]
    test = data.videos("test")
    assert [(item.id, item.truth) for item in test] == [
        ("YSKX3", (1, 156)),
        ("EDNNV", ()),
        ("5W5B7", (1,)),
        ("GONE0", (0, 156)),
    ]
    assert [item.path.is_file() for item in test] == [True, True, True, False]
    (evaluated,) = data.sets("test")
    assert evaluated.multi_label
    assert evaluated.labels == {item.id: item.labels for item in test}


def test_lists_without_their_folder_and_other_videos_are_read_too(root):
    expected = [item.truth for item in Charades(root=str(root)).videos("test")]
    for path in (root / "Charades").iterdir():
        path.rename(root / path.name)
    (root / "Charades_v1_480").rename(root / "Charades_v1")
    (root / "Charades_v1/5W5B7.mp4").rename(root / "Charades_v1/5W5B7.mkv")
    test = Charades(root=str(root)).videos("test")
    assert [item.truth for item in test] == expected
    assert test[2].path == root / "Charades_v1/5W5B7.mkv"


def test_the_official_folder_of_lists_comes_before_lists_beside_it(root):
    (root / "Charades_v1_test.csv").write_text(HEADER + "OTHER,S,,3\n")
    assert "OTHER" not in [item.id for item in Charades(root=str(root)).videos("test")]
    (root / "Charades/Charades_v1_test.csv").unlink()
    assert [item.id for item in Charades(root=str(root)).videos("test")] == ["OTHER"]


def test_a_folder_of_frames_is_no_folder_of_videos(root):
    (root / "Charades_v1_480").rename(root / "Charades_v1_rgb")
    assert Charades(root=str(root), stored="frames").video_folder == root / "Charades_v1_rgb"
    with pytest.raises(DataError, match="Charades_v1_480 does not exist"):
        Charades(root=str(root)).videos("test")


def test_nothing_is_trained_and_no_class_is_left_out(root, tmp_path):
    data = Charades(root=str(root))
    data.check("test")
    with pytest.raises(ConfigError, match="a video of charades has several labels, and methods train on one label"):
        data.check("train")
    (tmp_path / "some.txt").write_text("Doing deed 001\n")
    for options in ({"test": Subset(classes="novel")}, {"class_list": str(tmp_path / "some.txt")}):
        with pytest.raises(ConfigError, match=r"and a video has several: .* leave data\.class_list out"):
            Charades(root=str(root), **options).videos("test")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("classes.txt", "c000 Eating\nc002 Sitting\n", r"classes\.txt:2: 'c002 Sitting'; allowed: c001 and the name"),
        ("test.csv", "id,length\na,1\n", r"test\.csv:1: the header lacks actions; its columns: id, length;"),
        ("test.csv", HEADER + "a,S,c001 1 2\n", r"test\.csv:2: 3 fields where the header has 4"),
        ("test.csv", HEADER + "a,S,c157 1 2,3\n", r"test\.csv:2: action 'c157 1 2'; allowed: c000 to c156"),
        ("test.csv", HEADER + "a,S,c001,3\n", r"test\.csv:2: action 'c001'; allowed"),
        ("test.csv", HEADER + "a,S,,3\na,S,,3\n", r"test\.csv:3: video 'a' has no name or was listed before"),
        ("test.csv", HEADER + " ,S,,3\n", r"test\.csv:2: video '' has no name"),
        ("test.csv", HEADER, "lists no videos"),
    ],
)
def test_bad_lists_name_the_line(root, file, content, message):
    path = root / "Charades" / f"Charades_v1_{file}"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        Charades(root=str(root)).videos("test")
    assert str(path) in str(error.value)
