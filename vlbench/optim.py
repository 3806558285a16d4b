"""The learning-rate schedule of the papers, in optimizer steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from vlbench.errors import ConfigError
from vlbench.ranges import COUNTS, SHARES, Range


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then half a cosine.

    Attributes:
        warmup_epochs: Length of the warm-up, in epochs.
        final_ratio: Learning rate at the end, as a part of the peak, in [0, 1].
        refresh_every: Updates between two changes of the learning rate. 1 changes it at every update; MoTE's released
            code has 10, counted within an epoch, which leaves it at 0 for the first nine updates.
        cosine_from: Update at which the cosine begins: `warmup_end`, or `start`, the first update, which makes the
            learning rate drop when the warm-up ends, as in ViFi-CLIP's released code.
        lag: Updates by which the learning rate is late, in parts of one too; 0 is on time. Released code that advances
            the schedule after an update, and counts batches of which several make an update, has 1 / their number.
        initial_ratio: Learning rate at the beginning of the warm-up, as a part of the peak, in [0, 1].
        floor: What the learning rates of parameters with different peaks end at: `relative`, each at `final_ratio` of
            its own peak, or `absolute`, all at `final_ratio` of the lowest peak, as timm's schedule does.

    Example:
        >>> schedule = Schedule(warmup_epochs=2, final_ratio=0.01)
        >>> [schedule.factor(step, steps_per_epoch=10, total_steps=100) for step in (0, 10, 20)]
        [0.0, 0.5, 1.0]
    """

    warmup_epochs: float = 5.0
    final_ratio: float = 0.0
    refresh_every: int = 1
    cosine_from: Literal["warmup_end", "start"] = "warmup_end"
    lag: float = 0.0
    initial_ratio: float = 0.0
    floor: Literal["relative", "absolute"] = "relative"

    def __post_init__(self) -> None:
        Range(0, 1_000_000).check("warmup_epochs", self.warmup_epochs)
        SHARES.check("final_ratio", self.final_ratio)
        COUNTS.check("refresh_every", self.refresh_every)
        if self.cosine_from not in ("warmup_end", "start"):
            raise ConfigError(f"cosine_from is {self.cosine_from!r}; allowed: 'warmup_end', 'start'")
        Range(0, 1_000_000).check("lag", self.lag)
        SHARES.check("initial_ratio", self.initial_ratio)
        if self.floor not in ("relative", "absolute"):
            raise ConfigError(f"floor is {self.floor!r}; allowed: 'relative', 'absolute'")

    def factor(self, step: int, *, steps_per_epoch: int, total_steps: int, part: float = 1.0) -> float:
        """Part of the peak learning rate that update `step` (counted from 0) runs at.

        Update `step` of an epoch keeps the value of the last refresh: the epoch's first update, or the last one whose
        number within the epoch, plus one, is a multiple of `refresh_every`.

        Args:
            step: Number of the update.
            steps_per_epoch: Number of updates of an epoch.
            total_steps: Number of updates of the training.
            part: Lowest peak of all parameters, as a part of this one, in [0, 1].
        """
        now = self._clock(step, steps_per_epoch)
        warmup = min(self.warmup_epochs * steps_per_epoch, total_steps)
        return self._risen(now, warmup) if now < warmup else self._fallen(now, warmup, total_steps, part)

    def _clock(self, step: int, steps_per_epoch: int) -> float:
        """Number of the update whose learning rate update `step` has."""
        if self.refresh_every > 1:
            epoch, within = divmod(step, steps_per_epoch)
            step = epoch * steps_per_epoch + max(0, (within + 1) // self.refresh_every * self.refresh_every - 1)
        return max(0, step - self.lag)

    def _risen(self, now: float, warmup: float) -> float:
        """Part of the peak in the warm-up."""
        return self.initial_ratio + (1 - self.initial_ratio) * now / warmup

    def _fallen(self, now: float, warmup: float, total_steps: int, part: float) -> float:
        """Part of the peak on the cosine."""
        begin = warmup if self.cosine_from == "warmup_end" else 0.0
        progress = max(0.0, now - begin) / max(1e-9, total_steps - begin)
        final = self.final_ratio * (part if self.floor == "absolute" else 1)
        return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int, total_steps: int) -> LambdaLR:
        """The schedule bound to an optimizer; to be advanced once an update.

        Args:
            optimizer: Optimizer whose groups have their peaks as `lr`.
            steps_per_epoch: Number of updates of an epoch.
            total_steps: Number of updates of the training.
        """
        peaks = [group["lr"] for group in optimizer.param_groups]
        parts = [min(peaks) / peak if peak else 1.0 for peak in peaks]
        factor = partial(self.factor, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        return LambdaLR(optimizer, [partial(factor, part=part) for part in parts])


@dataclass(frozen=True)
class EpochSchedule(Schedule):
    """Half a cosine that falls from epoch to epoch, times a linear warm-up that rises from update to update.

    It is mmcv's, which begins the cosine with the first epoch. A warm-up that ends between two updates keeps its last
    value until the next epoch begins.

    Example:
        >>> schedule = EpochSchedule(warmup_epochs=0, cosine_from="start")
        >>> [round(schedule.factor(step, steps_per_epoch=2, total_steps=6), 6) for step in range(6)]
        [1.0, 1.0, 0.75, 0.75, 0.25, 0.25]
    """

    @override
    def factor(self, step: int, *, steps_per_epoch: int, total_steps: int, part: float = 1.0) -> float:
        now = self._clock(step, steps_per_epoch)
        warmup = min(self.warmup_epochs * steps_per_epoch, total_steps)
        cosine = self._fallen(now // steps_per_epoch * steps_per_epoch, warmup, total_steps, part)
        last = math.floor(warmup)
        if not warmup or now // steps_per_epoch > last // steps_per_epoch:
            return cosine
        return cosine * self._risen(min(now, last), warmup)
