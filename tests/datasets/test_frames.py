"""Which files are the frames of a video, in folders and in tars."""

import io
import os
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlbench.datasets import tar_index as tars
from vlbench.datasets.frames import TarFrames, frame_places, frames_of, in_order, is_frames
from vlbench.datasets.lists.frame_folders import FrameFolders
from vlbench.datasets.lists.index import FileIndex, Stamp
from vlbench.datasets.tar_index import tar_index
from vlbench.errors import DataError, DecodeError
from vlbench.files import cache_folder

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("own_cache")]

NAMINGS = [
    "img_{:05}.jpg",
    "{:05}.jpg",
    "frame_{:06}.png",
    "image_{:05}.JPG",
    "frame{}.jpeg",
    "1_{:06}.jpg",
    "A0-{}.Png",
]


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


def write_tar(path, members, mode="w"):
    """A tar of files by path and content, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def frames(*videos, count=3):
    """Members of a tar: a few frames of each video, mixed."""
    members = [(f"{video}img_{k:05}.jpg", os.fsencode(f"{video}{k}")) for video in videos for k in range(1, count + 1)]
    random.Random(0).shuffle(members)
    return members


# -- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("naming", NAMINGS)
@given(count=st.integers(1, 120), first=st.integers(0, 1), seed=st.integers(0, 9))
def test_frames_come_by_number_under_every_usual_naming(naming, tmp_path_factory, count, first, seed):
    names = [naming.format(number) for number in range(first, first + count)]
    others = ["flow_x_00001.jpg", "flow_y_00001.jpg", ".img_00009.jpg", "cover.jpg", "label.txt", "img_00001.json"]
    mixed = [*names, *others]
    random.Random(seed).shuffle(mixed)
    assert list(in_order(tmp_path_factory.getbasetemp(), mixed)) == names


@pytest.mark.parametrize("naming", NAMINGS)
@given(count=st.integers(3, 40), data=st.data())
def test_a_missing_frame_is_named_by_its_number(naming, tmp_path_factory, count, data):
    gone = data.draw(st.integers(2, count - 1))
    names = [naming.format(number) for number in range(1, count + 1) if number != gone]
    with pytest.raises(DecodeError) as error:
        in_order(tmp_path_factory.getbasetemp(), names)
    assert error.value.cause == (
        f"frame {gone} is missing: {naming.format(gone - 1)} is followed by {naming.format(gone + 1)}"
    )


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        ([], "it holds no frames; allowed: numbered"),
        (["a.jpg", "readme.txt", "flow_x_00001.jpg"], "it holds no frames"),
        (["img_00003.jpg", "img_00002.jpg"], r"first frame is img_00002\.jpg, and frames are numbered from 0 or 1"),
        (["img_1.jpg", "img_00001.jpg"], r"img_00001\.jpg and img_1\.jpg are one frame"),
        (["img_00001.jpg", "frame_00001.jpg"], r"frame_00001\.jpg and img_00001\.jpg are frames of two kinds"),
        (["00001.jpg", "00001.png"], r"00001\.jpg and 00001\.png are frames of two kinds"),
    ],
)
def test_pictures_that_are_no_video_are_refused(tmp_path, names, cause):
    with pytest.raises(DecodeError, match=cause):
        frames_of(touch(tmp_path / "v", *names))


def test_a_folder_that_is_not_there_and_a_file_are_no_frames(tmp_path):
    (tmp_path / "v.avi").touch()
    with pytest.raises(FileNotFoundError):
        frames_of(tmp_path / "v")
    with pytest.raises(OSError, match="it is a file and no folder of frames"):
        frames_of(tmp_path / "v.avi")


def test_a_folder_with_the_name_of_a_video_is_no_folder_of_frames(tmp_path):
    assert not is_frames(touch(tmp_path / "v.mp4", "img_00001.jpg"))
    assert is_frames(touch(tmp_path / "v.part", "img_00001.jpg"))


def test_the_stamp_of_frames_changes_with_any_of_them(tmp_path):
    folder = touch(tmp_path / "v", "1.jpg", "2.jpg", "3.jpg")
    index, before = FileIndex(tmp_path), Stamp.of(folder)
    assert before.size == len("1.jpg2.jpg3.jpg")
    index.put(folder, "fact", 7, stamp=before)
    assert index.get(folder, "fact") == 7
    later = before.mtime_ns + 10**9
    os.utime(folder / "2.jpg", ns=(later, later))
    assert Stamp.of(folder) == (before.size, later)
    assert index.get(folder, "fact") is None
    (folder / "2.jpg").unlink()
    assert index.get(folder, "fact") is None


# -- tars -------------------------------------------------------------------------------------------------------------


def test_members_of_a_tar_are_read_where_they_lie(tmp_path):
    tar = write_tar(tmp_path / "s.tar", [*frames("a/v1/", "a/v2/"), ("a/label.txt", b"0"), ("readme", b"x" * 600)])
    assert is_frames(tar / "a/v1")
    with TarFrames(tar, "a/v2") as video:
        assert video.names == tuple(f"img_{k:05}.jpg" for k in (1, 2, 3))
        assert [video.read(k) for k in (2, 0, 1, 2)] == [b"a/v2/3", b"a/v2/1", b"a/v2/2", b"a/v2/3"]
        assert video.stamp() == (18, tar.stat().st_mtime_ns)


@pytest.mark.parametrize("inner", ["", "./", "v/"])
def test_a_tar_of_one_video_is_a_video(tmp_path, inner):
    tar = write_tar(tmp_path / "v.tar", frames(inner))
    video = frames_of(tar)
    assert [video.read(k)[-1:] for k in range(3)] == [b"1", b"2", b"3"]
    video.close()


def test_a_tar_of_several_videos_is_not_one(tmp_path):
    tar = write_tar(tmp_path / "s.tar", frames("v1/", "v2/"))
    with pytest.raises(DecodeError, match="the frames of 2 videos; allowed: one, or a folder of it"):
        frames_of(tar)
    with pytest.raises(DecodeError, match="no folder 'v3'"):
        frames_of(tar / "v3")


def compressed(tar):
    with tarfile.open(tar, "w:gz"):
        pass


def without_end(tar):
    tar.write_bytes(tar.read_bytes()[: 3 * 1024])


def cut_in_a_member(tar):
    tar.write_bytes(tar.read_bytes()[: 2 * 1024 + 520])


def damaged_header(tar):
    content = bytearray(tar.read_bytes())
    content[1024:1030] = b"\xff" * 6
    tar.write_bytes(content)


def twice(tar):
    write_tar(tar, [("img_00001.jpg", b"1"), ("./img_00001.jpg", b"2")])


@pytest.mark.parametrize("damage", [compressed, without_end, cut_in_a_member, damaged_header, twice])
def test_a_damaged_tar_is_refused_as_a_whole(tmp_path, damage):
    tar = write_tar(tmp_path / "v.tar", frames(""))
    damage(tar)
    with pytest.raises(
        DecodeError, match=r"v\.tar: it (is no whole, uncompressed tar: .*; fetch or make it again|has)"
    ):
        frames_of(tar)
    with pytest.raises(DataError, match=r"v\.tar: .*move it elsewhere"):
        list(frame_places(tmp_path))


def test_the_index_of_a_tar_is_kept_and_made_anew_when_the_tar_changes(tmp_path, monkeypatch):
    tar = write_tar(tmp_path / "s.tar", frames("v1/"))
    first = tar_index(tar)
    tars._index.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(tars, "_read", lambda path: pytest.fail("the tar is read again"))
        assert tar_index(tar).members("v1") == first.members("v1")
    tars._index.cache_clear()
    (kept,) = (cache_folder() / "tars").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert tar_index(tar).members("v1") == first.members("v1")
    write_tar(tar, frames("v1/", "v2/"))
    assert list(tar_index(tar).folders) != ["v1"]


def test_names_that_are_no_utf8_are_members_like_others(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    tar = write_tar(tmp_path / "s.tar", frames(f"{name}/"))
    assert len(frames_of(tar / name).names) == 3


# -- where they are ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """Videos a to e: beside each other in a class folder, deeper, in a tar of their own and in a shard."""
    touch(tmp_path / "run/a", "1.jpg", "2.jpg")
    touch(tmp_path / "run/more/b.v2", "img_00001.png")
    write_tar(tmp_path / "run/c.tar", frames(""))
    write_tar(tmp_path / "shards/000.tar", frames("jump/d/", "jump/e/"))
    touch(tmp_path / "empty")
    touch(tmp_path / ".hidden/f", "1.jpg")
    return tmp_path


def test_every_video_below_a_folder_has_its_place(tree):
    assert dict(frame_places(tree)) == {
        "run/a": tree / "run/a",
        "run/more/b.v2": tree / "run/more/b.v2",
        "run/c": tree / "run/c.tar",
        "jump/d": tree / "shards/000.tar/jump/d",
        "jump/e": tree / "shards/000.tar/jump/e",
    }


@pytest.mark.parametrize(
    ("official", "place"),
    [
        ("run/a.avi", "run/a"), ("run/a", "run/a"), ("a.avi", "run/a"), ("run/b.v2.mp4", "run/more/b.v2"),
        ("run/c.avi", "run/c.tar"), ("other/d.avi", "shards/000.tar/jump/d"), ("run/z.avi", "run/z"),
        ("shards/000.tar/jump/e", "shards/000.tar/jump/e"),
    ],
)  # fmt: skip
def test_frames_are_found_by_the_name_of_the_video(tree, official, place):
    stem = official.rpartition("/")[2].removesuffix(".avi").removesuffix(".mp4")
    assert FrameFolders(tree).locate(official, (stem,)) == tree / place


def test_frames_in_two_places_are_refused(tree):
    touch(tree / "jump/a", "1.jpg")
    assert FrameFolders(tree).locate("run/a.avi", ("a",)) == tree / "run/a"
    with pytest.raises(DataError, match=r"'a' is .*/a or .*/a; keep one"):
        FrameFolders(tree).locate("a.avi", ("a",))
