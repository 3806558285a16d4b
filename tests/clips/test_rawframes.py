"""Videos that are kept as pictures: the same frames, clips and checks as those of the video files."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.clips.test_datamodule import FakeDataModule
from tests.fakes import FakeDataset, decode_sequentially, dump_frames, moving_frames, pack, write_pictures, write_video
from vlbench.clips.decoding import open_video
from vlbench.clips.options import Augmentation, ClipOptions, LoadingOptions, Views
from vlbench.clips.readers import TestViews
from vlbench.datasets.specs import VideoItem
from vlbench.errors import ConfigError, DataError, DecodeError
from vlbench.tools import strips
from vlbench.tools.doctor import check, check_folder
from vlbench.tools.doctor.probe import Probe, probe
from vlbench.tools.prepare import prepare, subset

pytestmark = pytest.mark.usefixtures("own_cache")

COUNT = 20


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", moving_frames(COUNT), bframes=2)


@pytest.fixture
def folder(video, tmp_path):
    return dump_frames(video, tmp_path / "v")


@pytest.fixture(params=["folder", "tar", "shard"])
def frames(request, folder):
    """The frames of the video in each of the ways that are read."""
    if request.param == "folder":
        return folder
    tar = pack(folder, folder.with_name("packed.tar"), "v/" if request.param == "shard" else "")
    return tar / "v" if request.param == "shard" else tar


# -- the reader -------------------------------------------------------------------------------------------------------


def test_frames_are_those_of_the_video(video, frames, backend):
    expected = decode_sequentially(video)
    with open_video(video, backend=backend) as original:
        memory = original.frames_at([0, 1]).stride()
    for name in (backend, "rawframes"):
        with open_video(frames, backend=name) as reader:
            assert reader.num_frames == COUNT
            assert torch.equal(reader.frames_at(range(COUNT)), expected)
            assert torch.equal(reader.frames_at([7, 0, 7, 19]), expected[[7, 0, 7, 19]])
            assert reader.frames_at([0, 1]).stride() == memory
            for indices in ([-1], [0, COUNT]):
                with pytest.raises(IndexError, match=rf"asked of .*; allowed: 0\.\.{COUNT - 1}"):
                    reader.frames_at(indices)


def test_grey_and_transparent_and_palette_pictures_are_rgb(folder):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    for number, mode in enumerate(("L", "RGBA", "P", "RGB"), start=1):
        image.convert(mode).save(folder / f"img_{number:05}.png")
    with open_video(folder) as reader:
        for index, mode in enumerate(("L", "RGBA", "P", "RGB")):
            wanted = np.asarray(image.convert(mode).convert("RGB"))
            assert np.array_equal(reader.frames_at([index])[0].permute(1, 2, 0).numpy(), wanted)


def test_a_turned_jpeg_is_shown_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    (tmp_path / "v").mkdir()
    Image.fromarray(moving_frames(1)[0]).save(tmp_path / "v/0.jpg", exif=exif)
    with open_video(tmp_path / "v") as reader:
        assert reader.frames_at([0]).shape == (1, 3, 48, 64)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-200])


def other_kind(path):
    Image.fromarray(moving_frames(1)[0]).save(path, format="GIF")


def sixteen_bits(path):
    Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)).save(path, format="PNG")


def no_file(path):
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "text": (lambda path: path.write_text("no picture"), "it is neither a JPEG nor a PNG picture"),
    "cut": (cut_short, "it is damaged: "),
    "gif": (other_kind, "it is neither a JPEG nor a PNG picture"),
    "sixteen_bits": (sixteen_bits, "its samples have more than 8 bits"),
    "pipe": (no_file, "it is a named pipe and no regular file"),
}


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_frame_is_refused_by_name_and_the_others_are_read(video, tmp_path, kind, damage):
    damaged, cause = DAMAGE[damage]
    folder = dump_frames(video, tmp_path / "v", f"{{:03}}.{kind}")
    damaged(folder / f"013.{kind}")
    with open_video(folder) as reader:
        assert len(reader.frames_at([k for k in range(COUNT) if k != 12])) == COUNT - 1
        with pytest.raises(DecodeError, match=rf"frame 12, 013\.{kind}: {cause}"):
            reader.frames_at([11, 12])
    assert probe(folder).problem == "damaged"
    assert probe(folder).cause.startswith(f"1 of its {COUNT} frames; frame 12, 013.{kind}: {cause}")


def test_frames_of_two_sizes_are_refused(folder):
    write_pictures(torch.zeros(1, 3, 32, 64, dtype=torch.uint8), folder, "img_{:05}.png", 4)
    with open_video(folder) as reader:
        reader.frames_at([0, 1, 2, 4])
        with pytest.raises(DecodeError, match=r"frame 2, img_00003\.png is 64x48, frame 3, img_00004\.png is 64x32"):
            reader.frames_at([2, 3])
    assert probe(folder) == Probe(COUNT, problem="frame_size", cause="its frames differ in size")


def test_seconds_cannot_be_found_in_pictures(frames):
    with open_video(frames) as reader, pytest.raises(DecodeError, match=r"no times to find 1\.0 to 2\.0 s by; use the"):
        reader.frames_between(1.0, 2.0)


def test_rawframes_reads_no_video_file(video, tmp_path):
    for path, cause in ((video, "it is a file and no folder of frames"), (tmp_path / "no", "No such file")):
        with pytest.raises(DecodeError, match=cause):
            open_video(path, backend="rawframes")


# -- the same sampling ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A dataset of video files: four classes of one training and one test video, of 9 to 135 frames."""
    root = tmp_path_factory.mktemp("videos")
    for place, part in enumerate(("train", "test")):
        lines = []
        for label in range(len(FakeDataset.CLASSES)):
            name = f"{part}_{label}.mp4"
            write_video(root / name, moving_frames(9 + 42 * label, seed=2 * label + place), bframes=2)
            lines.append(f"{name} {label}\n")
        (root / f"{part}.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def dumps(videos, tmp_path_factory):
    """The same dataset as PNG pictures: in folders, in a tar each, and in one shard."""
    roots = {kind: tmp_path_factory.mktemp(kind) for kind in ("folders", "tars", "shard")}
    for kind, root in roots.items():
        for listing in videos.glob("*.txt"):
            shutil.copy(listing, root)
        if kind == "folders":
            for path in videos.glob("*.mp4"):
                dump_frames(path, root / path.stem)
        elif kind == "tars":
            for path in roots["folders"].glob("t*_*"):
                pack(path, root / f"{path.name}.tar")
        else:
            (root / "shards").mkdir()
            pack(roots["folders"], root / "shards/0000.tar")
    return roots


def data(root, **options):
    return FakeDataModule(root=str(root), **{"image_size": 32, "num_workers": 0, "batch_size": 4, **options})


RAW = LoadingOptions(backend="rawframes")


@pytest.mark.parametrize(
    ("kind", "sampling"),
    [
        ("folders", "uniform"),
        ("folders", "dense"),
        ("folders", "pytorchvideo"),
        ("tars", "dense"),
        ("shard", "uniform"),
    ],
)
def test_clips_and_views_are_those_of_the_videos_bit_by_bit(videos, dumps, kind, sampling):
    clip = ClipOptions(sampling=sampling, views=Views(clips=2, crops=3))
    one, other = data(videos, clip=clip), data(dumps[kind], clip=clip, loading=RAW)
    for part in ("train", "test"):
        assert [item.id for item in one.dataset.videos(part)] == [item.id for item in other.dataset.videos(part)]
    clips = [each.training_clips(each.dataset.videos("train")) for each in (one, other)]
    for key in [(index, draw) for index in range(4) for draw in range(2)]:
        expected, read = (each[key] for each in clips)
        assert read.failure is None
        assert torch.equal(expected.video, read.video)
    views = [each.test_views(each.dataset.videos("test")) for each in (one, other)]
    for index in range(4):
        expected, read = (each[index] for each in views)
        assert torch.equal(expected.video, read.video)
        assert expected.crops == read.crops


def test_workers_read_shards_like_this_process(dumps):
    def epoch(workers):
        module = data(dumps["shard"], loading=RAW, num_workers=workers, augmentation=Augmentation(color_jitter=0.0))
        module.setup("fit")
        return [(batch.ids, batch.video) for batch in module.train_dataloader()]

    for (ids, video), (other_ids, other) in zip(epoch(0), epoch(2), strict=True):
        assert ids == other_ids
        assert torch.equal(video, other)


def test_the_backend_says_what_is_looked_for(videos, dumps, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(videos, both)
    shutil.copytree(dumps["folders"], both, dirs_exist_ok=True)
    assert {item.path.suffix for item in data(both).dataset.videos("train")} == {".mp4"}
    assert all(item.path.is_dir() for item in data(both, loading=RAW).dataset.videos("train"))
    clip = data(videos, loading=RAW).test_views(data(videos, loading=RAW).dataset.videos("test"))[0]
    assert clip.video is None
    assert "No such file" in clip.failure
    with pytest.raises(ConfigError, match="decode_on is cuda with the backend rawframes"):
        LoadingOptions(backend="rawframes", decode_on="cuda")


def test_the_identity_names_frames(videos, dumps):
    for side in ("training", "test"):
        settings = [data(videos).settings(side), data(dumps["folders"], loading=RAW).settings(side)]
        assert settings[1] == {**settings[0], "loading.backend": "rawframes"}
        assert "loading.backend" not in settings[0]


def test_another_number_of_frames_than_the_list_says_is_an_error_that_names_both(folder):
    def read(count):
        items = [VideoItem(folder, 0, "v", frames=count)]
        return TestViews(items, frames=4, sampling="uniform", views=Views(), size=32, resize=32, backend="rawframes")[0]

    assert read(COUNT).video is not None
    assert read(COUNT + 1).failure == f"it has {COUNT} frames, and its list says {COUNT + 1}"


# -- the same checks --------------------------------------------------------------------------------------------------


def codes(report):
    return {(finding.code, finding.where) for finding in report.findings if finding.severity == "error"}


@pytest.mark.parametrize("kind", ["folders", "tars", "shard"])
def test_the_doctor_reads_frames(dumps, kind):
    report = check(data(dumps[kind], loading=RAW).dataset, decode=True, workers=0, progress=False)
    assert codes(report) == set()
    assert (report.videos, report.decoded) == (8, 8)


def test_the_doctor_names_missing_and_damaged_frames(dumps, tmp_path):
    root = tmp_path / "bad"
    shutil.copytree(dumps["folders"], root)
    (root / "train_0/img_00004.png").unlink()
    (root / "test_0/img_00009.png").write_bytes(b"")
    shutil.rmtree(root / "train_1")
    shutil.rmtree(root / "test_1")
    (root / "test_1").mkdir()
    shutil.rmtree(root / "train_2")
    shutil.copytree(root / "test_2", root / "train_2")
    report = check(data(root, loading=RAW).dataset, decode=True, workers=0, progress=False)
    texts = {finding.where: finding.text for finding in report.findings if finding.severity == "error"}
    assert codes(report) == {
        ("frames", "train_0.mp4"), ("damaged", "test_0.mp4"), ("missing", "train_1.mp4"), ("frames", "test_1.mp4"),
        ("duplicate", "test_2.mp4"),
    }  # fmt: skip
    assert texts["train_0.mp4"].startswith("frame 4 is missing: img_00003.png is followed by img_00005.png; extract")
    assert texts["test_0.mp4"].startswith("1 of its 9 frames; frame 8, img_00009.png: it is empty")
    assert texts["test_1.mp4"].startswith("it holds no frames")
    assert texts["test_2.mp4"].startswith("the same content as train_2.mp4: train trains on what test tests")


def test_a_mended_frame_is_looked_at_again(dumps, tmp_path):
    root = tmp_path / "bad"
    shutil.copytree(dumps["folders"], root)
    frame = root / "test_0/img_00002.png"
    content = frame.read_bytes()
    for damaged in (True, False):
        frame.write_bytes(b"" if damaged else content)
        report = check(data(root, loading=RAW).dataset, decode=True, workers=0, progress=False)
        assert codes(report) == ({("damaged", "test_0.mp4")} if damaged else set())


def test_any_folder_of_frames_can_be_looked_at(dumps, tmp_path):
    report = check_folder(dumps["shard"], decode=True, workers=0, progress=False)
    assert (report.decoded, codes(report)) == (8, set())


def test_copies_are_of_video_files_only(dumps, tmp_path):
    with pytest.raises(DataError, match=r"holds videos as frames, .*; only video files are copied"):
        prepare(dumps["folders"], tmp_path / "copy", workers=0, progress=False)
    with pytest.raises(ConfigError, match="kept as frames, and only video files are copied"):
        subset(data(dumps["folders"], loading=RAW).dataset, tmp_path / "few")


def test_pictures_of_videos_are_made_of_frames_too(videos, dumps, monkeypatch):
    monkeypatch.setattr(strips, "for_each", lambda function, tasks, workers: ((task, function(task)) for task in tasks))
    expected = {"test_0.mp4": strips.strip_of((videos / "test_0.mp4", None), 1, 144)}
    for root in (videos, *dumps.values()):
        assert strips.middle_frames(["test_0.mp4"], root) == expected
