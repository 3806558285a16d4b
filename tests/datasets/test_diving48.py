import json

import pytest

from tests.official import diving48
from vlbench.datasets.diving48 import Diving48
from vlbench.errors import DataError


@pytest.fixture
def root(tmp_path):
    diving48(tmp_path, made=False)
    return tmp_path


def test_classes_are_the_entries_of_the_vocabulary(root):
    data = Diving48(root=str(root))
    assert data.spec.class_names[:2] == ("Inward 00som NoTwis PIKE", "Back 01som NoTwis PIKE")
    assert [(item.id, item.label) for item in data.videos("train")] == [("a_00001", 47), ("b_00002", 0)]
    assert [item.path for item in data.videos("test")] == [root / "rgb/c_00003.mp4", root / "rgb/d_00004.mp4"]


def test_the_first_labels_are_lists_of_their_own(root):
    first = Diving48(root=str(root), variant="v1")
    assert [(item.id, item.label) for item in first.videos("train")] == [("a_00001", 1)]
    assert (first.label, Diving48().label) == ("diving48/v1", "diving48/v2")
    assert first.spec.counts is None


def test_videos_of_another_format_and_folder_are_found(root):
    (root / "rgb").rename(root / "videos")
    (root / "videos/c_00003.mp4").rename(root / "videos/c_00003.mkv")
    test = Diving48(root=str(root)).videos("test")
    assert [item.path for item in test] == [root / "videos/c_00003.mkv", root / "videos/d_00004.mp4"]


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
@pytest.mark.parametrize("stored", ["videos", "frames"])
def test_no_video_lies_outside_the_folder(root, name, stored):
    (root / "Diving48_V2_train.json").write_text(json.dumps([{"vid_name": name, "label": 0}]))
    with pytest.raises(DataError, match=rf"video '{name}\.mp4'; allowed: a path below .*/rgb"):
        Diving48(root=str(root), stored=stored).videos("train")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Diving48_vocab.json", "{}", "holds no list of classes"),
        ("Diving48_vocab.json", '["Back"]', "class 0 is 'Back'; allowed: a list of four strings"),
        ("Diving48_vocab.json", '[["Back", "15som", "NoTwis"]]', "class 0 is .* allowed: a list of four strings"),
        ("Diving48_V2_train.json", "[{", "is not JSON"),
        ("Diving48_V2_train.json", "[]", "holds no list of videos"),
        ("Diving48_V2_train.json", '["a"]', "entry 0 is 'a'; allowed"),
        ("Diving48_V2_train.json", '[{"vid_name": "a", "label": 48}]', "entry 0 is .* 'label' from 0 to 47"),
        ("Diving48_V2_train.json", '[{"vid_name": "a", "label": true}]', "entry 0 is .* 'label' from 0 to 47"),
        ("Diving48_V2_train.json", '[{"vid_name": "a", "label": -1}]', "entry 0 is .* 'label' from 0 to 47"),
        ("Diving48_V2_train.json", '[{"vid_name": " ", "label": 1}]', "entry 0 is .*; allowed"),
        ("Diving48_V2_train.json", '[{"vid_name": "", "label": 1}]', "entry 0 is .*; allowed"),
        ("Diving48_V2_train.json", json.dumps(2 * [{"vid_name": "a", "label": 4}]), "video 'a' is listed twice"),
    ],
)
def test_bad_lists_name_the_entry(root, file, content, message):
    (root / file).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        Diving48(root=str(root)).videos("train")
    assert str(root / file) in str(error.value)
