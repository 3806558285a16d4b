"""Datasets of clips, and the samplers that decide who reads which one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
        sampling: `uniform`, one frame in each of T segments, or `dense`, T frames of a span of 128.
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
        sampling: Literal["uniform", "dense"],
        transform: Callable[[Tensor], Tensor],
        backend: Backend,
        seed: int,
        shared_ends: bool = True,
    ) -> None:
        self.items = items
        self.frames = frames
        self.sampling = sampling
        self.transform = transform
        self.backend = backend
        self.seed = seed
        self.shared_ends = shared_ends

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        index, draw = key
        item = self.items[index]
        seed = int(np.random.SeedSequence([self.seed, draw, index]).generate_state(1)[0])
        uniform = partial(sampling.uniform_train, shared_ends=self.shared_ends)
        pick = uniform if self.sampling == "uniform" else sampling.dense_train
        try:
            with open_video(item.path, backend=self.backend) as reader:
                generator = torch.Generator().manual_seed(seed)
                shown = _frames_of(item, reader)
                video = reader.frames_at([shown[k] for k in pick(len(shown), self.frames, generator=generator)])
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
        sampling: `uniform` or `dense`.
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
        sampling: Literal["uniform", "dense"],
        views: Views,
        size: int,
        resize: int,
        backend: Backend,
    ) -> None:
        self.items = items
        self.frames = frames
        self.sampling = sampling
        self.views = views
        self.size = size
        self.resize = resize
        self.backend = backend

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Clip:
        item = self.items[index]
        pick = sampling.uniform_test if self.sampling == "uniform" else sampling.dense_test
        try:
            with open_video(item.path, backend=self.backend) as reader:
                shown = _frames_of(item, reader)
                clips = [[shown[k] for k in clip] for clip in pick(len(shown), self.frames, self.views.clips)]
                # Views share frames in short videos: each is read and resized once.
                wanted = sorted({frame for clip in clips for frame in clip})
                frames = reader.frames_at(wanted)
        except DecodeError as error:
            return Clip(None, item.label, item.id, error.cause)
        crops = test_views(
            frames, size=self.size, resize=self.resize, crops=self.views.crops, right_edge=self.views.right_edge
        )
        position = {frame: k for k, frame in enumerate(wanted)}
        rows = torch.tensor([[position[frame] for frame in clip] for clip in clips])
        return Clip(crops[:, rows].flatten(0, 1), item.label, item.id)


def _frames_of(item: VideoItem, reader: VideoReader) -> range:
    """Numbers of the frames that clips are sampled from."""
    return range(reader.num_frames) if item.span is None else reader.frames_between(*item.span)


class TrainSampler(Sampler[tuple[int, int]]):
    """Shuffled positions for one of several processes, each with a number that seeds its augmentation.

    All processes draw the same order and take every `world_size`-th position of it. The order is filled up from its
    start to a multiple of `world_size`, as training needs the same number of steps everywhere.

    Args:
        size: number of videos.
        epoch_size: positions an epoch; above `size` the videos come several times, each time with another draw.
        seed: of the order.
        rank, world_size: which process this is.
    """

    def __init__(
        self, size: int, *, epoch_size: int | None = None, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.size = size
        self.epoch_size = epoch_size or size
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


class UnpaddedSampler(Sampler[int]):
    """Every position exactly once over all processes; some processes may have one fewer, or none."""

    def __init__(self, size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self._positions = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)
