"""Videos out of parquet files and webdataset shards."""

import io
import json
import tarfile

import pytest

from tests.fakes import colored_frames, write_video
from vlbench.cli.main import main
from vlbench.datasets import FolderVideos
from vlbench.datasets.hmdb51 import HMDB51
from vlbench.errors import ConfigError, DataError
from vlbench.tools import unpack as module
from vlbench.tools.unpack import unpack

NAMES = ("kick", "brush_hair")  # labels 0 and 1, in another order than that of the alphabet


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Bytes of four video files."""
    root = tmp_path_factory.mktemp("contents")
    return [write_video(root / f"{k}.avi", colored_frames(9 + k), codec="mpeg4").read_bytes() for k in range(4)]


def write_shard(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


class Shards:
    """A webdataset: two shards of training videos, one of test videos."""

    library = "webdataset"

    @staticmethod
    def write(source, contents, labels=("kick", "brush_hair", "kick", "brush_hair"), names=None):
        for k, (content, label) in enumerate(zip(contents, labels, strict=True)):
            facts = json.dumps({"label": label}).encode() if k % 2 else str(label).encode()
            part = "train" if k < 3 else "test"
            members = [(f"v{k}.avi", content), (f"v{k}.{'json' if k % 2 else 'cls'}", facts)]
            write_shard(source / f"{part}-{k:06}.tar", members)


class Parquet:
    """Parquet files as on the Hugging Face hub."""

    library = "datasets"

    @staticmethod
    def write(source, contents, labels=("kick", "brush_hair", "kick", "brush_hair"), names=None):
        datasets = pytest.importorskip("datasets")
        label = datasets.ClassLabel(names=list(names)) if names else datasets.Value(
            "int64" if isinstance(labels[0], int) else "string"
        )  # fmt: skip
        features = datasets.Features({"video": datasets.Video(decode=False), "label": label})
        (source / "data").mkdir(parents=True)
        for part, chosen in (("train", range(3)), ("test", [3])):
            videos = [{"bytes": contents[k], "path": f"v{k}.avi"} for k in chosen]
            rows = {"video": videos, "label": [labels[k] for k in chosen]}
            table = datasets.Dataset.from_dict(rows, features=features)
            table.to_parquet(str(source / f"data/{part}-00000-of-00001.parquet"))


@pytest.fixture(params=[Shards, Parquet], ids=["shards", "parquet"])
def packed(request):
    pytest.importorskip(request.param.library, reason=f"needs the extra {request.param.library}")
    return request.param


def videos(root, part="train"):
    return [(item.id, item.label, item.path.read_bytes()) for item in FolderVideos(str(root)).items(part, 1)]


def test_every_video_comes_out_as_it_is_under_its_class(tmp_path, contents, packed):
    packed.write(tmp_path / "packed", contents)
    out = tmp_path / "out"
    assert unpack(tmp_path / "packed", out, progress=False) == {"test": 1, "train": 3}
    assert FolderVideos(str(out)).spec.class_names == ("brush_hair", "kick")
    assert videos(out) == [
        ("videos/kick/v0.avi", 1, contents[0]),
        ("videos/brush_hair/v1.avi", 0, contents[1]),
        ("videos/kick/v2.avi", 1, contents[2]),
    ]
    assert videos(out, "test") == [("videos/brush_hair/v3.avi", 0, contents[3])]
    assert HMDB51(root=str(out)).video_folder == out / "videos"  # with the official lists it is HMDB-51's root


def test_numbers_get_their_names_from_a_file(tmp_path, contents, packed):
    packed.write(tmp_path / "packed", contents, labels=(0, 1, 0, 1))
    with pytest.raises(ConfigError, match=r"the label is 1, and nothing says which class .* by --classes FILE"):
        unpack(tmp_path / "packed", tmp_path / "out", progress=False)
    assert not (tmp_path / "out/classes.txt").exists()
    (tmp_path / "names.txt").write_text("kick\nbrush_hair\n")
    unpack(tmp_path / "packed", tmp_path / "out", classes=tmp_path / "names.txt", progress=False)
    assert FolderVideos(str(tmp_path / "out")).spec.class_names == NAMES
    assert [label for _, label, _ in videos(tmp_path / "out")] == [0, 1, 0]


def test_parquet_files_say_the_names_of_their_numbers(tmp_path, contents):
    Parquet.write(tmp_path / "packed", contents, labels=(0, 1, 0, 1), names=NAMES)
    unpack(tmp_path / "packed", tmp_path / "out", progress=False)
    assert FolderVideos(str(tmp_path / "out")).spec.class_names == NAMES
    assert [label for _, label, _ in videos(tmp_path / "out")] == [0, 1, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("brush_hair", "kick"), "has brush_hair for number 0, and p, row 0 states kick; leave --classes out"),
        (("kick",), "has none for number 1, and p, row 0 states brush_hair"),
        (("kick", "brush_hair", "run"), "has run for number 2, and p, row 0 states none"),
        (NAMES, None),
    ],
)
def test_other_names_than_a_file_states_are_refused(tmp_path, monkeypatch, given, message):
    video = module._Packed("p, row 0", "train", "a.mp4", b"video", 0)
    monkeypatch.setattr(module, "_of_parquet", lambda files, source: iter([(video, NAMES)]))
    (tmp_path / "train.parquet").touch()
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in given))
    if message is None:
        unpack(tmp_path, tmp_path / "out", classes=tmp_path / "names.txt", progress=False)
        assert (tmp_path / "out/videos/kick/a.mp4").read_bytes() == b"video"
        return
    with pytest.raises(ConfigError, match=message):
        unpack(tmp_path, tmp_path / "out", classes=tmp_path / "names.txt", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stored", ["bytes", "path", "both"])
def test_a_column_of_videos_holds_bytes_or_paths_below_the_folder(tmp_path, contents, stored):
    datasets = pytest.importorskip("datasets", reason="needs the extra datasets")
    source = tmp_path / "packed"
    (source / "clips").mkdir(parents=True)
    (source / "clips/a.avi").write_bytes(contents[0])
    video = {"bytes": contents[0], "path": "clips/a.avi", "both": {"bytes": None, "path": "clips/a.avi"}}[stored]
    rows = datasets.Dataset.from_dict({"video": [video], "class": ["kick"]})
    rows.to_parquet(str(source / "train.parquet"))
    unpack(source, tmp_path / "out", progress=False)
    name = "train-000000.mp4" if stored == "bytes" else "a.avi"
    assert videos(tmp_path / "out") == [(f"videos/kick/{name}", 0, contents[0])]
    rows = datasets.Dataset.from_dict({"video": ["../a.avi"], "class": ["kick"]})
    rows.to_parquet(str(source / "train.parquet"))
    with pytest.raises(DataError, match=r"the video is '\.\./a\.avi'; allowed: bytes, or a path that stays below"):
        unpack(source, tmp_path / "other", progress=False)


def test_a_second_call_goes_on_and_another_content_is_refused(tmp_path, contents, packed, monkeypatch):
    source, out = tmp_path / "packed", tmp_path / "out"
    packed.write(source, contents)
    unpack(source, out, progress=False)
    expected = {path: path.stat().st_mtime_ns for path in (out / "videos").rglob("*.avi")}
    (out / "train.csv").unlink()
    gone = out / "videos/kick/v2.avi"
    gone.unlink()
    unpack(source, out, progress=False)
    assert gone.read_bytes() == contents[2]
    assert {path: path.stat().st_mtime_ns for path in expected if path != gone} == {
        path: time for path, time in expected.items() if path != gone
    }
    gone.write_bytes(contents[0])
    with pytest.raises(DataError, match=r"v2\.avi is there with another content; give a new folder"):
        unpack(source, out, progress=False)


def test_a_damaged_file_is_named(tmp_path, contents, packed):
    source = tmp_path / "packed"
    packed.write(source, contents)
    (path,) = (path for path in source.rglob("test-*") if path.is_file())
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=rf"{path.name} cannot be read: .*; fetch it again"):
        unpack(source, tmp_path / "out", progress=False)
    assert not (tmp_path / "out/classes.txt").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.cls", b"kick")], "0 videos; allowed: one, such as a.mp4"),
        ([("a.mp4", b"1"), ("a.avi", b"2"), ("a.cls", b"kick")], "2 videos; allowed: one"),
        ([("a.mp4", b"1")], "states no class; allowed: a .cls file"),
        ([("a.mp4", b"1"), ("a.json", b'{"text": "x"}')], "states no class"),
        ([("a.mp4", b"1"), ("a.json", b"{")], "states no class"),
        ([("a.mp4", b"1"), ("a.json", b'{"label": null}')], "the label is None; allowed: a name"),
        ([("a.mp4", b"1"), ("a.cls", b"-1")], "the label is -1, and nothing says which class that is"),
        ([("a.mp4", b"1"), ("a.cls", b" ")], "the label is ''; allowed: a name"),
        ([("a.mp4", b"1"), ("a.cls", b"../up")], r"the class is '\.\./up', which becomes the name of a file"),
        ([("x/a.mp4", b"1"), ("x/a.cls", b"k"), ("y/a.mp4", b"2"), ("y/a.cls", b"k")], "'videos/k/a.mp4' is also the"),
    ],
)
def test_shards_that_do_not_say_enough_are_refused(tmp_path, members, message):
    pytest.importorskip("webdataset", reason="needs the extra webdataset")
    write_shard(tmp_path / "packed/train.tar", members)
    with pytest.raises((DataError, ConfigError), match=message):
        unpack(tmp_path / "packed", tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds neither; allowed: a folder of parquet files, or of webdataset shards"),
        (["train.tar", "test.parquet"], "holds parquet files and tars"),
        (["shard.tar"], r"shard\.tar: its path names no part; allowed: one of train, val"),
        (["train/val-0.parquet"], r"its path names train, validation; allowed: one of"),
    ],
)
def test_folders_that_do_not_say_what_they_hold_are_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        unpack(tmp_path, tmp_path / "out", progress=False)


@pytest.mark.parametrize(("name", "library"), [("train.tar", "webdataset"), ("train.parquet", "datasets")])
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, capsys, name, library):
    def refuse(wanted):
        raise ImportError(f"No module named {wanted!r}")

    monkeypatch.setattr(module, "import_module", refuse)
    (tmp_path / name).touch()
    assert main(["data", "unpack", str(tmp_path), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"the library {library} cannot be loaded (No module named '{library}'); pip install" in said
    assert f"vlbench[{library}]" in said
