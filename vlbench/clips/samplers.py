"""Samplers that decide which process reads which video."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from vlbench.errors import ConfigError


class TrainSampler(Sampler[tuple[int, int]]):
    """Shuffled positions for one of several processes, each with a number that seeds its augmentation.

    All processes draw the same order and take every `world_size`-th position of it. The order is filled up to a
    multiple of `world_size`, as training needs the same number of steps everywhere. With an effective batch it is cut
    to whole ones instead, at least one, and a process takes neighbours of each: the k-th step sees the same clips, and
    neighbours stay together, whatever the number of processes.

    Args:
        size: Number of training videos.
        epoch_size: Positions an epoch; above `size` the videos come several times, each time with another draw.
        effective_batch: Clips of an optimizer step, over all processes; a multiple of `world_size`.
        seed: Seed of the order of the videos.
        rank, world_size: Which process this is.

    Example:
        >>> samplers = [TrainSampler(5, seed=0, rank=rank, world_size=2) for rank in range(2)]
        >>> [len(list(sampler)) for sampler in samplers]
        [3, 3]
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
        self._neighbours = 1 if effective_batch is None else effective_batch // world_size
        self.epoch = 0
        self._done = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def resume(self, epoch: int, positions: int) -> None:
        """Goes on in the middle of an epoch.

        Args:
            epoch: Number of the epoch.
            positions: Positions of the epoch that this process has read already; the length stays that of all.
        """
        self.epoch = epoch
        self._done = (epoch, positions)

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
        positions = [
            position
            for first in range(self.rank * self._neighbours, total, self.world_size * self._neighbours)
            for position in order[first : first + self._neighbours]
        ]
        epoch, done = self._done
        return iter(positions[done if epoch == self.epoch else 0 :])


def micro_batches(effective_batch: int, processes: int, at_most: int) -> tuple[int, int]:
    """How many clips each process takes at once, and how often it does so in an optimizer step.

    All micro-batches are equally large: only then is the mean of their gradients that of the whole batch.

    Args:
        effective_batch: Clips of an optimizer step, over all processes.
        processes: Number of training processes.
        at_most: Clips a process can take at once.

    Raises:
        ConfigError: If the clips cannot be shared out equally.

    Example:
        >>> micro_batches(144, processes=2, at_most=32)  # three times 24 clips in each process
        (24, 3)
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
    """Every position exactly once over all processes, whose batches are the same for any number of processes.

    The positions are cut into batches in their order, of which the last may be smaller, and a process takes every
    `world_size`-th one: some processes may have a batch fewer, or none. How many videos go through a tower at once
    decides how its sums are rounded, so equal batches give equal bits.

    Args:
        size: Number of videos to evaluate.
        batch_size: Positions that a process takes at once.
        rank, world_size: Which process this is.

    Example:
        >>> [list(UnpaddedSampler(5, batch_size=2, rank=rank, world_size=2)) for rank in range(2)]
        [[0, 1, 4], [2, 3]]
    """

    def __init__(self, size: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        starts = range(rank * batch_size, size, world_size * batch_size)
        self._positions = [start + offset for start in starts for offset in range(min(batch_size, size - start))]

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)
