"""X-CLIP as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import USE_A_CLIP, Described, DualEncoder
from vlbench.backbones.layouts import FrameMajor
from vlbench.datasets.specs import collection
from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.parts.class_features import evaluating, prompted
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import trained_groups
from vlbench.methods.parts.mixed_training import MixedTraining
from vlbench.methods.parts.mixing import Mixing
from vlbench.methods.parts.pooling import unit_mean
from vlbench.methods.parts.starting import start_parts
from vlbench.methods.parts.video_text import ConditionalVideos, conditional_cosines
from vlbench.methods.x_clip.parts import Integration, MessageBlock, PromptGenerator
from vlbench.optim import Schedule
from vlbench.ranges import FACTORS, FRAMES
from vlbench.settings import Side

_RELEASED = Schedule(warmup_epochs=5, final_ratio=0.01, cosine_from="start", lag=0.5, floor="absolute")
_HEAD = 64
"""Dimensions of an attention head of the new parts."""
_PAIRS = 8192
"""Pairs of a video and a class whose features are computed at once in an evaluation."""


class FrameFeatures(NamedTuple):
    """What X-CLIP's image tower makes of clips.

    Attributes:
        frames: Features of the frames, `(B, T, D)`.
        patches: Features of the patches, means over the frames, `(B, P, D)`.
    """

    frames: Tensor
    patches: Tensor


class XCLIP(MixedTraining):
    """X-CLIP (ECCV 2022, arXiv 2208.02816): messages between frames, and class features that depend on the video.

    The image tower is fine-tuned, text tower and logit scale are frozen. The defaults are the paper's for few-shot with
    ViT-B/16, and the released code's where the paper says nothing.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = XCLIP(TinyCLIP(), frames=8, new_lr_factor=5.0)
        >>> method.deviations()
        {'new_lr_factor': 5.0}

    Args:
        backbone: Dual encoder that gives one feature a frame; its image tower is fine-tuned.
        schedule: Schedule of the learning rate.
        mixing: Mixtures of training clips, and the smoothing of their labels.
        frames: Number T of frames of a clip, for each of which there is a learned position; that of the data.
        lr: Peak learning rate of CLIP's weights: 2e-6 for few-shot, 8e-6 for zero-shot and fully-supervised.
        new_lr_factor: Factor on the learning rate of the weights that CLIP does not have.
        weight_decay: Weight decay of AdamW on matrices; vectors and positions have none.
        beta2: Decay of AdamW's mean of squared gradients.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
        pretrained_from: Checkpoint of a training whose backbone this one starts from, and whose new parts if it is of
            the same method; `None` starts from the original weights.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the mixtures.
    """

    name = "x_clip"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "X-CLIP's messages run through blocks",
        "class_token": "X-CLIP's messages are made of class tokens",
        "frames_encoded_one_by_one": "X-CLIP exchanges messages between single frames",
        "plain_attention": "X-CLIP has frames attend to messages",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "frames": frozenset({8, 16, 32}),
        "lr": frozenset({2e-6, 8e-6}),
        "new_lr_factor": 10.0,
        "weight_decay": 1e-3,
        "beta2": 0.98,
        "prompts": "bare",
        "view_fusion": "probabilities",
        "mixup": 0.8,
        "cutmix": 1.0,
        "cutmix_share": 0.5,
        "label_smoothing": 0.1,
        "mixed_clips": frozenset({1, 4, 8}),
        "warmup_epochs": 5.0,
        "final_ratio": 0.01,
        "refresh_every": 1,
        "cosine_from": "start",
        "lag": frozenset({1 / 2, 1 / 4, 1 / 8, 1 / 32}),
        "initial_ratio": 0.0,
        "floor": "absolute",
    }
    # Trainings on whole sets are the paper's zero-shot one, with 32 frames, or its fully-supervised ones.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": lambda _, training, __: frozenset({8, 16, 32} if training.subset.shots is None else {32}),
        "data.batch": lambda _, training, __: 256 if training.subset.shots is None else 64,
        "data.clip.test_short_side": frozenset({1.0, 256 / 224}),
        "data.clip.views": lambda _, training, tested: _views(training, tested),
        "data.augmentation.short_side": 256 / 224,
        "data.augmentation.flip": True,
        "data.augmentation.color_jitter": 0.8,
        "data.augmentation.gray": 0.2,
        "trainer.max_epochs": lambda _, training, __: 30 if training.subset.shots is None else 50,
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **MixedTraining.SIDES,
        "frames": "both",
        "new_lr_factor": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = _RELEASED,
        mixing: Mixing = Mixing(),  # noqa: B008 - frozen
        frames: int = 32,
        lr: float = 2e-6,
        new_lr_factor: float = 10.0,
        weight_decay: float = 1e-3,
        beta2: float = 0.98,
        prompts: str | list[str] = "bare",
        view_fusion: ViewFusion = "probabilities",
        pretrained_from: str | None = None,
        grad_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            backbone, prompts, schedule, mixing=mixing, lr=lr, weight_decay=weight_decay, beta2=beta2,
            view_fusion=view_fusion, pretrained_from=pretrained_from, seed=seed,
        )  # fmt: skip
        FRAMES.check("frames", frames)
        FACTORS.check("new_lr_factor", new_lr_factor)
        self.frames = frames
        self.new_lr_factor = new_lr_factor
        self.grad_checkpointing = grad_checkpointing
        tower, width = backbone.image, backbone.embed_dim
        backbone.requires_grad_(False)
        backbone.visual.requires_grad_(True)
        for index in range(len(tower.blocks)):
            attention: Any = tower.blocks[index].attention
            tower.replace(index, partial(MessageBlock, width=tower.width, heads=attention.heads))
        self.integration = Integration(width, width // _HEAD, frames)
        self.generator = PromptGenerator(tower.width, width, width // _HEAD)
        backbone.set_grad_checkpointing(grad_checkpointing)
        start_parts(self, pretrained_from)
        self._classes: Tensor | None = None

    @classmethod
    @override
    def refusal(cls, name: str, backbone: Described) -> str | None:
        refusal = super().refusal(name, backbone)
        if refusal is None and backbone.embed_dim % _HEAD:
            refusal = (
                f"X-CLIP divides features among attention heads of {_HEAD} dimensions, {name} has features of "
                f"{backbone.embed_dim} dimensions; {USE_A_CLIP}"
            )
        return refusal

    # Features ----------------------------------------------------------------------------------------------------

    @override
    def encode_frames(self, clips: Tensor) -> FrameFeatures:
        batch, frames = clips.shape[:2]
        if frames != self.frames:
            raise ConfigError(
                f"frames is {self.frames} and a clip has {frames}; X-CLIP learns a position for each frame: give "
                f"model.frames={frames}, or data.frames={self.frames}"
            )
        parts: Any = self.backbone.visual
        x = self.backbone.image.run(parts.embed(clips.flatten(0, 1)), FrameMajor(frames))  # (B·T, 1 + P, W)
        features, patches = parts.project(x[:, :1]), x[:, 1:]
        split = (batch, frames)
        return FrameFeatures(features.unflatten(0, split), self.generator.patches(patches.unflatten(0, split)))

    @override
    def pool_frames(self, frames: FrameFeatures, classes: Tensor | None = None) -> ConditionalVideos:
        return ConditionalVideos(unit_mean(self.integration(frames.frames)), frames.patches)

    @override
    def encode_classes(self, class_names: Sequence[str]) -> Tensor:
        """Features `(C, D)` of the classes, not normalised: means over the prompts, of the frozen text tower."""
        texts = prompted(class_names, self.templates)
        device = self.backbone.logit_scale.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False), evaluating(self.backbone):
            features = self.backbone.encode_texts(texts, adapted=False)
        averaged: Tensor = features.unflatten(0, (len(class_names), -1)).mean(dim=1)
        return averaged

    def class_features(self, patches: Tensor, classes: Tensor) -> Tensor:
        """Class features `(B, C, D)` of videos, not normalised.

        Args:
            patches: Patch features of the videos, `(B, P, D)`.
            classes: Class features without a video, `(C, D)`, see `encode_classes`.
        """
        prompts: Tensor = self.generator(classes, patches)
        return classes + prompts

    @override
    def score(self, video: ConditionalVideos, classes: Tensor) -> Tensor:
        return conditional_cosines(
            video, partial(self.class_features, classes=classes), at_once=max(1, _PAIRS // len(classes))
        )

    # Training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Features of the training classes, once: the text tower is frozen."""
        assert self.train_classes is not None
        self._classes = self.encode_classes(self.train_classes.names)

    @override
    def train_text(self) -> Tensor:
        """Features `(C, D)` of the training classes without a video, not normalised."""
        assert self._classes is not None, "call on_fit_start first"
        return self._classes

    @override
    def training_logits(self, video: ConditionalVideos, text: Tensor) -> Tensor:
        cosines = conditional_cosines(video, partial(self.class_features, classes=text), at_once=len(video.video))
        return self.backbone.logit_scale.exp() * cosines

    @override
    def compile_blocks(self) -> None:
        super().compile_blocks()
        for block in (*self.integration.resblocks, *self.generator.decoder):
            block.compile()

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        def factor(name: str) -> float:
            return 1.0 if name.startswith("backbone.") and ".message_" not in name else self.new_lr_factor

        return trained_groups(
            self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay, factor=factor, decays=_decays,
            betas=(0.9, self.beta2),
        )  # fmt: skip


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter has a weight decay: a matrix, or a convolution, that holds no positions."""
    return parameter.ndim >= 2 and not name.endswith("positional_embedding")


def _views(training: TrainingFacts, tested: str | None) -> frozenset[str]:
    """The paper's views of a test video; none are stated for the validation of a training and for other datasets."""
    if tested is None or collection(tested) != collection(training.dataset):
        return frozenset()
    return frozenset({"4x3"} if training.subset.shots is None else {"1x1", "4x3"})
