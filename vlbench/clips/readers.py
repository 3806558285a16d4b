"""Datasets of clips, read from videos as training and evaluation ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from itertools import chain
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlbench.clips import sampling
from vlbench.clips.batch import Box, Clip, Draw
from vlbench.clips.container import cause_of
from vlbench.clips.decoding import VideoReader, open_video
from vlbench.clips.options import Backend, Interpolation, ResizeMode, Sampling, ViewOrder, Views
from vlbench.clips.orders import clips_in, shown_in
from vlbench.clips.transforms import Cut, test_frames
from vlbench.datasets.specs import VideoItem
from vlbench.errors import ConfigError, DecodeError


class TrainClips(Dataset[Clip]):
    """Random clips; the draw depends on seed, epoch and position alone, never on the worker.

    Args:
        items: Videos that clips are read from.
        frames: Number T of frames of a clip.
        sampling: Choice of a clip's frames, see `Sampling`.
        transform: Function from uint8 `(T, 3, H, W)` to uint8 `(T, 3, S, S)`, or to a `Cut` of which the model's device
            makes the clip; draws from torch's global generator.
        backend: Decoder of the videos.
        seed: Seed of every draw.
        device: Device that decodes and changes the frames; clips come in the main memory.
        shared_ends: Whether neighbouring segments share a frame.
    """

    def __init__(
        self,
        items: Sequence[VideoItem],
        *,
        frames: int,
        sampling: Sampling,
        transform: Callable[[Tensor], Tensor | Cut],
        backend: Backend,
        seed: int,
        device: str = "cpu",
        shared_ends: bool = True,
    ) -> None:
        self.items = items
        self.frames = frames
        self.pick = _train_picker(sampling, shared_ends)
        self.transform = transform
        self.backend = backend
        self.device = device
        self.seed = seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        index, draw = key
        item = self.items[index]
        seed = int(np.random.SeedSequence([self.seed, draw, index]).generate_state(1)[0])
        return clip_of(item, lambda: self._read(item, seed))

    def _read(self, item: VideoItem, seed: int) -> Clip:
        generator = torch.Generator().manual_seed(seed)
        with open_video(item.path, backend=self.backend, device=self.device) as reader:
            video = _frames(item, reader, lambda count: self.pick(count, self.frames, generator=generator))
        # torchvision's transforms know the global generator only. `torch.manual_seed` would also seed accelerators, and
        # without one format three stack traces a clip, a tenth of the time that a short clip takes.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            clip = self.transform(video)
        if isinstance(clip, Cut):
            return Clip(clip.box.cpu(), item.label, item.id, draw=Draw(seed, clip.height, clip.width))
        return Clip(clip.cpu(), item.label, item.id)


class TestViews(Dataset[Clip]):
    """Frames of a video and the crops that its views are, the same at every call.

    Args:
        items: Videos that clips are read from.
        frames: Number T of frames of each view.
        sampling: Choice of a clip's frames, see `Sampling`.
        views: Clips and crops of a video, V = clips x crops views, and the order of their frames.
        size: Side of the crops, in pixels.
        resize: Short side before cropping, in pixels.
        interpolation: Interpolation by which whole frames are resized.
        resize_mode: Whether the long side is resized in proportion or to `resize` as well.
        backend: Decoder of the videos.
        device: Device that decodes and resizes the frames; they come in the main memory.
    """

    __test__ = False  # pytest would take the name for a test case

    def __init__(
        self,
        items: Sequence[VideoItem],
        *,
        frames: int,
        sampling: Sampling,
        views: Views,
        size: int,
        resize: int,
        backend: Backend,
        interpolation: Interpolation = "bicubic",
        resize_mode: ResizeMode = "shortest",
        device: str = "cpu",
    ) -> None:
        self.items = items
        self.frames = frames
        self.pick = _test_picker(sampling)
        self.views = views
        self.size = size
        self.resize = resize
        self.interpolation = interpolation
        self.resize_mode = resize_mode
        self.backend = backend
        self.device = device

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Clip:
        return self.clip(self.items[index])

    def clip(self, item: VideoItem, reader: VideoReader | None = None) -> Clip:
        """Frames of any video and the crops that its views are, or why it cannot be read.

        Args:
            item: Video that is read.
            reader: Reader of the video's file; `None` opens the file.
        """

        def read() -> Clip:
            order = self.views.order
            frames, (places,), crops = self.read(item, [order], reader)
            return Clip(shown_in(order, frames, places), item.label, item.id, crops=crops)

        return clip_of(item, read)

    def read(
        self, item: VideoItem, orders: Sequence[ViewOrder], reader: VideoReader | None = None
    ) -> tuple[Tensor, Tensor, tuple[Box, ...]]:
        """Frames of a video for views in some orders, each frame once, from one decoding.

        Args:
            item: Video that is read.
            orders: Orders of the frames of the views.
            reader: Reader of the video's file; `None` opens the file.

        Returns:
            U resized frames, uint8 `(U, 3, h, w)`; their positions in the C clips of each of O orders, int64
            `(O, C, T)`; and the crops that are looked at.

        Raises:
            DecodeError: If the video cannot be read.
        """
        numbers: list[int] = []
        once: dict[int, int] = {}

        def wanted(count: int) -> list[int]:
            clips = [clips_in(order, self._clips, count, item.id) for order in orders]
            numbers[:] = chain(*chain(*clips))
            once.update((number, place) for place, number in enumerate(dict.fromkeys(numbers)))
            return list(once)

        opened = nullcontext(reader) if reader is not None else self.open(item)
        with opened as video:
            frames = _frames(item, video, wanted)
        resized, crops = test_frames(
            frames,
            size=self.size,
            resize=self.resize,
            crops=self.views.crops,
            right_edge=self.views.right_edge,
            interpolation=self.interpolation,
            resize_mode=self.resize_mode,
        )
        places = torch.tensor([once[number] for number in numbers]).view(len(orders), -1, self.frames)
        return resized.cpu(), places, crops

    def open(self, item: VideoItem) -> VideoReader:
        """A reader of a video's file, which may serve several parts of it.

        Args:
            item: Video whose file is opened.

        Raises:
            DecodeError: If the file cannot be read, or holds no video.
        """
        return open_video(item.path, backend=self.backend, device=self.device)

    def _clips(self, count: int) -> list[list[int]]:
        """Frame numbers of the clips of a video, or of a half of one, with a number of frames."""
        return self.pick(count, self.frames, self.views.clips)


def _train_picker(kind: Sampling, shared_ends: bool) -> Callable[..., list[int]]:
    if kind == "pytorchvideo":
        return partial(_pytorchvideo().random_clip, span=sampling.DENSE_SPAN)
    return sampling.dense_train if kind == "dense" else partial(sampling.uniform_train, shared_ends=shared_ends)


def _test_picker(kind: Sampling) -> Callable[..., list[list[int]]]:
    if kind == "pytorchvideo":
        return partial(_pytorchvideo().constant_clips, span=sampling.DENSE_SPAN)
    return sampling.dense_test if kind == "dense" else sampling.uniform_test


def _pytorchvideo() -> ModuleType:
    try:
        return import_module("vlbench.clips.pytorchvideo")
    except ImportError as error:
        raise ConfigError(
            f"sampling is 'pytorchvideo', which cannot be loaded ({error}); pip install pytorchvideo, or one of: "
            "uniform, dense"
        ) from error


def clip_of(item: VideoItem, read: Callable[[], Clip]) -> Clip:
    """A video as it is read, or why it cannot be: whatever one file does to a decoder, the others are read.

    Args:
        item: Video that is read.
        read: Reads the video and makes its clip.

    Raises:
        ConfigError: If no video could be read so, such as without the decoder's library.
        OutOfMemoryError: If a GPU that decodes is full, which is no fault of the video.
    """
    try:
        return read()
    except (ConfigError, torch.OutOfMemoryError):
        raise
    except DecodeError as error:
        return Clip(None, item.label, item.id, error.cause)
    except Exception as error:  # also a MemoryError, and what a library raises in a case that nobody has thought of
        return Clip(None, item.label, item.id, cause_of(error))


def _frames(item: VideoItem, reader: VideoReader, pick: Callable[[int], list[int]]) -> Tensor:
    """Frames `(N, 3, H, W)` uint8 of a video.

    Args:
        item: Video that is read.
        reader: Reader of the video's file.
        pick: Function from the number of frames, 1 or more, to the N numbers of those wanted.

    Raises:
        DecodeError: If the video cannot be read, has no frame or another number of frames than its list
            says, or the reader gives fewer than it promised.
    """
    if item.frames not in (None, reader.num_frames):
        raise DecodeError(item.path, f"it has {reader.num_frames} frames, and its list says {item.frames}")
    frames = range(reader.num_frames) if item.span is None else reader.frames_between(*item.span)
    if not frames:
        raise DecodeError(item.path, "decoding yields no frame")
    wanted = [frames[k] for k in pick(len(frames))]
    images = reader.frames_at(wanted)
    if len(images) != len(wanted):
        raise DecodeError(item.path, f"decoding yields {len(images)} of the {len(wanted)} frames of a clip")
    return images
