"""AdaptFormer as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.blocks import Block
from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.adaptformer.block import AdaptFormerBlock, Bottleneck, Initialization
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.text_training import OptimizerName, TextTraining
from vlbench.optim import Schedule
from vlbench.ranges import FACTORS, Range
from vlbench.settings import Side


class AdaptFormer(TextTraining):
    """AdaptFormer (NeurIPS 2022, arXiv 2205.13535) on a dual encoder: bottlenecks beside the MLPs of the image tower.

    The released models are a ViT and a VideoMAE with a linear head on a batch norm. A dual encoder with the classes'
    texts in the place of the head is an extension, the one that MSTA's paper compares with: both towers are frozen, the
    class features are the text tower's, and a video is the mean of its frame features.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = AdaptFormer(TinyCLIP())
        >>> sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        66304
        >>> method.deviations()
        {'classifier': 'text'}

    Args:
        backbone: Dual encoder whose image tower is adapted.
        schedule: Schedule of the learning rate.
        bottleneck: Bottleneck width d of the adapters.
        scale: Factor s on the adapters' output.
        dropout: Part of the bottleneck's values that training sets to 0, in [0, 1); 0.1 in the released image model and
            0 in the video model.
        initialization: Beginning of the adapters: `zero`, as the frozen backbone, or `truncated_normal`, as the
            released video model, whose constructor draws every matrix anew.
        lr: Peak learning rate of the adapters: 0.4 for a batch of 1,024, in proportion to the batch.
        weight_decay: Weight decay of the adapters, of biases too.
        optimizer: Optimizer of the training: `sgd`, with momentum 0.9, or `adamw`.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video: `logits`, as released, `probabilities` or `cosines`.
    """

    name = "adaptformer"
    REQUIRES: ClassVar[Mapping[str, str]] = {"blocks": "AdaptFormer's adapters stand beside the MLPs of blocks"}
    PAPER: ClassVar[Mapping[str, object]] = {
        "bottleneck": 64,
        "scale": 0.1,
        "dropout": frozenset({0.0, 0.1}),
        "initialization": frozenset({"zero", "truncated_normal"}),
        "lr": 0.4,
        "weight_decay": 0.0,
        "optimizer": "sgd",
        "prompts": "photo",
        "view_fusion": "logits",
        "warmup_epochs": 10.0,
        "final_ratio": 0.0,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 8,
        "data.batch": 1_024,
        "data.clip.views": lambda _, __, tested: frozenset() if tested is None else "4x3",
        "data.augmentation.color_jitter": 0.0,
        "data.augmentation.gray": 0.0,
        "trainer.max_epochs": 90,
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **TextTraining.SIDES,
        "bottleneck": "both",
        "scale": "both",
        "dropout": "training",
        "initialization": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=10),  # noqa: B008 - frozen
        bottleneck: int = 64,
        scale: float = 0.1,
        dropout: float = 0.0,
        initialization: Initialization = "zero",
        lr: float = 0.4,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "sgd",
        prompts: str | list[str] = "photo",
        view_fusion: ViewFusion = "logits",
    ) -> None:
        super().__init__(
            backbone, prompts, schedule,
            lr=lr, weight_decay=weight_decay, view_fusion=view_fusion, optimizer=optimizer,
        )  # fmt: skip
        Range(1, 8_192).check("bottleneck", bottleneck)
        FACTORS.check("scale", scale)
        Range(0, 1, below=True).check("dropout", dropout)
        if initialization not in ("zero", "truncated_normal"):
            raise ConfigError(f"initialization is {initialization!r}; allowed: 'zero', 'truncated_normal'")
        self.bottleneck = bottleneck
        self.scale = scale
        self.dropout = dropout
        self.initialization = initialization
        for index in range(len(backbone.image.blocks)):
            backbone.image.replace(index, self._adapted)

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("ViCLIP + AdaptFormer",)

    @override
    def deviations(
        self,
        side: Side | None = None,
        run: Mapping[str, object] | None = None,
        training: TrainingFacts | None = None,
        tested: str | None = None,
    ) -> dict[str, object]:
        """Options whose value is not the paper's, and that texts classify, which no option changes."""
        return {**super().deviations(side, run, training, tested), "classifier": "text"}

    def _adapted(self, loaded: Block) -> Block:
        """The block with a new adapter of its own."""
        width = self.backbone.image.width
        adapter = Bottleneck(
            width, self.bottleneck, scale=self.scale, dropout=self.dropout, initialization=self.initialization
        )
        return AdaptFormerBlock(loaded, adapter)
