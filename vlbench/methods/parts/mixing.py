"""Training clips that are mixtures of two, and the targets that go with them: Mixup and CutMix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vlbench.clips.batch import Box, ClipBatch
from vlbench.methods.parts.draws import drawn_groups
from vlbench.ranges import BATCHES, SHARES, WEIGHTS, Range


class MixDraw(NamedTuple):
    """What is mixed with what, in a group of clips.

    Attributes:
        partners: Index of each clip's partner in the group.
        share: Part λ of a clip in its mixture; the partner has the rest, of pixels and of targets.
        box: Rectangle of every frame that is the partner's, of CutMix; `None` for Mixup.
    """

    partners: tuple[int, ...]
    share: float
    box: Box | None = None

    def pixels(self, video: Tensor) -> Tensor:
        """Mixed clips `(B, T, 3, H, W)` of clips of that shape, in the same range; float32 where uint8 are averaged."""
        if self.box is not None:
            mixed = video.clone()
            self.box.cut(mixed).copy_(_taken(self.box.cut(video), self.partners))
            return mixed
        video = video.to(torch.promote_types(video.dtype, torch.float32))
        return torch.lerp(_taken(video, self.partners), video, self.share)

    def targets(self, targets: Tensor) -> Tensor:
        """Mixed targets `(B, C)` of the clips' own."""
        return torch.lerp(_taken(targets, self.partners), targets, self.share)


@dataclass(frozen=True)
class Mixing:
    """Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of training clips, and the smoothing of their labels.

    Clips are taken in groups. A group has one draw: λ, each clip's partner, and whether a box of every frame or all
    pixels are mixed. With neither Mixup nor CutMix the labels are smoothed alone.

    Attributes:
        mixup: Both parameters of the beta distribution of Mixup's λ; 0 leaves Mixup out.
        cutmix: Both parameters of the beta distribution of CutMix's λ; 0 leaves CutMix out.
        cutmix_share: Probability that a group has CutMix where both are in use, in [0, 1].
        label_smoothing: Part of a target that is spread evenly over all classes, in [0, 1).
        mixed_clips: Number of clips of a group, among which partners are; it divides the clips a process takes at once.

    Example:
        >>> Mixing(label_smoothing=0.1).smoothed(torch.tensor([1]), classes=2)
        tensor([[0.0500, 0.9500]])
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    cutmix_share: float = 0.5
    label_smoothing: float = 0.1
    mixed_clips: int = 4

    def __post_init__(self) -> None:
        WEIGHTS.check("mixup", self.mixup)
        WEIGHTS.check("cutmix", self.cutmix)
        SHARES.check("cutmix_share", self.cutmix_share)
        Range(0, 1, below=True).check("label_smoothing", self.label_smoothing)
        BATCHES.check("mixed_clips", self.mixed_clips)

    def smoothed(self, labels: Tensor, classes: int) -> Tensor:
        """Targets `(B, C)`, float32, of labels `(B,)`: `1 - ε + ε / C` for the label, `ε / C` for the others."""
        even = self.label_smoothing / classes
        targets = torch.full((len(labels), classes), even, device=labels.device)
        return targets.scatter_(1, labels.unsqueeze(1), 1 - self.label_smoothing + even)

    def draw(self, generator: np.random.Generator, clips: int, height: int, width: int) -> MixDraw:
        """The draw of a group.

        Args:
            generator: Generator of the draws.
            clips: Number of clips of the group.
            height: Height of the frames, in pixels.
            width: Width of the frames, in pixels.
        """
        partners = tuple(generator.permutation(clips).tolist())
        cut = self.cutmix > 0 and (self.mixup == 0 or generator.random() < self.cutmix_share)
        alpha = self.cutmix if cut else self.mixup
        share = float(generator.beta(alpha, alpha))
        if not cut:
            return MixDraw(partners, share)
        return cutmix_draw(
            partners, share, (height, width), (int(generator.integers(height)), int(generator.integers(width)))
        )

    def mix(self, batch: ClipBatch, *, classes: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Mixed clips `(B, T, 3, H, W)` in 0..255 and their targets `(B, C)`.

        The draws are a function of seed, step and the clips' ids, so that a resumed training has the same ones.

        Args:
            batch: Clips that are mixed, B.
            classes: Number C of classes.
            seed: Seed of the draws.
            step: Number of the optimizer step.

        Raises:
            ConfigError: If groups do not divide the clips that a process takes at once.
        """
        assert batch.video is not None
        video, targets = batch.video, self.smoothed(batch.labels, classes)
        if not (self.mixup or self.cutmix):
            return video, targets
        mixed = []
        for group, generator in drawn_groups(batch, self.mixed_clips, "mixed_clips", seed=seed, step=step):
            draw = self.draw(generator, len(batch.ids[group]), *video.shape[-2:])
            mixed.append((draw.pixels(video[group]), draw.targets(targets[group])))
        return torch.cat([pixels for pixels, _ in mixed]), torch.cat([soft for _, soft in mixed])


def cutmix_draw(partners: tuple[int, ...], share: float, size: tuple[int, int], centre: tuple[int, int]) -> MixDraw:
    """CutMix with a box of `1 - share` of a frame, cut off at the borders; λ is the part that the box leaves.

    Args:
        partners: Index of each clip's partner.
        share: Part of a frame that is to stay the clip's own, in [0, 1].
        size: Height and width of the frames, in pixels.
        centre: Row and column of the box's centre, in pixels.
    """
    sides = []
    for length, middle in zip(size, centre, strict=True):
        half = int(length * math.sqrt(1 - share)) // 2
        sides.append((max(0, middle - half), min(length, middle + half)))
    (top, bottom), (left, right) = sides
    box = Box(top, left, bottom - top, right - left)
    return MixDraw(partners, 1 - box.height * box.width / (size[0] * size[1]), box)


def _taken(x: Tensor, indices: tuple[int, ...]) -> Tensor:
    """Rows of a tensor in another order; an index on the host would be copied to the device."""
    return torch.stack([x[index] for index in indices])
