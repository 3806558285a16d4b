"""Videos that are kept as frames: a listed video has its own frames, or none, whatever the dataset's layout is."""

import shutil
from pathlib import Path

import pytest

from tests.fakes import FakeDataset, pack
from tests.official import breakfast, charades, diving48, jester, kinetics700, moments
from vlbench.datasets.breakfast import Breakfast
from vlbench.datasets.charades import Charades
from vlbench.datasets.diving48 import Diving48
from vlbench.datasets.folder import FolderVideos
from vlbench.datasets.jester import Jester
from vlbench.datasets.kinetics import Kinetics400, Kinetics700
from vlbench.datasets.lists.frame_folders import FrameFolders, refuse_shared_frames
from vlbench.datasets.moments import MomentsInTime
from vlbench.datasets.specs import VIDEO_EXTENSIONS, VideoItem
from vlbench.errors import DataError

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("own_cache")]

MADE = {
    Kinetics700: kinetics700,
    MomentsInTime: moments,
    Diving48: diving48,
    Charades: charades,
    Breakfast: breakfast,
}
FOLDERS = {
    Kinetics700: {"train": "rawframes_train", "val": "rawframes_val"},
    MomentsInTime: {"training": "rawframes_training", "validation": "rawframes/validation"},
    Diving48: {"rgb": "rawframes"},
    Charades: {"Charades_v1_480": "Charades_v1_rgb"},
    Breakfast: {"BreakfastII_15fps_qvga_sync": "rawframes"},
}
"""Where the frames of each folder of videos are."""


def picture(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "img_00001.jpg").write_bytes(b"")
    return folder


def turn_into_frames(root: Path, folders: dict[str, str]) -> None:
    """A folder of frames in the place of every video."""
    for videos, frames in folders.items():
        for path in sorted((root / videos).rglob("*")):
            if path.suffix in VIDEO_EXTENSIONS:
                picture(root / frames / path.relative_to(root / videos).with_suffix(""))
        shutil.rmtree(root / videos)


def frames_by_id(kind, root, part="test"):
    return {item.id: item.path for item in kind(root=str(root), stored="frames").videos(part)}


@pytest.mark.parametrize("kind", MADE)
def test_every_video_that_was_there_has_its_frames_and_no_other_has_some(tmp_path, kind):
    MADE[kind](tmp_path, made=False)
    videos = {item.id: item for part in ("train", "test") for item in kind(root=str(tmp_path)).videos(part)}
    there = {name for name, item in videos.items() if item.path.is_file()}
    turn_into_frames(tmp_path, FOLDERS[kind])
    data = kind(root=str(tmp_path), stored="frames")
    items = {item.id: item for part in ("train", "test") for item in data.videos(part)}
    assert {name: item.truth for name, item in items.items()} == {name: item.truth for name, item in videos.items()}
    assert {name for name, item in items.items() if item.path.is_dir()} == there
    for name in there:
        assert items[name].path.name == videos[name].path.stem
        assert items[name].path.parent.name in (videos[name].path.parent.name, *FOLDERS[kind].values())


def test_the_frames_of_another_class_are_not_those_of_a_missing_video(tmp_path):
    moments(tmp_path, made=False)
    turn_into_frames(tmp_path, FOLDERS[MomentsInTime])
    shutil.rmtree(tmp_path / "rawframes/validation/eventing002")
    places = frames_by_id(MomentsInTime, tmp_path)
    assert places["validation/eventing000/c.mp4"] == tmp_path / "rawframes/validation/eventing000/c"
    assert not places["validation/eventing001/c.mp4"].exists()
    assert not places["validation/eventing002/c.mp4"].exists()


def test_the_frames_of_another_camera_are_not_those_of_a_missing_take(tmp_path):
    frames = tmp_path / "rawframes"
    for camera in ("cam01", "cam02"):
        picture(frames / f"P03/{camera}/P03_tea")
    assert frames_by_id(Breakfast, tmp_path) == {
        f"P03/{camera}/P03_tea.avi": frames / f"P03/{camera}/P03_tea" for camera in ("cam01", "cam02")
    }


def test_ids_of_takes_are_those_of_the_official_files(tmp_path):
    breakfast(tmp_path, made=False)
    expected = Breakfast(root=str(tmp_path))
    ids = [item.id for item in expected.videos("test")]
    digest = expected.digest("test")
    turn_into_frames(tmp_path, FOLDERS[Breakfast])
    data = Breakfast(root=str(tmp_path), stored="frames")
    assert [item.id for item in data.videos("test")] == ids
    assert data.digest("test") == digest


def test_videos_where_frames_should_be_are_no_frames(tmp_path):
    breakfast(tmp_path, made=False)
    with pytest.raises(DataError, match=r"holds no frames; allowed: P<person>/<camera>/P<person>_<activity>$"):
        frames_by_id(Breakfast, tmp_path)


def test_the_frames_of_another_part_are_not_those_of_a_missing_video(tmp_path):
    (tmp_path / "classes.txt").write_text("run\nwalk\n")
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(f"path,class\n{part}/a.mp4,run\n{part}/b.mp4,walk\n")
    for video in ("train/a", "test/a", "test/b"):
        picture(tmp_path / video)
    places = frames_by_id(FolderVideos, tmp_path, "train")
    assert places == {"train/a.mp4": tmp_path / "train/a", "train/b.mp4": tmp_path / "train/b"}


@pytest.mark.parametrize(
    "place", ["rawframes/a", "rawframes_test/a", "rawframes/run/a", "frames/run/a", "more/run/a", "run/more/a", "a"]
)
def test_the_frames_of_a_video_of_a_class_may_lie_elsewhere(tmp_path, place):
    (tmp_path / "test.txt").write_text("run/a.mp4 1\n")
    assert frames_by_id(FakeDataset, tmp_path) == {"run/a.mp4": tmp_path / "run/a"}
    picture(tmp_path / place)
    assert frames_by_id(FakeDataset, tmp_path) == {"run/a.mp4": tmp_path / place}


@pytest.mark.parametrize(("tar", "inside", "there"), [
    ("run.tar", "a", True), ("walk.tar", "a", False), ("0000.tar", "run/a", True), ("0000.tar", "walk/a", False),
    ("shards/0000.tar", "run/a", True),
])  # fmt: skip
def test_a_tar_of_several_videos_says_what_a_folder_says(tmp_path, tar, inside, there):
    (tmp_path / "test.txt").write_text("run/a.mp4 1\n")
    (tmp_path / tar).parent.mkdir(exist_ok=True)
    picture(tmp_path / "made" / inside)
    picture(tmp_path / "made/others/b")
    pack(tmp_path / "made", tmp_path / tar)
    shutil.rmtree(tmp_path / "made")
    assert frames_by_id(FakeDataset, tmp_path) == {
        "run/a.mp4": tmp_path / tar / inside if there else tmp_path / "run/a"
    }


def test_the_folders_of_a_list_count_in_their_order(tmp_path):
    (tmp_path / "test.txt").write_text("cut/run/a.mp4 1\n")
    for place, there in (("run/cut/a", False), ("x/cut/y/run/a", True)):
        picture(tmp_path / place)
        path = tmp_path / (place if there else "cut/run/a")
        assert frames_by_id(FakeDataset, tmp_path) == {"cut/run/a.mp4": path}


def test_two_folders_that_may_be_meant_are_refused(tmp_path):
    (tmp_path / "test.txt").write_text("run/a.mp4 1\n")
    for place in ("x/run/a", "y/run/a"):
        picture(tmp_path / place)
    with pytest.raises(DataError, match=r"'a' is .*/[xy]/run/a or .*/[xy]/run/a; keep one"):
        frames_by_id(FakeDataset, tmp_path)


def test_a_video_that_lies_elsewhere_is_looked_for_by_its_folder(tmp_path):
    frames = FrameFolders(tmp_path / "frames")
    for place in ("run/a", "b"):
        picture(tmp_path / "frames" / place)
    places = {
        name: frames.find(VideoItem(tmp_path / "videos" / name, 0, name)).path
        for name in ("run/a.mp4", "walk/a.mp4", "walk/b.mp4")
    }
    assert places["run/a.mp4"] == tmp_path / "frames/run/a"
    assert places["walk/a.mp4"] == tmp_path / "videos/walk/a"
    assert places["walk/b.mp4"] == tmp_path / "frames/b"


def test_parts_of_a_video_share_its_frames(tmp_path):
    parts = [VideoItem(tmp_path / "a", 0, f"a/{k}", span=(k, k + 1.0)) for k in range(2)]
    refuse_shared_frames(parts)
    with pytest.raises(DataError, match="holds the frames of 'a/0' and of 'b'"):
        refuse_shared_frames([*parts, parts[0]._replace(id="b")])


def test_published_lists_have_no_frames_twice_either(tmp_path):
    picture(tmp_path / "rawframes_val/abcdefghijk")
    (tmp_path / "splits/k400_splits").mkdir(parents=True)
    (tmp_path / "splits/k400_splits/val.txt").write_text(
        "val/abcdefghijk_000001_000011.mp4 0\nval/abcdefghijk_000020_000030.mp4 1\n"
    )
    data = Kinetics400(root=str(tmp_path), splits_dir=str(tmp_path / "splits"), stored="frames")
    with pytest.raises(DataError, match="abcdefghijk holds the frames of 'val/abcdefghijk_000001_000011' and of"):
        data.videos("test")


@pytest.mark.parametrize("place", ["walk/a", "walk/more/a", "rawframes/walk/a", "run.mp4/a"])
def test_the_frames_of_another_folder_are_no_frames_of_the_video(tmp_path, place):
    (tmp_path / "test.txt").write_text("run/a.mp4 1\n")
    picture(tmp_path / place)
    assert frames_by_id(FakeDataset, tmp_path) == {"run/a.mp4": tmp_path / "run/a"}


@pytest.mark.parametrize(
    ("listed", "place"),
    [(("run/a.mp4", "run/a.avi"), "run/a"), (("run/a.mp4", "walk/a.mp4"), "rawframes/a"), (("a.mp4", "a"), "a")],
)
def test_one_folder_of_frames_is_one_video(tmp_path, listed, place):
    (tmp_path / "test.txt").write_text("".join(f"{name} 1\n" for name in listed))
    picture(tmp_path / place)
    with pytest.raises(DataError, match=rf"/{place} holds the frames of '{listed[0]}' and of '{listed[1]}'"):
        frames_by_id(FakeDataset, tmp_path)


def test_frames_count_where_videos_are_there_too(tmp_path):
    jester(tmp_path, made=False)
    shutil.copytree(tmp_path / "20bn-jester-v1", tmp_path / "videos")
    for path in (tmp_path / "videos").iterdir():
        shutil.rmtree(path)
        path.with_suffix(".webm").touch()
    assert {path.suffix for path in frames_by_id(Jester, tmp_path).values()} == {""}
    assert all(path.is_dir() for path in frames_by_id(Jester, tmp_path).values())
    diving48(tmp_path / "d", made=False)
    for name in ("c_00003", "d_00004"):
        picture(tmp_path / "d/rawframes" / name)
    assert all(path.is_dir() for path in frames_by_id(Diving48, tmp_path / "d").values())
