"""Odd and broken files: each decodes right, or is an error that names file and cause; never another frame.

Missing, empty, textual, silent (audio only), cut and damaged files, HEVC, AV1, rotation and permissions are also in
`test_decoding.py`, file by file; here is what becomes of them in a dataset.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.fakes import (
    colored_frames,
    cut,
    decode_sequentially,
    indices_from_pixels,
    patch_duration,
    retime,
    write_audio,
    write_video,
)
from vlbench.clips import readers
from vlbench.clips.container import open_container
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.decoding import Backend, open_video
from vlbench.clips.options import LoadingOptions
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.specs import DatasetSpec
from vlbench.errors import DecodeError
from vlbench.tools.doctor.probe import probe

QUIET = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
PRESET = {"preset": "12", "svtav1-params": "lp=1"}
SWAPPED = [0, *(k for pair in zip(range(2, 23, 2), range(1, 22, 2), strict=True) for k in pair), 23]


# -- odd files, which decode right ------------------------------------------------------------------------------------

# name -> how many frames it has, and what makes it
ODD: dict[str, tuple[int, Callable[[Path], Path]]] = {
    "one_frame.mp4": (1, lambda path: write_video(path, 1)),
    "one_frame.avi": (1, lambda path: write_video(path, 1, codec="mpeg4")),
    "no_duration.mp4": (
        24,
        lambda path: patch_duration(patch_duration(write_video(path, 24), b"mvhd"), b"mdhd"),
    ),
    "no_duration_one_frame.mp4": (
        1,
        lambda path: patch_duration(patch_duration(write_video(path, 1), b"mvhd"), b"mdhd"),
    ),
    "h264_10_bit.mp4": (24, lambda path: write_video(path, 24, bframes=2, pix_fmt="yuv420p10le")),
    "hevc.mp4": (24, lambda path: write_video(path, 24, codec="libx265", options=QUIET)),
    "hevc_10_bit.mkv": (
        24,
        lambda path: write_video(path, 24, codec="libx265", options=QUIET, pix_fmt="yuv420p10le"),
    ),
    "av1.mp4": (24, lambda path: write_video(path, 24, codec="libsvtav1", options=PRESET)),
    "av1_10_bit.mkv": (
        24,
        lambda path: write_video(path, 24, codec="libsvtav1", options=PRESET, pix_fmt="yuv420p10le"),
    ),
    "full_range.avi": (24, lambda path: write_video(path, 24, codec="mjpeg", pix_fmt="yuvj420p")),
    "odd_sides.mp4": (24, lambda path: write_video(path, colored_frames(24, 65, 97), pix_fmt="yuv444p")),
    "odd_sides.avi": (24, lambda path: write_video(path, colored_frames(24, 65, 97), codec="mpeg4")),
    "odd_sides.webm": (
        24,
        lambda path: write_video(path, colored_frames(24, 65, 97), codec="libvpx-vp9", options={"cpu-used": "8"}),
    ),
    "tiny.mp4": (24, lambda path: write_video(path, colored_frames(24, 2, 2), pix_fmt="yuv444p")),
    "portrait.mp4": (24, lambda path: write_video(path, colored_frames(24, 128, 36), bframes=2)),
    "variable_rate.mp4": (
        24,
        lambda path: retime(write_video(path.with_name("even.mp4"), 24), path, [*range(12), *range(40, 52)]),
    ),
    "unordered_times.mp4": (24, lambda path: retime(write_video(path.with_name("even.mp4"), 24), path, SWAPPED)),
    "unordered_times.mkv": (24, lambda path: retime(write_video(path.with_name("even.mp4"), 24), path, SWAPPED)),
}
# torchcodec (FFmpeg 5.1) turns these into RGB by other rounding than PyAV 18 (FFmpeg 8.1). Of the second,
# torchcodec 0.11 differs by one level, 0.2 to 0.5 by two.
ROUNDED = {("torchcodec", "hevc_10_bit.mkv"): 3, ("torchcodec", "odd_sides.webm"): 2}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_decodes_right(name: str, backend: Backend, tmp_path: Path) -> None:
    count, make = ODD[name]
    path = make(tmp_path / name)
    expected = decode_sequentially(path)
    assert indices_from_pixels(expected) == list(range(count)), "or the file is not what its name says"
    with open_video(path, backend=backend) as reader:
        assert reader.num_frames == count
        together = reader.frames_at(range(count))
        singly = torch.cat([reader.frames_at([k]) for k in reversed(range(count))]).flip(0)
    tolerance = ROUNDED.get((backend, name), 0)
    for frames in (together, singly):
        assert indices_from_pixels(frames) == list(range(count))
        assert (frames.int() - expected.int()).abs().max() <= tolerance


def test_a_grey_file_has_three_equal_channels(backend: Backend, tmp_path: Path) -> None:
    steps = np.linspace(20, 230, 24).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(steps[:, None, None, None], (24, 48, 64, 3)))
    path = write_video(tmp_path / "grey.mp4", pixels, pix_fmt="gray")
    with open_video(path, backend=backend) as reader:
        frames = reader.frames_at(range(24))
    assert torch.equal(frames, decode_sequentially(path))
    assert torch.equal(frames, frames[:, :1].expand_as(frames))
    assert (frames.float().mean((1, 2, 3)).diff() > 5).all(), "brighter from frame to frame"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_names_and_metadata_need_not_be_utf8(suffix: str, backend: Backend, tmp_path: Path) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    whole = write_video(tmp_path / f"whole{suffix}", 24, codec=codec)
    path = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    data = whole.read_bytes()
    path.write_bytes(data.replace(b"Lavf", b"Lav\xe9"))  # the name of the program that wrote the file
    assert path.read_bytes() != data, "or the metadata is as it was"
    with av.open(str(whole)) as one, open_container(path) as other:
        for key, text in one.metadata.items():
            assert other.metadata[key] == text.replace("Lavf", "Lav\udce9")
    with open_video(path, backend=backend) as reader:
        frames = reader.frames_at(range(24))
    assert torch.equal(frames, decode_sequentially(whole))
    assert probe(path) == probe(whole)


# -- broken files in a dataset ----------------------------------------------------------------------------------------


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("no video\n" * 50)


def truncated(path: Path) -> None:
    whole = write_video(path.with_suffix(".whole.mp4"), 40, container_options={"movflags": "+faststart"})
    cut(whole, path, 0.7)


def headless(path: Path) -> None:
    cut(write_video(path.with_suffix(".whole.mp4"), 40), path, 0.7)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "empty": (empty, "Invalid data"),
    "text": (text, "Invalid data"),
    "audio": (write_audio, "no video stream"),
    "headless": (headless, "no video stream"),
    "truncated": (truncated, r"no frame \d+, decoding yields \d+ frames"),
}


class Folder(VideoDataset):
    """`train.txt` and `test.txt` are the same list."""

    folder = "fake"
    variants = ("fake",)

    @property
    def spec(self) -> DatasetSpec:
        return DatasetSpec("fake", ("good", "bad"))

    def items(self, part: str, split: int) -> list:
        return [] if part == "validation" else read_path_label(self.root / "list.txt", self.root)


class FolderDataModule(VideoDataModule):
    dataset_class = Folder


def datamodule(root: Path, **options: object) -> FolderDataModule:
    data = FolderDataModule(root=str(root), image_size=32, batch_size=2, frames=8, **{"num_workers": 0, **options})  # type: ignore[arg-type]
    data.setup("test")
    return data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("broken")
    for kind, (make, _) in BROKEN.items():
        make(root / f"{kind}.mp4")
    for k in range(2):
        write_video(root / f"good_{k}.mp4", 12)
    names = [*(f"{kind}.mp4 1" for kind in BROKEN), "good_0.mp4 0", "good_1.mp4 0"]
    (root / "list.txt").write_text("\n".join(names))
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_every_broken_test_video_is_counted_and_says_why(root: Path, backend: Backend, workers: int) -> None:
    batches = list(datamodule(root, loading=LoadingOptions(backend=backend), num_workers=workers).test_dataloader())
    failures = {name: failure for batch in batches for name, failure in batch.failures.items()}
    assert set(failures) == {f"{kind}.mp4" for kind in BROKEN}
    for kind, (_, cause) in BROKEN.items():
        label, text = failures[f"{kind}.mp4"]
        assert label == 1
        with pytest.raises(DecodeError, match=cause):
            raise DecodeError(root / f"{kind}.mp4", text)
    assert sorted(name for batch in batches for name in batch.ids) == ["good_0.mp4", "good_1.mp4"]


@pytest.mark.parametrize("name", ["one_frame.mp4", "tiny.mp4", "portrait.mp4", "unordered_times.mp4"])
def test_odd_videos_become_clips_of_the_usual_size(name: str, tmp_path: Path) -> None:
    ODD[name][1](tmp_path / name)
    (tmp_path / "list.txt").write_text(f"{name} 0\n")
    data = datamodule(tmp_path)
    (test,) = data.test_dataloader()
    (train,) = data.train_dataloader()
    (views,) = test.views()
    assert views.shape == (1, 1, 8, 3, 32, 32)
    assert train.video.shape == (1, 8, 3, 32, 32)


def test_a_worker_that_dies_ends_the_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = readers.open_video

    def die(path: Path, **options: object) -> object:
        if path.name == "good_1.mp4":
            assert multiprocessing.parent_process() is not None, "that would kill the process of the tests"
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        return opened(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(readers, "open_video", die)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .*(killed by signal|exited unexpectedly)"):
        list(datamodule(root, num_workers=2).test_dataloader())
