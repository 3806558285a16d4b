"""ViFi-CLIP: a CLIP that is fine-tuned as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.parts.class_features import ensemble, prompted
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.mixed_training import MixedTraining, views_of_a_test
from vlbench.methods.parts.mixing import Mixing
from vlbench.optim import Schedule
from vlbench.settings import Side

_RELEASED = Schedule(warmup_epochs=5, final_ratio=0.01, cosine_from="start", lag=0.5)

Tuned = Literal["both", "image", "text"]
"""Towers that are fine-tuned: `both`, with the logit scale, the `image` tower, or the `text` tower."""


class ViFiCLIP(MixedTraining):
    """ViFi-CLIP (CVPR 2023, arXiv 2212.03640): fine-tuning without new parameters, on the mean frame feature.

    The defaults are the paper's for few-shot with ViT-B/16, and the released code's where the paper says nothing.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> ViFiCLIP(TinyCLIP(), tuned="image", weight_decay=0.0).deviations()
        {'weight_decay': 0.0}

    Args:
        backbone: Dual encoder that is fine-tuned.
        schedule: Schedule of the learning rate.
        mixing: Mixtures of training clips, and the smoothing of their labels.
        tuned: Towers that are fine-tuned: `both`, with the logit scale, `image` or `text`. The vectors of the
            vocabulary's tokens never are.
        lr: Peak learning rate: 2e-6 for few-shot and base-to-novel, 8e-6 for zero-shot, 2.2e-5 for fully-supervised.
        weight_decay: Weight decay of AdamW, of biases, norms and the logit scale too.
        beta2: Decay of AdamW's mean of squared gradients.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
        original_share: Part of CLIP's own weights in the weights of an evaluation, in [0, 1], as WiSE-FT has it; 0 in
            the paper.
        pretrained_from: Checkpoint of a training whose backbone this one starts from; `None` starts from the original
            weights.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the mixtures.
    """

    name = "vifi_clip"
    PAPER: ClassVar[Mapping[str, object]] = {
        "tuned": frozenset({"both", "image", "text"}),
        "lr": frozenset({2e-6, 8e-6, 2.2e-5}),
        "weight_decay": 1e-3,
        "beta2": 0.98,
        "prompts": "photo",
        "view_fusion": "probabilities",
        "original_share": 0.0,
        "mixup": 0.8,
        "cutmix": 1.0,
        "cutmix_share": 0.5,
        "label_smoothing": 0.1,
        "mixed_clips": 4,
        "warmup_epochs": 5.0,
        "final_ratio": 0.01,
        "refresh_every": 1,
        "cosine_from": "start",
        "lag": frozenset({1 / 2, 1 / 8, 1 / 16}),
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    # Trainings on whole sets are the paper's zero-shot one or its fully-supervised one; which, no fact says.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": lambda _, training, __: frozenset({16, 32} if training.subset.shots is None else {32}),
        "data.batch": lambda _, training, __: frozenset({256, 512} if training.subset.shots is None else {64}),
        "data.clip.test_short_side": frozenset({1.0, 256 / 224}),
        "data.clip.views": lambda _, training, tested: views_of_a_test(training, tested, few="1x1"),
        "data.augmentation.short_side": 256 / 224,
        "data.augmentation.flip": True,
        "data.augmentation.color_jitter": 0.8,
        "data.augmentation.gray": 0.2,
        "trainer.max_epochs": lambda _, training, __: _epochs(training),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **MixedTraining.SIDES,
        "tuned": "training",
    }
    REQUIRES: ClassVar[Mapping[str, str]] = {"blocks": "ViFi-CLIP tunes the blocks of both towers"}

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = _RELEASED,
        mixing: Mixing = Mixing(),  # noqa: B008 - frozen
        tuned: Tuned = "both",
        lr: float = 2e-6,
        weight_decay: float = 1e-3,
        beta2: float = 0.98,
        prompts: str | list[str] = "photo",
        view_fusion: ViewFusion = "probabilities",
        original_share: float = 0.0,
        pretrained_from: str | None = None,
        grad_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            backbone, prompts, schedule, mixing=mixing, lr=lr, weight_decay=weight_decay, beta2=beta2,
            view_fusion=view_fusion, pretrained_from=pretrained_from, seed=seed, original_share=original_share,
        )  # fmt: skip
        if tuned not in ("both", "image", "text"):
            raise ConfigError(f"tuned is {tuned!r}; allowed: 'both', 'image', 'text'")
        self.tuned = tuned
        self.grad_checkpointing = grad_checkpointing
        backbone.requires_grad_(tuned != "image")
        backbone.visual.requires_grad_(tuned != "text")
        backbone.text.token_embedding.requires_grad_(False)
        backbone.logit_scale.requires_grad_(tuned == "both")
        backbone.set_grad_checkpointing(grad_checkpointing and tuned != "text")
        self._tokens: Tensor | None = None
        self._classes: Tensor | None = None

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        names = {"both": "ViFi-CLIP", "image": "CLIP image-FT", "text": "CLIP text-FT"}
        if self.pretrained_from is not None:
            return ()
        if self.original_share:
            return ("ViFi-CLIP + weight ensemble",) if self.tuned == "both" else ()
        return (names[self.tuned],)

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        if self.tuned == "image":
            return super().encode_text(class_names)
        return ensemble(self.backbone.encode_texts(prompted(class_names, self.templates)), len(class_names))

    def on_fit_start(self) -> None:
        """The tokens of the training classes' prompts, or their features where the text tower is frozen."""
        assert self.train_classes is not None
        names = self.train_classes.names
        self._tokens = self.backbone.tokenize(prompted(names, self.templates))
        self._classes = super().encode_text(names) if self.tuned == "image" else None

    @override
    def train_text(self) -> Tensor:
        """Unit features `(C, D)` of the training classes, with a graph where the text tower is fine-tuned."""
        assert self._tokens is not None, "call on_fit_start first"
        assert self.train_classes is not None
        if self._classes is not None:
            return self._classes
        return ensemble(self.backbone.text.encode(self._tokens), len(self.train_classes.names))


def _epochs(training: TrainingFacts) -> frozenset[int]:
    """The paper's number of epochs."""
    if training.subset.shots is None:
        return frozenset({10, 30})
    return frozenset({50} if training.subset.classes == "all" else {11})
