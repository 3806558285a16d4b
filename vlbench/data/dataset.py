"""Datasets of clips, and the samplers that decide who reads which one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vlbench.data import sampling
from vlbench.data.batch import Clip
from vlbench.data.decoding import Backend, VideoReader, open_video
from vlbench.data.specs import VideoItem
from vlbench.data.transforms import test_views
from vlbench.errors import ConfigError, DecodeError

Sampling = Literal["uniform", "dense", "pytorchvideo"]
"""How the frames of a clip are chosen: `uniform`, spread over the whole video; `dense`, out of 128 neighbouring ones as
MoTE's released code does; `pytorchvideo`, out of 128 neighbouring ones where that library's clip samplers put them."""


@dataclass(frozen=True)
class Views:
    """How many times a test video is looked at.

    Attributes:
        clips: sets of frames, taken at shifted times.
        crops: squares of each frame: 1, the centre, or 3 along the longer side.
        right_edge: where the second of three crops lies: `exact`, at the edge, or `quarters`, up to three pixels short
            of it, as in MoTE's released code.
    """

    clips: int = 1
    crops: Literal[1, 3] = 1
    right_edge: Literal["exact", "quarters"] = "exact"

    def __post_init__(self) -> None:
        if self.clips < 1 or self.crops not in (1, 3):
            raise ConfigError(
                f"views are {self.clips} clips x {self.crops} crops; allowed: 1 or more clips, 1 or 3 crops"
            )


class TrainClips(Dataset[Clip]):
    """Random clips; the draw depends on seed, epoch and position alone, never on the worker.

    Args:
        items: the videos.
        frames: T.
        sampling: see `Sampling`.
        transform: uint8 `(T, 3, H, W)` to uint8 `(T, 3, S, S)`; draws from torch's global generator.
        backend: decoder.
        seed: of every draw.
        shared_ends: whether neighbouring segments share a frame.
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
        # torchvision's transforms know the global generator only.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Clip(self.transform(video), item.label, item.id)


class TestViews(Dataset[Clip]):
    """Every view of a video, the same at every call.

    Args:
        items: the videos.
        frames: T of each view.
        sampling: see `Sampling`.
        views: V = clips x crops.
        size: side of the crops, in pixels.
        resize: short side before cropping, in pixels.
        backend: decoder.
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
        return import_module("vlbench.data.pytorchvideo")
    except ImportError as error:
        raise ConfigError(
            f"sampling is 'pytorchvideo', which cannot be loaded ({error}); pip install pytorchvideo, or one of: "
            "uniform, dense"
        ) from error


def _frames_of(item: VideoItem, reader: VideoReader) -> range:
    """Numbers of the frames that clips are sampled from."""
    return range(reader.num_frames) if item.span is None else reader.frames_between(*item.span)


class TrainSampler(Sampler[tuple[int, int]]):
    """Shuffled positions for one of several processes, each with a number that seeds its augmentation.

    All processes draw the same order and take every `world_size`-th position of it. The order is filled up to a
    multiple of `world_size`, as training needs the same number of steps everywhere. With an effective batch it is cut
    to whole ones instead, at least one: the k-th step sees the same clips whatever the number of processes.

    Args:
        size: number of videos.
        epoch_size: positions an epoch; above `size` the videos come several times, each time with another draw.
        effective_batch: clips of an optimizer step, over all processes; a multiple of `world_size`.
        seed: of the order.
        rank, world_size: which process this is.
    """

    def __init__(
        self,
        size: int,
        *,
        epoch_size: int | None = None,
        effective_batch: int | None = None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size = size
        self.epoch_size = epoch_size or size
        if effective_batch is not None:
            self.epoch_size = max(1, self.epoch_size // effective_batch) * effective_batch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.epoch_size // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        )
        total = len(self) * self.world_size
        rounds = -(-total // self.size)
        order = [
            (index, self.epoch * rounds + k)
            for k in range(rounds)
            for index in torch.randperm(self.size, generator=generator).tolist()
        ]
        return iter(order[:total][self.rank :: self.world_size])


def micro_batches(effective_batch: int, processes: int, at_most: int) -> tuple[int, int]:
    """How many clips each process takes at once, and how often it does so in an optimizer step.

    All micro-batches are equally large: only then is the mean of their gradients that of the whole batch.

    Args:
        effective_batch: clips of an optimizer step, over all processes.
        processes: their number.
        at_most: clips a process can take at once.

    Raises:
        ConfigError: if the clips cannot be shared out equally.
    """
    share, rest = divmod(effective_batch, processes)
    if rest:
        divisors = [n for n in range(1, effective_batch + 1) if effective_batch % n == 0]
        raise ConfigError(
            f"effective_batch is {effective_batch} with {processes} processes; allowed: "
            f"{', '.join(map(str, divisors))} processes, or a multiple of {processes}"
        )
    size = max(n for n in range(1, min(at_most, share) + 1) if share % n == 0)
    return size, share // size


class UnpaddedSampler(Sampler[int]):
    """Every position exactly once over all processes; some processes may have one fewer, or none."""

    def __init__(self, size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self._positions = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)
