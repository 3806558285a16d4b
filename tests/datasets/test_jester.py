import pytest

from tests.official import jester
from vlbench.datasets.jester import GESTURES, Jester
from vlbench.errors import DataError


@pytest.fixture
def root(tmp_path):
    jester(tmp_path, made=False)
    return tmp_path


def named(data, part):
    return [(item.id, data.spec.class_names[item.label]) for item in data.videos(part)]


def test_a_video_is_the_folder_of_its_frames(root):
    data = Jester(root=str(root))
    assert named(data, "train") == [("34870", "Drumming Fingers"), ("56557", "Sliding Two Fingers Right")]
    assert named(data, "test") == [("9223", "Thumb Up"), ("107090", "Doing other things")]
    assert [item.path for item in data.videos("test")] == [
        root / "20bn-jester-v1" / name for name in ("9223", "107090")
    ]


def test_videos_count_instead_of_frames_where_there_are_some(root):
    (root / "videos").mkdir()
    (root / "videos/9223.webm").touch()
    data = Jester(root=str(root))
    assert [item.path for item in data.videos("test")] == [root / "videos/9223.webm", root / "videos/107090.mp4"]
    assert named(data, "test") == [("9223", "Thumb Up"), ("107090", "Doing other things")]


def test_videos_that_were_made_of_the_frames_are_another_dataset(root):
    official = Jester(root=str(root)).digest("test")
    (root / "videos").mkdir()
    assert Jester(root=str(root)).digest("test") != official
    assert Jester(root=str(root), stored="frames").digest("test") == official


def test_27_gestures_whose_mirror_images_are_others():
    assert len(set(GESTURES)) == 27
    assert Jester().spec.directional
    mirrored = {name.replace("Left", "Right") for name in GESTURES if "Left" in name}
    assert mirrored == {name for name in GESTURES if "Right" in name}
    assert len(mirrored) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("34870,Thumb Up\n", r"csv:1: '34870,Thumb Up'; allowed: the number of a video, a semicolon"),
        ("34870;\n", r"csv:1: '34870;'; allowed"),
        ("../1;Thumb Up\n", r"csv:1: '\.\./1;Thumb Up'; allowed"),
        ("1;Thumb Up\n2;Thumbs Up\n", r"csv:2: class 'Thumbs Up'.*did you mean 'Thumb Up'"),
        ("1;Thumb Up\n1;Thumb Up\n", r"csv:2: video 1 was listed before"),
        ("\n", "lists no videos"),
    ],
)
def test_bad_lists_name_the_line(root, content, message):
    (root / "jester-v1-train.csv").write_text(content)
    with pytest.raises(DataError, match=message) as error:
        Jester(root=str(root)).videos("train")
    assert str(root / "jester-v1-train.csv") in str(error.value)
