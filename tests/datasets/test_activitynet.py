import json

import pytest

from tests.fakes import indices_from_pixels, write_video
from vlbench.clips.readers import TestViews, Views
from vlbench.datasets.activitynet import ActivityNet
from vlbench.errors import DataError

NAMES = ActivityNet().test_classes.names
FILE = "activity_net.v1-3.min.json"


def facts(subset, *segments):
    annotations = [{"segment": segment, "label": label} for segment, label in segments]
    return {"subset": subset, "duration": 30.0, "url": "", "resolution": "320x240", "annotations": annotations}


DATABASE = {
    "---9CpRcKoU": facts("training", ([0.01, 14.07], "Drinking beer")),
    "F_EHrfbYsRE": facts("validation", ([2, 4.5], "Running a marathon"), ([8, 31.5], "Archery")),
    "ZZVrH3Hv1fM": facts("validation", ([0, 0], "Washing hands")),
    "withheld000": facts("testing"),
}


@pytest.fixture
def root(tmp_path):
    write(tmp_path, {"version": "VERSION 1.3", "taxonomy": [], "database": DATABASE})
    (tmp_path / "videos").mkdir()
    for name in ("v_---9CpRcKoU.webm", "v_F_EHrfbYsRE.mkv"):
        (tmp_path / "videos" / name).touch()
    return tmp_path


def write(root, content):
    (root / FILE).write_text(content if isinstance(content, str) else json.dumps(content))


def test_every_segment_is_an_item(root):
    data = ActivityNet(root=str(root))
    (train,) = data.videos("train")
    assert (train.id, NAMES[train.label], train.span) == ("---9CpRcKoU/0", "Drinking beer", (0.01, 14.07))
    assert train.path == root / "videos" / "v_---9CpRcKoU.webm"
    test = data.videos("test")
    assert [(item.id, NAMES[item.label], item.span) for item in test] == [
        ("F_EHrfbYsRE/0", "Running a marathon", (2, 4.5)),
        ("F_EHrfbYsRE/1", "Archery", (8, 31.5)),
        ("ZZVrH3Hv1fM/0", "Washing hands", (0, 0)),
    ]
    assert [item.path.name for item in test] == ["v_F_EHrfbYsRE.mkv", "v_F_EHrfbYsRE.mkv", "v_ZZVrH3Hv1fM.mp4"]
    assert data.items("validation", 1) == []


def test_clips_come_from_the_segment_alone(root):
    (root / "videos" / "v_F_EHrfbYsRE.mkv").unlink()
    write_video(root / "videos" / "v_F_EHrfbYsRE.mp4", 100, fps=10)
    items = ActivityNet(root=str(root)).videos("test")
    views = TestViews(items, frames=4, sampling="uniform", views=Views(clips=2), size=32, resize=32, backend="pyav")
    assert views[0].video is not None
    assert set(indices_from_pixels(views[0].video.flatten(0, 1))) <= set(range(20, 45))
    assert views[1].video is not None
    assert set(indices_from_pixels(views[1].video.flatten(0, 1))) <= set(range(80, 100))
    assert views[2].video is None


def broken(**changes):
    return {"database": {"F_EHrfbYsRE": facts("training", ([2, 4.5], "Archery")) | changes}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not ActivityNet's annotation file"),
        ({"videos": {}}, "is not ActivityNet's annotation file: KeyError"),
        ({"database": {"a": {"subset": "training"}}}, "is not ActivityNet's annotation file: KeyError"),
        ({"database": {"a": facts("validation", ([2, 4.5], "Archery"))}}, "has no video of the training subset"),
        (broken(annotations=[{"segment": [1, 2], "label": "Flying"}]), "segment 0 of F_EHrfbYsRE .* 200 classes"),
        (broken(annotations=["Archery"]), "segment 0 of F_EHrfbYsRE is 'Archery'"),
        (broken(annotations=[{"label": "Archery"}]), "segment 0 of F_EHrfbYsRE .*two numbers"),
        (broken(annotations=[{"segment": [1], "label": "Archery"}]), "segment 0 of F_EHrfbYsRE .*two numbers"),
        (broken(annotations=[{"segment": ["a", 2], "label": "Archery"}]), "segment 0 of F_EHrfbYsRE .*two numbers"),
        (broken(annotations=[{"segment": [1, float("nan")], "label": "Archery"}]), "from 1.0 to nan"),
    ],
)
def test_bad_annotations_name_the_segment(root, content, message):
    write(root, content)
    with pytest.raises(DataError, match=message) as error:
        ActivityNet(root=str(root)).videos("train")
    assert str(root / FILE) in str(error.value)


@pytest.mark.parametrize("gone", [FILE, "videos"])
def test_what_is_missing_is_the_one_message(root, gone):
    (root / gone).rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"(?s)does not exist.*activity-net\.org"):
        ActivityNet(root=str(root)).videos("test")


def test_200_classes_in_alphabetical_order():
    assert len(set(NAMES)) == 200
    assert list(NAMES) == sorted(NAMES)
