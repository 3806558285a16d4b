"""AIM as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import ClassState, Features
from vlbench.methods.aim.blocks import AIMBlock, BlockAdapters
from vlbench.methods.parts.adapted_tower import AdaptedTower, Classifier, released_value
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import trained_groups
from vlbench.optim import EpochSchedule
from vlbench.ranges import FACTORS, FRAMES, WEIGHTS, Range
from vlbench.settings import Side

_RELEASED = EpochSchedule(warmup_epochs=2.5, initial_ratio=0.1, cosine_from="start")


class AIM(AdaptedTower):
    """AIM (ICLR 2023, arXiv 2302.03024): adapters around a frozen image tower whose attention runs over time as well.

    The defaults are those of the released recipe for Kinetics-400 with ViT-B/16, but for its number of frames, 32. New
    are positions of frames, 0 in the beginning; the tower's last norm trains too.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = AIM(TinyCLIP(), frames=4)
        >>> sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        100992
        >>> AIM(TinyCLIP(), adapter_scale=1.0).deviations()  # Something-Something V2 has two more options
        {'adapter_before_time': False, 'label_smoothing': 0.0}

    Args:
        backbone: Dual encoder that gives one feature a frame; frozen but for its last norm.
        schedule: Schedule of the learning rate.
        frames: Number T of frames of a clip, that of the data, for each of which there is a position.
        ratio: Width of the adapters' hidden layers, as a part of the tower's.
        adapter_scale: Factor s on the adapter beside the MLP; 1 for Something-Something V2.
        adapter_before_time: Whether a block has a fourth adapter, before its attention over time, as for
            Something-Something V2 with ViT-B/16.
        drop_path: Probability that a position's adapter output is dropped in the last block, in [0, 1); it rises
            linearly from 0 in the first block.
        classifier: What classifies: a `linear` head, as released, or the frozen tower's features of the classes,
            `text`, an extension of ours that scores classes without training videos too.
        prompts: Templates of the class names, for `text`.
        dropout: Part of a feature's values that training sets to 0 before the linear head, in [0, 1).
        label_smoothing: Part of a target that is spread evenly over all classes; 0.1 for Something-Something V2.
        lr: Peak learning rate of the linear head, and of the rest where `backbone_lr_ratio` is 1.
        backbone_lr_ratio: Learning rate of the rest, divided by the head's; 0.1 for ViT-L/14, where the last norm has a
            weight decay too, as released.
        weight_decay: Weight decay of AdamW, of biases and positions too.
        view_fusion: What is averaged over the views of a video: `probabilities` or `logits`, or `cosines` for `text`.

    Raises:
        ConfigError: If the hidden layers would have no width.
    """

    name = "aim"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "AIM's adapters stand inside blocks",
        "class_token": "AIM reads class tokens",
        "frames_encoded_one_by_one": "AIM runs attention over the frames of a position and over the tokens of a frame",
        "plain_attention": "AIM has tokens attend to those of other frames",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "frames": frozenset({8, 16, 32}),
        "ratio": 0.25,
        "adapter_scale": frozenset({0.5, 1.0}),
        "adapter_before_time": lambda method: _something(method) and frozenset({True, not _large(method)}),
        "drop_path": 0.2,
        "classifier": "linear",
        "dropout": 0.5,
        "label_smoothing": lambda method: 0.1 if _something(method) else 0.0,
        "lr": 3e-4,
        "backbone_lr_ratio": lambda method: frozenset({1.0, 0.1} if _large(method) else {1.0}),
        "weight_decay": 0.05,
        "view_fusion": "probabilities",
        "warmup_epochs": 2.5,
        "final_ratio": 0.0,
        "refresh_every": 1,
        "cosine_from": "start",
        "lag": 0.0,
        "initial_ratio": 0.1,
        "floor": "relative",
    }
    # Kinetics-400 and Something-Something V2, in this order.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": frozenset({8, 16, 32}),
        "data.batch": lambda _, training, __: released_value(training, 64, 64),
        "data.clip.sampling": lambda _, training, __: released_value(training, "dense", "uniform"),
        "data.clip.views": lambda _, training, tested: (
            frozenset() if tested is None else released_value(training, "3x1", "1x3")
        ),
        "data.clip.test_short_side": 1.0,
        "data.augmentation.short_side": 256 / 224,
        "data.augmentation.flip": lambda _, training, __: released_value(training, True, False),
        "data.augmentation.color_jitter": 0.0,
        "data.augmentation.gray": 0.0,
        "trainer.max_epochs": lambda _, training, __: released_value(training, 30, 50),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **AdaptedTower.SIDES,
        "frames": "both",
        "ratio": "both",
        "adapter_scale": "both",
        "adapter_before_time": "both",
        "drop_path": "training",
        "backbone_lr_ratio": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: EpochSchedule = _RELEASED,
        frames: int = 8,
        ratio: float = 0.25,
        adapter_scale: float = 0.5,
        adapter_before_time: bool = False,
        drop_path: float = 0.2,
        classifier: Classifier = "linear",
        prompts: str | list[str] = "video",
        dropout: float = 0.5,
        label_smoothing: float = 0.0,
        lr: float = 3e-4,
        backbone_lr_ratio: float = 1.0,
        weight_decay: float = 0.05,
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(
            backbone, schedule, classifier=classifier, prompts=prompts, view_fusion=view_fusion, lr=lr,
            weight_decay=weight_decay, head_std=0.01, dropout=dropout, label_smoothing=label_smoothing,
        )  # fmt: skip
        FRAMES.check("frames", frames)
        Range(0, 16, above=True).check("ratio", ratio)
        FACTORS.check("adapter_scale", adapter_scale)
        Range(0, 1, below=True).check("drop_path", drop_path)
        WEIGHTS.check("backbone_lr_ratio", backbone_lr_ratio)
        width, depth = backbone.image.width, len(backbone.image.blocks)
        if int(ratio * width) < 1:
            raise ConfigError(f"ratio is {ratio}; allowed: {1 / width} or more, one hidden channel for width {width}")
        self.frames = frames
        self.ratio = ratio
        self.adapter_scale = adapter_scale
        self.adapter_before_time = adapter_before_time
        self.drop_path = drop_path
        self.backbone_lr_ratio = backbone_lr_ratio
        self.positions = nn.Parameter(torch.zeros(frames, width))
        adapters = [
            BlockAdapters(
                width, int(ratio * width), before_time=adapter_before_time, scale=adapter_scale,
                drop=drop_path * index / max(1, depth - 1),
            )
            for index in range(depth)
        ]  # fmt: skip
        self.adapters = nn.ModuleList(adapters)
        for index, of_block in enumerate(adapters):
            backbone.image.replace(index, partial(AIMBlock, adapters=of_block))
        self._norm.requires_grad_(True)

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("AIM", "AIM (FROSTER impl.)") if self.classifier == "text" else ("AIM",)

    @property
    def _norm(self) -> nn.Module:
        """The tower's last norm, which trains."""
        return self.backbone.visual.get_submodule("ln_post")

    @override
    def encode_frames(self, clips: Tensor) -> Features:
        """Class tokens `(B, T, D)` of normalised clips `(B, T, 3, H, W)` after the last norm, D the tower's width.

        Raises:
            ConfigError: If clips have another number of frames than there are positions.
        """
        if clips.shape[1] != self.frames:
            raise ConfigError(
                f"frames is {self.frames}, the number of AIM's positions, and clips have {clips.shape[1]} frames; give "
                "the model the data's number of frames"
            )
        return self._norm(self.backbone.class_tokens(clips, positions=self.positions))

    @override
    def pool_frames(self, frames: Features, classes: ClassState | None = None) -> Features:
        """Video features `(B, D)`, of the mean over the normed class tokens `(B, T, D)`."""
        return self.classified(super().pool_frames(frames, classes))

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        ratio = self.backbone_lr_ratio
        return trained_groups(
            self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay,
            factor=lambda name: 1.0 if name.startswith("head.") else ratio,
            decays=lambda name, _: ratio != 1 or "ln_post" not in name,
        )  # fmt: skip


def _something(method: AIM) -> bool:
    """Whether the options are those for Something-Something V2."""
    return method.adapter_scale == 1


def _large(method: AIM) -> bool:
    """Whether the image tower is wider than that of ViT-B/16."""
    return method.backbone.image.width > 768
