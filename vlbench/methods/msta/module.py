"""MSTA as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.text import PreparedTexts
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList, content_digest
from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.parts.class_features import ensemble, frozen_ensemble, prompted
from vlbench.methods.parts.described import dataset_descriptions
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.multimodal_adapter import BlockAdapter, scaled_branch
from vlbench.optim import Schedule
from vlbench.ranges import FACTORS, WEIGHTS, Range
from vlbench.settings import Side


class MSTA(VideoTextMethod):
    """Multi-modal spatio-temporal adapter (CVPR 2025, arXiv 2411.11223).

    The backbone is frozen. Adapters run in parallel to the last blocks of both towers, `block'(x) = block(x) + scale *
    A(x)`, tied by one shared matrix a block; descriptions of every class keep the adapted text tower near the frozen
    one. No code was released. What the paper leaves open is read from the public code of the multi-modal adapter (CVPR
    2024), which the authors' logs name: ReLU; the adapter sees the block's own first LayerNorm of the block's input;
    Kaiming-normal weights, none zero; `scale` acts on the output and not on the adapter's gradient.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = MSTA(TinyCLIP(), blocks=2, bottleneck=64)
        >>> sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        59136
        >>> method.deviations()
        {'blocks': 2, 'bottleneck': 64}

    Args:
        backbone: Dual encoder that is adapted.
        schedule: Schedule of the learning rate.
        blocks: Number of last blocks of each tower that get an adapter; 5 is "8-12" of 12. Clipped, with a warning, to
            the depth of the shallower tower.
        bottleneck: Bottleneck width d of the adapters; 128 for few-shot and base-to-novel, 256 for zero-shot and
            fully-supervised.
        scale: Factor λ on the adapters' output.
        rescale_gradient: Whether the adapter's own gradient is that of scale 1 (a reading, see above).
        adapter_input: `normalized`, the block's first LayerNorm of its input (a reading), or `raw`, the input itself.
        initialization: `kaiming` (a reading) or `zero`.
        consistency: Weight alpha of the consistency loss; 0 needs no descriptions.
        descriptions: Folder with `spatial.json` and `temporal.json`; `None` takes the dataset's own.
        lr: Peak learning rate of the adapters.
        weight_decay: Weight decay of AdamW.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
    """

    name = "msta"
    # Few-shot and the logs' base-to-novel: 5 blocks with d = 128; the paper's other settings: 12 blocks with d = 256.
    # Zero-shot and fully-supervised have the larger learning rate. The paper says nothing of views.
    PAPER: ClassVar[Mapping[str, object]] = {
        "blocks": frozenset({5, 12}),
        "bottleneck": lambda method: 256 if method.blocks == 12 else 128,
        "scale": 0.005,
        "rescale_gradient": True,
        "adapter_input": "normalized",
        "initialization": "kaiming",
        "consistency": 1.0,
        "lr": frozenset({1e-3, 8e-3}),
        "weight_decay": 1e-3,
        "prompts": "video",
        "view_fusion": "probabilities",
        "warmup_epochs": 5.0,
        "final_ratio": 0.01,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 8,
        "data.batch": lambda _, training, __: 256 if training.subset.shots is None else 32,
        "data.clip.test_short_side": 256 / 224,
        "data.augmentation.short_side": 256 / 224,
        "data.augmentation.color_jitter": 0.8,
        "data.augmentation.gray": 0.2,
        "trainer.max_epochs": lambda _, training, __: _epochs(training),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **VideoTextMethod.SIDES,
        "blocks": "both",
        "bottleneck": "both",
        "scale": "both",
        "rescale_gradient": "training",
        "adapter_input": "both",
        "initialization": "training",
        "consistency": "training",
        "descriptions": "training",
    }
    NO_DEVIATION: ClassVar[Mapping[str, str]] = {
        **VideoTextMethod.NO_DEVIATION,
        "descriptions": "a folder; where the sentences lie says nothing of them",
    }
    REQUIRES: ClassVar[Mapping[str, str]] = {"blocks": "MSTA's adapters run beside blocks"}

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=5, final_ratio=0.01),  # noqa: B008 - frozen
        blocks: int = 5,
        bottleneck: int = 128,
        scale: float = 0.005,
        rescale_gradient: bool = True,
        adapter_input: Literal["normalized", "raw"] = "normalized",
        initialization: Literal["kaiming", "zero"] = "kaiming",
        consistency: float = 1.0,
        descriptions: str | None = None,
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        prompts: str | list[str] = "video",
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(backbone, prompts, schedule)
        depth = min(len(backbone.image.blocks), len(backbone.text.blocks))
        if blocks not in Range(1, 1_000):
            raise ConfigError(f"blocks is {blocks}; allowed: 1 to {depth}, the depth of the shallower tower")
        if blocks > depth:
            rank_zero_warn(f"blocks is {blocks}, the shallower tower has {depth}: every block gets an adapter")
            blocks = depth
        Range(1, 8_192).check("bottleneck", bottleneck)
        FACTORS.check("scale", scale)
        WEIGHTS.check("consistency", consistency)
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("weight_decay", weight_decay)
        self.blocks = blocks
        self.bottleneck = bottleneck
        self.scale = scale
        self.rescale_gradient = rescale_gradient
        self.adapter_input = adapter_input
        self.initialization = initialization
        self.consistency = consistency
        self.descriptions = descriptions
        self.lr = lr
        self.weight_decay = weight_decay
        self.view_fusion = view_fusion
        backbone.requires_grad_(False)
        self.adapters = nn.ModuleList(
            BlockAdapter(backbone.image.width, backbone.text.width, bottleneck, initialization) for _ in range(blocks)
        )
        for tower, side in ((backbone.image, "video"), (backbone.text, "text")):
            first = len(tower.blocks) - blocks
            for index, adapter in enumerate(self.adapters, start=first):
                tower.add_parallel(index, partial(self._branch, getattr(adapter, side), tower.blocks[index].norm1))
        self.description_features: Tensor | None = None
        self._prompts: PreparedTexts | None = None

    def _branch(self, adapt: Callable[[Tensor], Tensor], norm: nn.Module, x: Tensor) -> Tensor:
        """`scale * A(x)` for a grid x, `(B, T, N, D)`."""
        before = norm if self.adapter_input == "normalized" else None
        return scaled_branch(adapt, x, scale=self.scale, norm=before, rescale_gradient=self.rescale_gradient)

    def on_fit_start(self) -> None:
        """What never changes, once: the frozen text blocks of the prompts, and the features of the descriptions."""
        assert self.train_classes is not None
        with torch.no_grad():
            prompts = prompted(self.train_classes.names, self.templates)
            self._prompts = self.backbone.text.prepare(self.backbone.tokenize(prompts))
        if self.consistency:
            described = self._descriptions(self.train_classes)
            sides = [
                frozen_ensemble(self.backbone, [text for sentences in side for text in sentences], len(side))
                for side in (described.spatial, described.temporal)
            ]
            self.description_features = torch.stack(sides)

    def _descriptions(self, classes: ClassList) -> Descriptions:
        whole = dataset_descriptions(classes, self.descriptions, otherwise=", or model.consistency: 0")
        return whole.subset(classes.labels)

    @override
    def settings(self, side: Side) -> dict[str, object]:
        settings = super().settings(side)
        if "descriptions" in settings:
            # Where the sentences lie says nothing of them.
            described = self._descriptions(self.train_classes) if self.consistency and self.train_classes else None
            sentences = () if described is None else (*described.spatial, *described.temporal)
            settings["descriptions"] = content_digest(sentence for texts in sentences for sentence in texts)
        return settings

    def consistency_loss(self, text: Tensor) -> Tensor:
        """L_CC: mean over classes of `2 - cos(w, spatial) - cos(w, temporal)`, in [0, 4].

        Args:
            text: Unit class features w of the adapted tower, `(C, D)`.
        """
        assert self.description_features is not None
        return (2 - (self.description_features * text).sum(dim=(0, -1))).mean()

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        return ensemble(self.backbone.encode_texts(prompted(class_names, self.templates)), len(class_names))

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("MSTA",)

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert batch.video is not None
        assert self.train_classes is not None
        assert self._prompts is not None, "call on_fit_start first"
        text = ensemble(self.backbone.text.finish(self._prompts), len(self.train_classes.names))
        video = self.encode_video(self.backbone.normalize(batch.video))
        terms = {"ce": F.cross_entropy(self.training_logits(video, text), batch.labels)}
        loss = terms["ce"]
        if self.consistency:
            terms["consistency"] = self.consistency_loss(text)
            loss = loss + self.consistency * terms["consistency"]
        return {"loss": loss, **terms}

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.adapters.parameters()), "lr": self.lr, "weight_decay": self.weight_decay}]


def _epochs(training: TrainingFacts) -> frozenset[int]:
    """The paper's number of epochs; for base-to-novel the authors' logs have another than the paper."""
    if training.subset.shots is None:
        return frozenset({100})
    return frozenset({50} if training.subset.classes == "all" else {11, 50})
