"""Tiny videos whose frame `k` has a known colour, so that tests read frame numbers from pixels."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.io import write_jpeg, write_png

from vlbench.clips.transforms import test_frames
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.specs import DatasetSpec

_LEVELS = (20, 63, 106, 149, 192, 235)  # six steps per channel, far enough apart to survive yuv420 and compression
MAX_FRAMES = len(_LEVELS) ** 3


def color_of(index: int) -> tuple[int, int, int]:
    """RGB colour of frame `index`, 0 <= index < 216; neighbours differ strongly."""
    shuffled = index * 89 % MAX_FRAMES  # 89 and 216 share no divisor
    return _LEVELS[shuffled // 36], _LEVELS[shuffled // 6 % 6], _LEVELS[shuffled % 6]


def index_from_pixels(frame: Tensor) -> int:
    """The number of a frame `(3, H, W)` painted by `colored_frames`, after any resize or crop."""
    mean = frame.float().mean((-2, -1))
    digits = (mean[:, None] - torch.tensor(_LEVELS)).abs().argmin(1).tolist()
    return (digits[0] * 36 + digits[1] * 6 + digits[2]) * pow(89, -1, MAX_FRAMES) % MAX_FRAMES


def indices_from_pixels(frames: Tensor) -> list[int]:
    """`index_from_pixels` of each frame of `(T, 3, H, W)`."""
    return [index_from_pixels(frame) for frame in frames]


def colored_frames(count: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """`(count, height, width, 3)` uint8, frame `k` filled with `color_of(k)`."""
    colors = np.array([color_of(k) for k in range(count)], dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colors[:, None, None], (count, height, width, 3)))


def moving_frames(count: int, height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """`(count, height, width, 3)` uint8: a panning picture, so that encoders really predict from neighbours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 8 + 2, width // 8 + 2, 3)).astype(np.float32)
    picture = np.kron(coarse, np.ones((16, 16, 1), dtype=np.float32)).astype(np.uint8)
    return np.stack([np.roll(picture, (k, 2 * k), (0, 1))[:height, :width] for k in range(count)])


@contextlib.contextmanager
def own_scheduling() -> Iterator[None]:
    """Context after which the thread is scheduled as before it.

    SVT-AV1 makes the thread that encodes a real-time one where root runs it, and leaves it so: what the process and its
    children do from then on comes before everything else, and on one core a child never runs while its parent waits.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_video(
    path: Path,
    frames: int | NDArray[np.uint8],
    *,
    codec: str = "libx264",
    fps: int = 25,
    gop: int = 12,
    bframes: int = 0,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    rotation: int = 0,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Encode `frames` (`(T, H, W, 3)` uint8, or how many coloured ones) and return `path`; its suffix is the container.

    `rotation` is written as display matrix, in degrees counterclockwise.
    """
    pixels = colored_frames(frames) if isinstance(frames, int) else frames
    with own_scheduling(), av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(options or {}))
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = bframes
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        for image in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def crops_of(frames: Tensor, **options: Any) -> Tensor:
    """Crops `(K, T, 3, S, S)` that `test_frames` names of frames `(T, 3, H, W)`."""
    resized, boxes = test_frames(frames, **options)
    return torch.stack([box.cut(resized) for box in boxes])


def write_audio(path: Path) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for k in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            frame.pts = 1024 * k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(source: Path, target: Path, share: float) -> Path:
    """The first `share` of a file's bytes."""
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        file.truncate(int(source.stat().st_size * share))
    return target


def decode_sequentially(path: Path) -> Tensor:
    """Every frame that plain PyAV decoding yields before it fails, `(T, 3, H, W)` uint8 as stored: the reference."""
    frames = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
    except av.FFmpegError:
        pass
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def retime(source: Path, target: Path, times: Sequence[int]) -> Path:
    """A copy of a video without B-frames whose packet `k` is shown at tick `times[k] + 2`; a tick is a frame's time.

    Times may come out of order, but none before `k - 2`.
    """
    with av.open(str(source)) as original, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        packets = [packet for packet in original.demux(video=0) if packet.size]
        tick = (packets[1].pts or 0) - (packets[0].pts or 0)
        in_order = list(times) == sorted(times)
        for k, (packet, time) in enumerate(zip(packets, times, strict=True)):
            packet.dts, packet.pts = (time if in_order else k) * tick, (time + 2) * tick
            packet.stream = stream
            copy.mux(packet)
    return target


def patch_duration(path: Path, box: bytes) -> Path:
    """Sets the duration in an MP4 file's `mvhd` or `mdhd` box (version 0) to 0, in place."""
    data = bytearray(path.read_bytes())
    start = data.index(box) + 4
    data[start + 16 : start + 20] = bytes(4)
    path.write_bytes(data)
    return path


class FakeDataset(VideoDataset):
    """Four classes; `train.txt` and `test.txt` below the root list the videos."""

    folder = "fake"
    variants = ("fake",)
    CLASSES = ("walk", "run", "jump", "sit")

    @property
    def spec(self):
        return DatasetSpec("fake", self.CLASSES, base_classes=(0, 2), source="nowhere")

    def items(self, part, split):
        if part == "validation":
            return []
        listing = self.root / f"{part}.txt"
        if not listing.is_file():
            raise self.missing(listing)
        return read_path_label(listing, self.root)


def dump_frames(video: Path, folder: Path, name: str = "img_{:05}.png", first: int = 1) -> Path:
    """Every frame of a video as a picture in `folder`, which is made; PNG pictures have the same pixels."""
    folder.mkdir(parents=True)
    write_pictures(decode_sequentially(video), folder, name, first)
    return folder


def write_pictures(frames: Tensor, folder: Path, name: str, first: int = 1) -> None:
    """Frames `(T, 3, H, W)` uint8 as pictures; the name's extension says which kind."""
    write = write_jpeg if name.lower().endswith(("jpg", "jpeg")) else write_png
    for number, frame in enumerate(frames, start=first):
        write(frame.contiguous(), str(folder / name.format(number)))


def pack(folder: Path, tar: Path, below: str = "") -> Path:
    """A tar of all files below a folder, which stays, under their paths below it and those below `below`."""
    with tarfile.open(tar, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.add(path, below + path.relative_to(folder).as_posix())
    return tar
