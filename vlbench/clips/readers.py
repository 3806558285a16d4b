"""Datasets of clips, read from videos as training and evaluation ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlbench.clips import sampling
from vlbench.clips.batch import Clip
from vlbench.clips.decoding import VideoReader, open_video
from vlbench.clips.options import Backend, Sampling, Views
from vlbench.clips.transforms import test_views
from vlbench.datasets.specs import VideoItem
from vlbench.errors import ConfigError, DecodeError


class TrainClips(Dataset[Clip]):
    """Random clips; the draw depends on seed, epoch and position alone, never on the worker.

    Args:
        items: Videos that clips are read from.
        frames: Number T of frames of a clip.
        sampling: Choice of a clip's frames, see `Sampling`.
        transform: Function from uint8 `(T, 3, H, W)` to uint8 `(T, 3, S, S)`; draws from torch's global generator.
        backend: Decoder of the videos.
        seed: Seed of every draw.
        shared_ends: Whether neighbouring segments share a frame.
    """

    def __init__(
        self,
        items: Sequence[VideoItem],
        *,
        frames: int,
        sampling: Sampling,
        transform: Callable[[Tensor], Tensor],
        backend: Backend,
        seed: int,
        shared_ends: bool = True,
    ) -> None:
        self.items = items
        self.frames = frames
        self.pick = _train_picker(sampling, shared_ends)
        self.transform = transform
        self.backend = backend
        self.seed = seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        index, draw = key
        item = self.items[index]
        seed = int(np.random.SeedSequence([self.seed, draw, index]).generate_state(1)[0])
        try:
            with open_video(item.path, backend=self.backend) as reader:
                generator = torch.Generator().manual_seed(seed)
                shown = _frames_of(item, reader)
                video = reader.frames_at([shown[k] for k in self.pick(len(shown), self.frames, generator=generator)])
        except DecodeError as error:
            return Clip(None, item.label, item.id, error.cause)
        # torchvision's transforms know the global generator only. `torch.manual_seed` would also seed accelerators, and
        # without one format three stack traces a clip, a tenth of the time that a short clip takes.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Clip(self.transform(video), item.label, item.id)


class TestViews(Dataset[Clip]):
    """Every view of a video, the same at every call.

    Args:
        items: Videos that clips are read from.
        frames: Number T of frames of each view.
        sampling: Choice of a clip's frames, see `Sampling`.
        views: Clips and crops of a video, V = clips x crops views.
        size: Side of the crops, in pixels.
        resize: Short side before cropping, in pixels.
        backend: Decoder of the videos.
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
    ) -> None:
        self.items = items
        self.frames = frames
        self.pick = _test_picker(sampling)
        self.views = views
        self.size = size
        self.resize = resize
        self.backend = backend

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Clip:
        item = self.items[index]
        try:
            with open_video(item.path, backend=self.backend) as reader:
                shown = _frames_of(item, reader)
                clips = self.pick(len(shown), self.frames, self.views.clips)
                frames = reader.frames_at([shown[k] for clip in clips for k in clip])
        except DecodeError as error:
            return Clip(None, item.label, item.id, error.cause)
        crops = test_views(
            frames, size=self.size, resize=self.resize, crops=self.views.crops, right_edge=self.views.right_edge
        )
        return Clip(crops.unflatten(1, (-1, self.frames)).flatten(0, 1), item.label, item.id)


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


def _frames_of(item: VideoItem, reader: VideoReader) -> range:
    """Numbers of the frames that clips are sampled from."""
    return range(reader.num_frames) if item.span is None else reader.frames_between(*item.span)
