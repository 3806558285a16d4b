from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import resize

from tests.fakes import (
    colored_frames,
    cut,
    decode_sequentially,
    indices_from_pixels,
    moving_frames,
    retime,
    write_audio,
    write_video,
)
from vlbench.clips.decoding.pyav import PyAVReader
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.folder import FolderVideos
from vlbench.datasets.lists.annotations import read_csv, read_path_label
from vlbench.datasets.specs import DatasetSpec, Subset, VideoItem
from vlbench.datasets.ucf101 import UCF101
from vlbench.errors import ConfigError, DataError
from vlbench.files import cache_folder
from vlbench.tools import prepare as module
from vlbench.tools.prepare import prepare, subset


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    cache_folder.cache_clear()
    yield
    cache_folder.cache_clear()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def small(root, out, **options):
    return prepare(root, out, workers=0, progress=False, **options)


def frames_of(path):
    with PyAVReader(path) as reader:
        assert reader.planned, "the copy's times are dependable"
        return reader.frames_at(range(reader.num_frames))


# -- prepare ----------------------------------------------------------------------------------------------------------

KINDS = {
    "h264.mp4": {"bframes": 3},
    "mpeg4.avi": {"codec": "mpeg4", "bframes": 2},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}},
    "ten_bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
    "full_range.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


@pytest.mark.parametrize("name", KINDS)
def test_frame_k_of_the_copy_is_frame_k_of_the_original(root, out, name):
    write_video(root / name, colored_frames(50, 96, 132), **KINDS[name])
    assert small(root, out, resize=48).findings == ()
    frames = frames_of(out / name)
    assert frames.shape == (50, 3, 48, 66)
    assert indices_from_pixels(frames) == list(range(50))


def test_a_copy_looks_like_its_original(root, out):
    # Grey: saturated edges differ by 8 levels from the chroma's resolution alone, before anything is encoded.
    picture = moving_frames(20, 96, 144).mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
    path = write_video(root / "film.mp4", picture, options={"crf": "1"})
    small(root, out, resize=48)
    expected = resize(decode_sequentially(path), [48, 72], antialias=True).float()
    copy = frames_of(out / "film.mp4").float()
    assert (copy - expected).abs().mean() < 4
    assert (copy[1:] - expected[:-1]).abs().mean() > 8, "neighbours differ, or nothing is tested"


def test_colours_are_those_that_readers_show(root, out):
    """Files that say how their colours are stored (here BT.709) keep them in a copy that says nothing."""
    path = root / "hd.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = 1
        for image in colored_frames(30):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode(None))
    small(root, out)
    assert (frames_of(out / "hd.mp4").float() - decode_sequentially(path).float()).abs().mean() < 3


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [((65, 97), 256, (64, 96)), ((128, 36), 20, (72, 20)), ((48, 64), 49, (48, 64)), ((50, 51), 25, (24, 26))],
)
def test_sides_are_even_and_nothing_is_enlarged(root, out, size, short_side, expected):
    write_video(root / "clip.mkv", colored_frames(3, *size), codec="ffv1")
    small(root, out, resize=short_side)
    assert frames_of(out / "clip.mkv").shape[-2:] == expected


def test_copies_are_upright(root, out):
    upright = np.full((4, 64, 32, 3), 30, dtype=np.uint8)
    upright[:, :16, :8] = 230  # a bright corner at the top left
    write_video(root / "turned.mp4", np.ascontiguousarray(np.rot90(upright, -1, axes=(1, 2))), rotation=90)
    small(root, out)
    frames = decode_sequentially(out / "turned.mp4")
    assert frames.shape == (4, 3, 64, 32)
    assert (frames.float() - torch.from_numpy(upright).permute(0, 3, 1, 2).float()).abs().mean() < 5


def test_times_are_kept(root, out):
    source = write_video(root.parent / "even.mp4", 24, fps=30)
    times = [*range(12), *range(40, 52)]
    retime(source, root / "freeze.mp4", times)
    small(root, out)
    with PyAVReader(out / "freeze.mp4") as reader:
        assert [round(30 * reader.time_of(k)) for k in range(24)] == times


def test_without_dependable_times_frames_come_at_the_rate(root, out):
    write_video(root / "clip.avi", 12, codec="mpeg4", bframes=2, fps=20)
    small(root, out)
    with PyAVReader(out / "clip.avi") as reader:
        times = [reader.time_of(k) for k in range(12)]
    assert [b - a for a, b in pairwise(times)] == pytest.approx([0.05] * 11)


def test_sound_is_dropped(root, out):
    video, sound = write_video(root.parent / "video.mp4", 10), write_audio(root.parent / "sound.mp4")
    with av.open(str(video)) as one, av.open(str(sound)) as two, av.open(str(root / "both.mp4"), "w") as both:
        streams = [(source, both.add_stream_from_template(source.streams[0])) for source in (one, two)]
        for source, stream in streams:
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    both.mux(packet)
    small(root, out)
    with av.open(str(out / "both.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert indices_from_pixels(frames_of(out / "both.mp4")) == list(range(10))


def test_the_copy_is_a_root_for_the_same_datamodule(root, out):
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    (root / "UCF-101" / "Archery").mkdir(parents=True)
    write_video(root / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi", 20, codec="mpeg4", bframes=2)
    small(root, out)
    before, after = (UCF101(root=str(folder)).items("test", 1)[0] for folder in (root, out))
    assert (before.id, before.label) == (after.id, after.label)
    assert indices_from_pixels(frames_of(after.path)) == list(range(20))


def test_bad_videos_are_named_and_nothing_is_lost(root, out):
    whole = write_video(root / "good.mp4", colored_frames(31), container_options={"movflags": "+faststart"})
    cut(whole, root / "cut.mp4", 0.8)
    (root / "text.mp4").write_text("no video")
    (root / "link.mp4").symlink_to(root / "gone.mp4")
    report = small(root, out)
    causes = {finding.where: finding.text for finding in report.findings}
    assert list(causes) == ["cut.mp4", "link.mp4", "text.mp4"]
    assert "of 31 frames" in causes["cut.mp4"]
    assert "copied as it is" in causes["cut.mp4"]
    assert "not copied" in causes["link.mp4"]
    assert report.exit_code == 1
    for name in ("cut.mp4", "text.mp4"):
        assert (out / name).read_bytes() == (root / name).read_bytes()
    assert indices_from_pixels(frames_of(out / "good.mp4")) == list(range(31))
    assert small(root, out).findings == report.findings, "a second call says so again"


@pytest.fixture
def encoded(monkeypatch):
    """Names of the videos that were encoded."""
    names = []
    encode = module._encode
    monkeypatch.setattr(module, "_encode", lambda source, *rest: names.append(source.name) or encode(source, *rest))
    return names


def test_a_second_call_does_what_is_left_or_has_changed(root, out, encoded):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(root / name, 6)
    small(root, out)
    assert encoded == ["a.mp4", "b.mp4", "c.mp4"]
    encoded.clear()
    small(root, out)
    assert encoded == []
    write_video(root / "a.mp4", 9)
    (out / "b.mp4").unlink()
    small(root, out)
    assert encoded == ["a.mp4", "b.mp4"]
    assert len(frames_of(out / "a.mp4")) == 9
    encoded.clear()
    small(root, out, resize=32)
    assert len(encoded) == 3


def test_a_killed_call_is_taken_up(root, out, encoded):
    for name in ("a.mp4", "b.mp4"):
        write_video(root / name, 6)
    small(root, out)
    log = out / "prepared.jsonl"
    log.write_text(log.read_text()[:-20])  # the last line was being written
    encoded.clear()
    small(root, out)
    assert encoded == ["b.mp4"]
    encoded.clear()
    small(root, out)
    assert encoded == []


def test_an_interrupted_encoding_leaves_no_file(root, out, monkeypatch):
    write_video(root / "a.mp4", 6)

    def interrupted(source, target, *rest):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(root, out)
    assert [path.name for path in out.iterdir()] == ["prepared.jsonl"]
    monkeypatch.undo()
    assert small(root, out).findings == ()


def test_processes_make_the_same_copies(root, out):
    for k in range(3):
        write_video(root / f"{k}.mp4", moving_frames(8, seed=k))
    small(root, out)
    prepare(root, out.parent / "other", workers=2, progress=False)
    for k in range(3):
        assert (out / f"{k}.mp4").read_bytes() == (out.parent / "other" / f"{k}.mp4").read_bytes()


def test_lists_are_copied_and_other_files_are_not(root, out):
    write_video(root / "a.mp4", 3)
    (root / "lists").mkdir()
    (root / "lists" / "train.txt").write_text("a.mp4 0\n")
    (root / "videos.zip").write_bytes(b"large")
    (root / "._a.mp4").write_bytes(b"left by a copying desktop")
    small(root, out)
    assert (out / "lists" / "train.txt").read_text() == "a.mp4 0\n"
    assert sorted(path.name for path in out.iterdir()) == ["a.mp4", "lists", "prepared.jsonl"]


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_a_copy_inside_its_original_is_refused(root, place):
    write_video(root / "a.mp4", 3)
    with pytest.raises(ConfigError, match="lie in one another"):
        small(root, root / place)


def test_a_size_that_is_none_and_a_folder_without_videos_are_refused(root, out):
    with pytest.raises(ConfigError, match="resize is 0"):
        small(root, out, resize=0)
    for wrong in (root, root / "nowhere"):
        with pytest.raises(DataError, match=str(wrong)):
            small(wrong, out)
    assert not out.exists()


# -- subset -----------------------------------------------------------------------------------------------------------

NAMES = ("run, fast", "walk")


class Fake(VideoDataset):
    folder = "fake"
    variants = ("fake",)
    spans = False

    def __init__(self, root):
        super().__init__(str(root), None, Subset(), Subset(), None)

    @property
    def spec(self):
        return DatasetSpec("fake", NAMES)

    def items(self, part, split):
        if part == "validation":
            return []
        items = read_path_label(self.root / f"{part}.txt", self.root)
        return [item._replace(span=(0.0, 1.0)) for item in items] if self.spans else items


@pytest.fixture
def dataset(root):
    for part in ("train", "test"):
        names = [f"{part}/{label}/{k}.mp4" for label in (0, 1) for k in range(5)]
        (root / f"{part}.txt").write_text("".join(f"{name} {name.split('/')[1]}\n" for name in names))
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
    return Fake(root)


def test_a_subset_has_as_many_videos_of_each_class_as_asked_for(dataset, out):
    subset(dataset, out, videos=2)
    assert (out / "classes.txt").read_text().splitlines() == list(NAMES)
    for part in ("train", "test"):
        items = read_csv(out / f"{part}.csv", out, class_names=NAMES)
        assert sorted(item.label for item in items) == [0, 0, 1, 1]
        for item in items:
            assert item.path.read_text() == item.id
            assert item.id.startswith(f"{part}/{item.label}/")
    assert not (out / "validation.csv").exists()


def test_a_subset_is_a_root_of_folder_videos(dataset, out):
    subset(dataset, out, videos=3)
    copy = FolderVideos(root=str(out))
    assert copy.spec.class_names == NAMES
    for part in ("train", "test"):
        assert {item.id: item.label for item in copy.items(part, 1)}.items() <= {
            item.id: item.label for item in dataset.items(part, 1)
        }.items()
        assert len(copy.items(part, 1)) == 6
    assert copy.items("validation", 1) == []


def test_a_subset_depends_on_its_seed_alone(dataset, out):
    def ids(folder, **options):
        subset(dataset, folder, videos=2, **options)
        return (folder / "train.csv").read_text()

    assert ids(out / "1") == ids(out / "2")
    assert len({ids(out / f"seed{seed}", seed=seed) for seed in range(5)}) > 1


def test_videos_that_are_not_there_are_not_drawn(dataset, out, root):
    for k in range(3):
        (root / "test" / "1" / f"{k}.mp4").unlink()
    subset(dataset, out, videos=2)
    items = read_csv(out / "test.csv", out, class_names=NAMES)
    assert [item.id for item in items if item.label == 1] == ["test/1/3.mp4", "test/1/4.mp4"]
    for path in (root / "test" / "1").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="'walk' has no video"):
        subset(dataset, out.parent / "other")
    assert not (out.parent / "other").exists(), "the same command can be repeated"


def test_ids_without_extension_get_that_of_the_file(dataset, out, root, monkeypatch):
    items = [VideoItem(root / "train" / str(label) / "0.mp4", label, f"val/abc_{label}.00") for label in (0, 1)]
    monkeypatch.setattr(dataset, "items", lambda part, split: items if part == "test" else [])
    subset(dataset, out, videos=1)
    assert (out / "val" / "abc_0.00.mp4").read_text() == "train/0/0.mp4"
    assert (out / "test.csv").read_text().startswith('"path","class"\n"val/abc_0.00.mp4",')


def test_a_folder_with_something_in_it_and_parts_of_files_are_refused(dataset, out, root):
    with pytest.raises(ConfigError, match="not empty"):
        subset(dataset, root)
    dataset.spans = True
    with pytest.raises(ConfigError, match="parts of files"):
        subset(dataset, out)
