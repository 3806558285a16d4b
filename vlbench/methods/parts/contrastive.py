"""Contrast of training clips with the texts of each other's classes, over all processes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.methods.base import VideoTextMethod
from vlbench.optim import Schedule
from vlbench.ranges import BATCHES, WEIGHTS, Range
from vlbench.settings import Side

_SHARPNESS = 10.0
"""Factor on the matrix of equal labels before its softmax; a clip of another class keeps exp(-10) of a match."""


def contrastive_terms(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """ActionCLIP's two divergences of soft targets from predictions (arXiv 2109.08472): of the rows and of the columns.

    With `Q = softmax_j(10 [y_i = y_j])` and a prediction P the divergence is `1/B Σ_ij Q_ij (log Q_ij - log P_ij)`.

    Args:
        logits: Logits `(B, B)` of video i with the text of clip j's class.
        labels: Labels of the clips, int64 `(B,)`.

    Example:
        >>> rows, columns = contrastive_terms(torch.zeros(2, 2), torch.tensor([3, 3]))
        >>> rows.item(), columns.item()
        (0.0, 0.0)
    """
    matches = (labels[:, None] == labels[None, :]).to(logits.dtype)
    targets = (_SHARPNESS * matches).softmax(dim=1)
    rows, columns = (F.kl_div(x.log_softmax(dim=1), targets, reduction="batchmean") for x in (logits, logits.T))
    return rows, columns


def gathered(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Rows of all processes, process after process; a row's gradient goes back to the process that it comes from.

    Where every process computes the same loss of all rows, the mean over the processes of the gradients is that of a
    single process with all rows. The processes may have different numbers of rows.

    Args:
        tensors: Tensors with as many rows each.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return list(tensors)
    from torch.distributed.nn.functional import all_gather  # not in a torch without distributed

    count = torch.tensor([len(tensors[0])], device=tensors[0].device)
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    rows: list[int] = torch.cat(counts).tolist()  # a wait for the device: unreadable clips may be left out anywhere
    whole = []
    for x in tensors:
        padded = F.pad(x, (*[0, 0] * (x.ndim - 1), 0, max(rows) - len(x)))
        parts = all_gather(padded)
        whole.append(torch.cat([part[:length] for part, length in zip(parts, rows, strict=True)]))
    return whole


class ContrastiveTraining(VideoTextMethod):
    """A method that contrasts the clips of a group with the texts of their classes, and whose whole backbone trains.

    The clips that all processes take at once are one group or several. Accumulating gradients makes no group larger.

    Args:
        backbone: Dual encoder, all of which is fine-tuned.
        prompts: Templates of the class names.
        schedule: Schedule of the learning rate.
        lr: Peak learning rate of the backbone.
        weight_decay: Weight decay of AdamW.
        beta2: Decay of AdamW's mean of squared gradients, in [0, 1).
        contrasted_clips: Number of clips of a group, over all processes.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
    """

    SIDES: ClassVar[Mapping[str, Side]] = {
        **VideoTextMethod.SIDES,
        "beta2": "training",
        "contrasted_clips": "training",
    }
    TERMS_WEIGHT: ClassVar[float]
    """Weight of each of the two divergences in the loss."""

    def __init__(
        self,
        backbone: DualEncoder,
        prompts: str | Sequence[str],
        schedule: Schedule,
        *,
        lr: float,
        weight_decay: float,
        beta2: float,
        contrasted_clips: int,
        grad_checkpointing: bool,
    ) -> None:
        super().__init__(backbone, prompts, schedule)
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("weight_decay", weight_decay)
        Range(0, 1, below=True).check("beta2", beta2)
        BATCHES.check("contrasted_clips", contrasted_clips)
        self.lr = lr
        self.weight_decay = weight_decay
        self.beta2 = beta2
        self.contrasted_clips = contrasted_clips
        self.grad_checkpointing = grad_checkpointing
        backbone.requires_grad_(True)
        backbone.set_grad_checkpointing(grad_checkpointing)

    @abstractmethod
    def contrast_features(self, batch: ClipBatch) -> Sequence[Tensor]:
        """Features of the clips and of the texts of their classes, tensors with B rows each, with a graph.

        Args:
            batch: Training clips of this process.
        """

    @abstractmethod
    def contrast_logits(self, features: Sequence[Tensor]) -> Tensor:
        """Logits `(B, B)` of video i with the text of clip j's class, in the weights' precision under autocast too.

        Args:
            features: Rows of `contrast_features`, of any processes.
        """

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        labels, *features = gathered([batch.labels, *self.contrast_features(batch)])
        self._check_groups(batch, len(labels))
        terms = []
        for first in range(0, len(labels), self.contrasted_clips):
            group = slice(first, first + self.contrasted_clips)
            logits = self.contrast_logits([x[group] for x in features])
            share = len(logits) / len(labels)
            terms.append(share * torch.stack(contrastive_terms(logits, labels[group])))
        rows, columns = torch.stack(terms).sum(dim=0)
        return {"loss": self.TERMS_WEIGHT * (rows + columns), "video_to_text": rows, "text_to_video": columns}

    def _check_groups(self, batch: ClipBatch, clips: int) -> None:
        """Refuses a training whose clips make no whole groups, unless clips are missing that could not be read."""
        if self._trainer is None or batch.failures or clips != len(batch.ids) * self._trainer.world_size:
            return
        if clips % self.contrasted_clips:
            raise ConfigError(
                f"contrasted_clips is {self.contrasted_clips}, and all processes together take {clips} clips at once; "
                "give a data.batch_size with which that is a multiple of it, or another contrasted_clips"
            )

    @override
    def settings(self, side: Side) -> dict[str, object]:
        settings = super().settings(side)
        trainer = self._trainer  # none where nothing trains yet
        if side == "training" and trainer is not None:
            processes, accumulated = trainer.world_size, trainer.accumulate_grad_batches
            if processes > 1 and accumulated > 1:  # otherwise a group is a run of neighbours in the order of the clips
                settings["contrasted"] = f"by {processes} processes in {accumulated} batches"
        return settings
