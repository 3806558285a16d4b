"""Fine-tuning of a CLIP whose frames attend to their neighbours: what Open-VCLIP and FROSTER, built on it, share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.methods.parts.averaging import AveragedTraining
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import all_but_vectors_decay, trained_groups
from vlbench.methods.parts.neighbour_frames import MissingFrames, attend_to_neighbours
from vlbench.methods.parts.pooling import mean_unit
from vlbench.optim import Schedule
from vlbench.ranges import SEEDS, WEIGHTS
from vlbench.settings import Side

RELEASED_SCHEDULE = Schedule(warmup_epochs=2, final_ratio=0.01, initial_ratio=0.01)
"""Schedule of the learning rate in the released code."""


class NeighbourTraining(AveragedTraining):
    """A method that fine-tunes a CLIP whose frames attend to their neighbours, by the recipe of Open-VCLIP's code.

    Args:
        backbone: Dual encoder, whose image blocks are made to attend to neighbours.
        prompts: Templates of the class names.
        schedule: Schedule of the learning rate.
        neighbours: Frames before and after its own that a token attends to; 0 leaves the attention as it is.
        missing_neighbours: What stands for the neighbours that a clip lacks at its ends.
        average_from: First epoch whose weights count in the mean, from 1; `None` takes the last weights alone.
        lr: Peak learning rate of all that trains.
        weight_decay: Weight decay of AdamW, of all but vectors.
        view_fusion: What is averaged over the views of a video.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the method's draws.
    """

    PAPER: ClassVar[Mapping[str, object]] = {
        "neighbours": 1,
        "missing_neighbours": "zeros",
        "average_from": 2,
        "lr": 3.33e-6,
        "weight_decay": 0.01,
        "prompts": "mote",
        "view_fusion": "logits",
        "warmup_epochs": 2.0,
        "final_ratio": 0.01,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.01,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 8,
        "data.clip.sampling": "dense",
        "data.clip.test_short_side": 1.0,
        "data.clip.views": lambda _, __, tested: frozenset() if tested is None else "3x1",
        "data.augmentation.flip": True,
        "data.augmentation.color_jitter": 0.0,
        "data.augmentation.gray": 0.0,
        "trainer.gradient_clip_val": 1.0,
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **AveragedTraining.SIDES,
        "neighbours": "both",
        "missing_neighbours": "both",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        prompts: str | Sequence[str],
        schedule: Schedule,
        *,
        neighbours: int,
        missing_neighbours: MissingFrames,
        average_from: int | None,
        lr: float,
        weight_decay: float,
        view_fusion: ViewFusion,
        grad_checkpointing: bool,
        seed: int,
    ) -> None:
        super().__init__(backbone, prompts, schedule, average_from=average_from)
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("weight_decay", weight_decay)
        SEEDS.check("seed", seed)
        self.neighbours = neighbours
        self.missing_neighbours = missing_neighbours
        self.lr = lr
        self.weight_decay = weight_decay
        self.view_fusion = view_fusion
        self.grad_checkpointing = grad_checkpointing
        self.seed = seed
        attend_to_neighbours(backbone, neighbours, missing_neighbours)
        backbone.set_grad_checkpointing(grad_checkpointing)

    @override
    def pool_frames(self, frames: Tensor, classes: Tensor | None = None) -> Tensor:
        """Means `(B, D)` of the frames' unit features, whose products with classes are means of cosines."""
        return mean_unit(frames)

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return trained_groups(
            self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay, decays=all_but_vectors_decay
        )
