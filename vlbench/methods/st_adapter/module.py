"""ST-Adapter as a LightningModule."""

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
from vlbench.methods.parts.adapted_tower import AdaptedTower, Classifier, released_value
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import trained_groups
from vlbench.methods.st_adapter.blocks import BlockAdapters, STAdapterBlock
from vlbench.optim import Schedule
from vlbench.ranges import Range
from vlbench.settings import Side

_SIZES = Range(1, 63)
"""Frames, rows or columns of a convolution."""


class STAdapter(AdaptedTower):
    """ST-Adapter (NeurIPS 2022, arXiv 2206.13559): depth-wise convolutions over time inside a frozen image tower.

    The defaults are those of the released recipe for Kinetics-400, 12 adapters of width 384. The adapter before the
    last MLP counts as trained and never learns, as released: behind it only class tokens are read, and it changes
    patches.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = STAdapter(TinyCLIP(), bottleneck=64)
        >>> sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        67328
        >>> method.opens_vocabulary, STAdapter(TinyCLIP(), classifier="text").opens_vocabulary
        (False, True)

    Args:
        backbone: Dual encoder that gives one feature a frame; frozen.
        schedule: Schedule of the learning rate.
        blocks: Number of last blocks that get adapters; `None` is all.
        bottleneck: Bottleneck width of the adapters.
        before_attention: Whether a block has a second adapter, before its attention, as for Something-Something V2.
        kernel: Frames, rows and columns of patches that a convolution takes in, odd numbers.
        classifier: What classifies: a `linear` head, as released, or the frozen tower's features of the classes,
            `text`, an extension of ours that scores classes without training videos too.
        prompts: Templates of the class names, for `text`.
        dropout: Part of a feature's values that training sets to 0 before the linear head, in [0, 1).
        lr: Peak learning rate: 1e-3 for a batch of 256, in proportion to the batch.
        weight_decay: Weight decay of AdamW, of weights and not of biases.
        view_fusion: What is averaged over the views of a video: `probabilities` or `logits`, or `cosines` for `text`.
    """

    name = "st_adapter"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "ST-Adapter's adapters stand inside blocks",
        "class_token": "ST-Adapter reads class tokens",
        "frames_encoded_one_by_one": "ST-Adapter convolves over the patches of single frames",
        "plain_attention": "ST-Adapter's released head is behind a CLIP ViT",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "blocks": None,
        "bottleneck": 384,
        "before_attention": frozenset({False, True}),
        "kernel": (3, 1, 1),
        "classifier": "linear",
        "dropout": 0.5,
        "lr": frozenset({7.5e-4, 1e-3}),
        "weight_decay": 0.01,
        "view_fusion": "probabilities",
        "warmup_epochs": 2.0,
        "final_ratio": 0.0,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    # Kinetics-400 and Something-Something V2, in this order; no other recipe is released.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 8,
        "data.batch": lambda _, training, __: released_value(training, 192, 256),
        "data.clip.sampling": lambda _, training, __: released_value(training, "dense", "uniform"),
        "data.clip.views": lambda _, training, tested: (
            frozenset() if tested is None else released_value(training, "3x1", "1x3")
        ),
        "data.clip.test_short_side": 1.0,
        "data.augmentation.flip": lambda _, training, __: released_value(training, True, False),
        "data.augmentation.color_jitter": 0.0,
        "data.augmentation.gray": 0.0,
        "trainer.max_epochs": lambda _, training, __: released_value(training, 12, 50),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **AdaptedTower.SIDES,
        "blocks": "both",
        "bottleneck": "both",
        "before_attention": "both",
        "kernel": "both",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=2),  # noqa: B008 - frozen
        blocks: int | None = None,
        bottleneck: int = 384,
        before_attention: bool = False,
        kernel: tuple[int, int, int] = (3, 1, 1),
        classifier: Classifier = "linear",
        prompts: str | list[str] = "video",
        dropout: float = 0.5,
        lr: float = 7.5e-4,
        weight_decay: float = 0.01,
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(
            backbone, schedule, classifier=classifier, prompts=prompts, view_fusion=view_fusion, lr=lr,
            weight_decay=weight_decay, head_std=0.02, dropout=dropout,
        )  # fmt: skip
        depth = len(backbone.image.blocks)
        Range(1, depth).check("blocks", blocks, "all blocks")
        Range(1, 8_192).check("bottleneck", bottleneck)
        if len(kernel) != 3 or any(size not in _SIZES or size % 2 == 0 for size in kernel):
            raise ConfigError(f"kernel is {kernel}; allowed: three odd numbers, {_SIZES}")
        if (blocks or depth) == 1 and classifier == "text" and not before_attention:
            raise ConfigError(
                "blocks is 1, classifier 'text' and before_attention false: the only adapter changes patches that "
                "nobody reads, and nothing would learn; give more blocks, or before_attention: true"
            )
        self.blocks = blocks
        self.bottleneck = bottleneck
        self.before_attention = before_attention
        self.kernel = kernel
        first = 0 if blocks is None else depth - blocks
        adapters = [
            BlockAdapters(backbone.image.width, bottleneck, kernel, before_attention=before_attention)
            for _ in range(first, depth)
        ]
        self.adapters = nn.ModuleList(adapters)
        for index, of_block in enumerate(adapters, start=first):
            backbone.image.replace(index, partial(STAdapterBlock, adapters=of_block))

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        if self.classifier == "text":
            return ("ST-Adapter", "ST-Adapter (FROSTER impl.)")
        return ("ST-Adapter", "ST-Adapter 24x384" if self.before_attention else "ST-Adapter 12x384")

    @property
    @override
    def leaves_parameters_unused(self) -> bool:
        return True  # the last adapter changes patches that nobody reads

    @override
    def encode_frames(self, clips: Tensor) -> Features:
        """Class tokens `(B, T, D)` of normalised clips `(B, T, 3, H, W)` before the last norm, D the tower's width."""
        return self.backbone.class_tokens(clips)

    @override
    def pool_frames(self, frames: Features, classes: ClassState | None = None) -> Features:
        """Video features `(B, D)`, of the norm of the mean over the class tokens `(B, T, D)`."""
        mean = frames.mean(dim=1, dtype=torch.promote_types(frames.dtype, torch.float32))
        return self.classified(self.backbone.visual.get_submodule("ln_post")(mean))

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return trained_groups(
            self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay,
            decays=lambda name, _: not name.endswith(".bias"),
        )  # fmt: skip
