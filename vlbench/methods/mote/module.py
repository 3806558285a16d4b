"""MoTE as a LightningModule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import USE_A_CLIP, Described, DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import collection
from vlbench.errors import CheckpointError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.base import Reads, VideoTextMethod
from vlbench.methods.mote.head import TemporalHead, modulation
from vlbench.methods.parts.blending import OriginalWeights
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import matrices_decay, trained_groups
from vlbench.methods.parts.pooling import unit_mean
from vlbench.optim import Schedule
from vlbench.ranges import COUNTS, FACTORS, SEEDS, WEIGHTS, Range
from vlbench.settings import Side

_TRAIN_CLASSES = "train_class_features"
_FULL_LISTS = {"ucf101": 9537, "hmdb51": 3570, "ssv2": 168_913}
"""Training videos of the whole first split, which is the size of an epoch in the few-shot protocol."""
_RELEASED = "released:"
"""Beginning of the dataset's name in the facts about weights that were released with the paper."""


class MoTE(VideoTextMethod):
    """Mixture of temporal experts (NeurIPS 2024, arXiv 2410.10589).

    The image tower is fine-tuned, the text tower is frozen, and a temporal head of experts is trained on top. The
    defaults are the paper's for ViT-B/16, and the released code's where the paper says nothing.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = MoTE(TinyCLIP(), layers=1, merge_loss=0.0)
        >>> method.deviations()
        {'layers': 1, 'merge_loss': 0.0}

    Args:
        backbone: Dual encoder that gives one feature a frame.
        schedule: Schedule of the learning rate.
        layers: Temporal layers; 4 for ViT-B/16, 6 for ViT-L/14.
        experts: Experts a layer; 0 is the plain temporal transformer.
        lr: Peak learning rate of the head.
        backbone_lr_ratio: Learning rate of the image tower and the logit scale as a part of `lr`; 0.07, for L/14 0.06,
            and 0 freezes both, so that the head alone trains, also on a bank of features.
        weight_decay: Weight decay of AdamW.
        decay_norms_and_biases: Whether it also applies to vectors and the logit scale, as in the released code.
        merge_loss: Weight of the merged branch's cross-entropy; 0 leaves the branch out.
        mse_loss: Weight of the distance between the merged branch's output and the frame features.
        original_share: Part of the original image tower blended into the fine-tuned one at evaluation.
        modulate: Whether evaluation modulates the temporal output by the classes' nearness to the training classes.
        modulation_scale: 0.05 in the paper; larger values keep more of the temporal output on unseen classes.
        modulation_top_k: Classes compared on either side.
        view_fusion: What is averaged over the views of a video: `softmax_of_mean`, the released softmax of the mean of
            softmaxed *unscaled* cosines, `probabilities`, `logits` or `cosines`.
        prompts: Templates of the class names.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the draws of experts and temperatures, which are the same in every process.
    """

    name = "mote"
    PAPER: ClassVar[Mapping[str, object]] = {
        "layers": lambda method: 6 if _is_large(method) else 4,
        "experts": 4,
        "lr": 5e-5,
        "backbone_lr_ratio": lambda method: 0.06 if _is_large(method) else 0.07,
        "weight_decay": 0.2,
        "decay_norms_and_biases": True,
        "merge_loss": 0.5,
        "mse_loss": 0.1,
        "original_share": 0.01,
        "modulate": True,
        "modulation_scale": 0.05,
        "modulation_top_k": 5,
        "view_fusion": "softmax_of_mean",
        "prompts": "mote",
        "warmup_epochs": 5.0,
        "final_ratio": 0.0,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    # Few-shot repeats the few videos to the size of the whole list; zero-shot tests the fully-supervised weights.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 8,
        "data.batch": 144,
        "data.clip.test_short_side": 1.0,
        "data.augmentation.short_side": 256 / 224,
        "data.loading.epoch_size": lambda _, training, __: _epoch_size(training),
        "data.clip.views": lambda _, training, tested: _views(training, tested),
        "trainer.max_epochs": lambda method, training, _: _epochs(method, training),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **VideoTextMethod.SIDES,
        "layers": "both",
        "experts": "both",
        "backbone_lr_ratio": "training",
        "decay_norms_and_biases": "training",
        "merge_loss": "training",
        "mse_loss": "training",
        "original_share": "test",
        "modulate": "test",
        "modulation_scale": "test",
        "modulation_top_k": "test",
    }
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "frames_encoded_one_by_one": "MoTE's head works on the features of single frames"
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=5),  # noqa: B008 - frozen
        layers: int = 4,
        experts: int = 4,
        lr: float = 5e-5,
        backbone_lr_ratio: float = 0.07,
        weight_decay: float = 0.2,
        decay_norms_and_biases: bool = True,
        merge_loss: float = 0.5,
        mse_loss: float = 0.1,
        original_share: float = 0.01,
        modulate: bool = True,
        modulation_scale: float = 0.05,
        modulation_top_k: int = 5,
        view_fusion: ViewFusion = "softmax_of_mean",
        prompts: str | list[str] = "mote",
        grad_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, prompts, schedule)
        Range(1, 64).check("layers", layers)
        Range(0, 64).check("experts", experts)
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("backbone_lr_ratio", backbone_lr_ratio)
        WEIGHTS.check("weight_decay", weight_decay)
        WEIGHTS.check("merge_loss", merge_loss)
        WEIGHTS.check("mse_loss", mse_loss)
        FACTORS.check("modulation_scale", modulation_scale)
        COUNTS.check("modulation_top_k", modulation_top_k)
        SEEDS.check("seed", seed)
        self.layers = layers
        self.experts = experts
        self.lr = lr
        self.backbone_lr_ratio = backbone_lr_ratio
        self.weight_decay = weight_decay
        self.decay_norms_and_biases = decay_norms_and_biases
        self.merge_loss = merge_loss
        self.mse_loss = mse_loss
        self.original_share = original_share
        self.modulate = modulate
        self.modulation_scale = modulation_scale
        self.modulation_top_k = modulation_top_k
        self.view_fusion = view_fusion
        self.grad_checkpointing = grad_checkpointing
        self.seed = seed
        self.head = TemporalHead(backbone.embed_dim, _heads(backbone), layers, experts)
        self.register_buffer(_TRAIN_CLASSES, torch.empty(0, backbone.embed_dim))
        self.train_class_features: Tensor
        backbone.requires_grad_(False)
        backbone.visual.requires_grad_(backbone_lr_ratio > 0)
        backbone.logit_scale.requires_grad_(backbone_lr_ratio > 0)
        backbone.set_grad_checkpointing(grad_checkpointing)
        self._original = OriginalWeights(backbone, original_share)

    @classmethod
    @override
    def refusal(cls, name: str, backbone: Described) -> str | None:
        refusal, heads = super().refusal(name, backbone), _heads(backbone)
        if refusal is None and backbone.embed_dim % heads:
            refusal = (
                f"MoTE's head divides features among {heads} attention heads, one for 64 dimensions of the text tower, "
                f"{name} has features of {backbone.embed_dim} dimensions; {USE_A_CLIP}"
            )
        return refusal

    def _tuned(self) -> dict[str, nn.Parameter]:
        """What is fine-tuned of the backbone."""
        return {**dict(self.backbone.visual.named_parameters()), "logit_scale": self.backbone.logit_scale}

    # Features ----------------------------------------------------------------------------------------------------

    @override
    def pool_frames(self, frames: Tensor, classes: Tensor | None = None) -> Tensor:
        factor = None
        if self.modulate and classes is not None and len(self.train_class_features):
            factor = modulation(
                unit_mean(frames),
                classes,
                self.train_class_features,
                scale=self.modulation_scale,
                k=self.modulation_top_k,
            )
        return unit_mean(self.head(frames, self.head.evaluation_routes(), factor))

    # Training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """The training classes' features, once: the text tower is frozen."""
        assert self.train_classes is not None
        with torch.no_grad():
            self.train_class_features = self.encode_text(self.train_classes.names)

    def generator(self) -> torch.Generator:
        """The draws of the current step: a function of seed and step, so that processes and resumed runs agree."""
        seed = np.random.SeedSequence([self.seed, self.global_step]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        generator = self.generator()
        frames = batch.encoded(lambda clips: self.backbone.encode_frames(self.backbone.normalize(clips)))
        return self.losses(frames, batch.labels, self.head.draw_experts(generator), self.head.draw_merges(generator))

    def losses(
        self, frames: Tensor, labels: Tensor, experts: Sequence[int | Tensor], merges: Sequence[int | Tensor]
    ) -> dict[str, Tensor]:
        """The paper's loss `CE(expert) + 0.5 CE(merged) + 0.1 MSE(merged output, frame features)` and its terms.

        Args:
            frames: Frame features `(B, T, C)`; not detached in the distance, so both sides get gradient.
            labels: Labels of the clips, int64 `(B,)`.
            experts: Routes of the expert branch, one a layer.
            merges: Routes of the merged branch, one a layer.
        """

        def cross_entropy(output: Tensor) -> Tensor:
            return F.cross_entropy(self.training_logits(unit_mean(output), self.train_class_features), labels)

        terms = {"ce": cross_entropy(self.head(frames, experts))}
        loss = terms["ce"]
        if self.merge_loss or self.mse_loss:
            merged = self.head(frames, merges)
            terms["ce_merged"] = cross_entropy(merged)
            terms["mse"] = F.mse_loss(merged, frames)
            loss = loss + self.merge_loss * terms["ce_merged"] + self.mse_loss * terms["mse"]
        return {"loss": loss, **terms}

    @property
    @override
    def reads(self) -> Reads:
        return "clips" if self.backbone_lr_ratio else "frame_features"

    @property
    @override
    def leaves_parameters_unused(self) -> bool:
        # Without the merged branch, the experts that were not drawn.
        return self.experts > 1 and not (self.merge_loss or self.mse_loss)

    @override
    def compile_blocks(self) -> None:
        super().compile_blocks()
        self.head.compile_blocks()

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        decays = (lambda *_: True) if self.decay_norms_and_biases else matrices_decay
        tuned = (self._tuned().items(), self.lr * self.backbone_lr_ratio), (self.head.named_parameters(), self.lr)
        return [
            group
            for named, lr in tuned
            for group in trained_groups(named, lr=lr, weight_decay=self.weight_decay, decays=decays)
        ]

    # Evaluation --------------------------------------------------------------------------------------------------

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("MoTE",)

    @property
    @override
    def features_depend_on_classes(self) -> bool:
        return self.modulate

    @override
    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Image tower and logit scale with `original_share` of their original values, experts merged to one MLP."""
        share = self.original_share if self.backbone_lr_ratio else 0.0  # a frozen tower has its original values
        with self._original.blended(self.backbone, share), self.head.merged():
            yield

    @override
    def trained_keys(self) -> set[str]:
        # The training classes travel along, so that modulation works where their data set is not.
        frozen = {f"head.{key}" for key, _ in self.head.named_parameters()}
        return super().trained_keys() | frozen | {_TRAIN_CLASSES}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        features = checkpoint["state_dict"].get(_TRAIN_CLASSES)
        if features is not None:
            if features.shape[1:] != self.train_class_features.shape[1:]:
                raise CheckpointError(
                    f"the checkpoint's class features have shape {tuple(features.shape)}, the backbone embeds in "
                    f"{self.backbone.embed_dim} dimensions"
                )
            self.train_class_features = torch.empty_like(features, device=self.train_class_features.device)
        super().on_load_checkpoint(checkpoint)


def _heads(backbone: Described) -> int:
    """Number of attention heads: one for 64 dimensions of the text tower, as in the released code."""
    return max(1, backbone.text_width // 64)


def _is_large(method: MoTE) -> bool:
    """Whether the paper's values for ViT-L/14 apply; ViT-B/16 and smaller towers embed in fewer dimensions."""
    return method.backbone.embed_dim >= 768


def _epoch_size(training: TrainingFacts) -> frozenset[int | None]:
    """The paper's number of clips of an epoch, `None` for each video once; the empty set where it is not known."""
    if training.subset.shots is None:
        return frozenset({None})
    size = _FULL_LISTS.get(collection(training.dataset))
    return frozenset() if size is None else frozenset({size})


def _epochs(method: MoTE, training: TrainingFacts) -> int:
    """The paper's number of epochs."""
    if training.subset.shots is not None:
        return 2 if collection(training.dataset) == "ssv2" else 10
    return 20 if _is_large(method) else 30


def _views(training: TrainingFacts, tested: str | None) -> frozenset[str]:
    """The paper's views of a test video; none are stated for the validation of a training."""
    if tested is None:
        return frozenset()
    trained = "kinetics400" if training.dataset.startswith(_RELEASED) else collection(training.dataset)
    if collection(tested) != trained:
        return frozenset({"3x1"})
    return frozenset({"1x1", "4x3"} if training.subset.shots is None else {"1x1"})
