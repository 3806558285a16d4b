"""The multi-modal adapter as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from torch import nn

from vlbench.backbones.base import DualEncoder
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.multimodal_adapter import BlockAdapter, scaled_branch
from vlbench.methods.parts.text_training import OptimizerName, TextTraining
from vlbench.optim import EpochSchedule
from vlbench.ranges import FACTORS, Range
from vlbench.settings import Side


class MMA(TextTraining):
    """The multi-modal adapter (CVPR 2024), which MSTA extends, on the mean frame feature.

    The backbone is frozen. Adapters run in parallel to blocks of both towers, tied by one shared matrix a block:
    `block'(x) = block(x) + scale * A(norm1(x))`. The gradient of an adapter's own weights is that of scale 1. The
    released method is one of images; a video is the mean of its frames here.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = MMA(TinyCLIP(), first_block=2, last_block=3)
        >>> sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        27200
        >>> method.deviations()
        {'first_block': 2, 'last_block': 3}

    Args:
        backbone: Dual encoder that is adapted.
        schedule: Schedule of the learning rate, which stays the same within an epoch.
        first_block: First block of both towers with an adapter, counted from 1.
        last_block: Last block of both towers with an adapter, counted from 1.
        bottleneck: Bottleneck width d of the adapters.
        scale: Factor λ on the adapters' output.
        lr: Peak learning rate of the adapters.
        weight_decay: Weight decay of the adapters, of biases too.
        optimizer: Optimizer of the training: `sgd`, with momentum 0.9, or `adamw`.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
    """

    name = "mma"
    REQUIRES: ClassVar[Mapping[str, str]] = {"blocks": "MMA's adapters run beside blocks"}
    # The method is one of images: nothing is published of frames and views.
    PAPER: ClassVar[Mapping[str, object]] = {
        "first_block": 5,
        "last_block": 12,
        "bottleneck": 32,
        "scale": 0.001,
        "lr": 1.5e-3,
        "weight_decay": 5e-4,
        "optimizer": "sgd",
        "prompts": "photo",
        "view_fusion": "probabilities",
        "warmup_epochs": 0.0,
        "final_ratio": 0.0,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.batch": 16,
        "data.augmentation.flip": True,
        "data.augmentation.color_jitter": 0.0,
        "data.augmentation.gray": 0.0,
        "trainer.max_epochs": 5,
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **TextTraining.SIDES,
        "first_block": "both",
        "last_block": "both",
        "bottleneck": "both",
        "scale": "both",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: EpochSchedule = EpochSchedule(warmup_epochs=0),  # noqa: B008 - frozen
        first_block: int = 5,
        last_block: int = 12,
        bottleneck: int = 32,
        scale: float = 0.001,
        lr: float = 1.5e-3,
        weight_decay: float = 5e-4,
        optimizer: OptimizerName = "sgd",
        prompts: str | list[str] = "photo",
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(
            backbone, prompts, schedule,
            lr=lr, weight_decay=weight_decay, view_fusion=view_fusion, optimizer=optimizer,
        )  # fmt: skip
        Range(1, min(len(backbone.image.blocks), len(backbone.text.blocks))).check("last_block", last_block)
        Range(1, last_block).check("first_block", first_block)
        Range(1, 8_192).check("bottleneck", bottleneck)
        FACTORS.check("scale", scale)
        self.first_block = first_block
        self.last_block = last_block
        self.bottleneck = bottleneck
        self.scale = scale
        blocks = range(first_block - 1, last_block)
        self.adapters = nn.ModuleList(
            BlockAdapter(backbone.image.width, backbone.text.width, bottleneck, temporal=False) for _ in blocks
        )
        for tower, side in ((backbone.image, "video"), (backbone.text, "text")):
            for index, adapter in zip(blocks, self.adapters, strict=True):
                norm = tower.blocks[index].norm1
                tower.add_parallel(index, partial(scaled_branch, getattr(adapter, side), scale=scale, norm=norm))
