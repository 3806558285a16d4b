"""TC-CLIP as a LightningModule."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.text import PreparedTexts
from vlbench.datasets.specs import collection
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.parts.class_features import ensemble, prompted
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import trained_groups
from vlbench.methods.parts.mixed_training import MixedTraining, views_of_a_test
from vlbench.methods.parts.mixing import Mixing
from vlbench.methods.parts.pooling import unit_mean
from vlbench.methods.parts.rephrased import RephrasedNames
from vlbench.methods.parts.starting import start_parts
from vlbench.methods.parts.video_text import ConditionalVideos, conditional_cosines
from vlbench.methods.tc_clip.blocks import ContextBlock, FramesAndContext
from vlbench.methods.tc_clip.generator import PromptGenerator, with_vectors
from vlbench.optim import Schedule
from vlbench.ranges import COUNTS, FACTORS, Range
from vlbench.settings import Side

_RELEASED = Schedule(warmup_epochs=5, final_ratio=0.01, cosine_from="start", lag=0.25, floor="absolute")
_WORDS = "a photo of a"
"""Words that the learned vectors begin as, and whose place they take."""
_TOKENS = 2**15
"""Text tokens whose last block is computed at once in an evaluation, over videos and classes."""


class FrameFeatures(NamedTuple):
    """What TC-CLIP's image tower makes of clips.

    Attributes:
        frames: Features of the frames, `(B, T, D)`.
        context: Features of the context tokens, `(B, k, D)`.
    """

    frames: Tensor
    context: Tensor


class TCCLIP(RephrasedNames, MixedTraining):
    """TC-CLIP (ECCV 2024, arXiv 2404.09490): context tokens of the whole clip, and prompts that depend on the video.

    Both towers and the logit scale are fine-tuned. The defaults are the paper's for few-shot with ViT-B/16, and the
    released code's where the paper says nothing.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> TCCLIP(TinyCLIP(), context_tokens=8).deviations()
        {'context_tokens': 8}

    Args:
        backbone: Dual encoder that is fine-tuned; gives one feature a frame.
        schedule: Schedule of the learning rate.
        mixing: Mixtures of training clips, and the smoothing of their labels.
        rephrased: JSON file with a string `Name: sentence` for every class of the dataset, class index -> string, that
            stands for the class name in the texts; null takes the names.
        seed_share: Part of a frame's patches that context tokens are made of: those with the most attention.
        context_tokens: Number k of context tokens of a clip.
        merged_at_once: Largest number of pairs of patches that one of the first rounds of merging merges.
        lr: Peak learning rate: 2e-6 for few-shot, 3.33e-6 for base-to-novel, 8e-6 for zero-shot, 2.2e-5 for
            fully-supervised.
        new_lr_factor: Factor on the learning rate of the learned vectors and of the layer that makes prompts of them.
        weight_decay: Weight decay of AdamW, of biases, norms and the logit scale too.
        beta2: Decay of AdamW's mean of squared gradients.
        original_share: Part of the original weights blended into the fine-tuned ones at evaluation: 0.3 in one of the
            paper's two zero-shot tests. What CLIP does not have is not blended.
        prompts: Templates of the class names, which come behind the learned vectors.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
        pretrained_from: Checkpoint of a training whose backbone this one starts from, and whose new parts if it is of
            the same method; `None` starts from the original weights.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the mixtures.
    """

    name = "tc_clip"
    NO_DEVIATION: ClassVar[Mapping[str, str]] = {
        **MixedTraining.NO_DEVIATION,
        "rephrased": "the paper has both, the names and a file of sentences",
    }
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "TC-CLIP's context tokens run through blocks",
        "class_token": "TC-CLIP chooses patches by the class token's attention",
        "causal_text": "TC-CLIP's learned vectors stand before the class names and must not see them",
        "frames_encoded_one_by_one": "TC-CLIP makes context tokens of single frames",
        "plain_attention": "TC-CLIP has frames attend to context tokens",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "seed_share": 0.3,
        "context_tokens": 96,
        "merged_at_once": 100,
        "lr": frozenset({2e-6, 3.33e-6, 8e-6, 2.2e-5}),
        "new_lr_factor": 10.0,
        "weight_decay": 1e-3,
        "beta2": 0.98,
        "original_share": frozenset({0.0, 0.3}),
        "prompts": "name",
        "view_fusion": "probabilities",
        "mixup": 0.8,
        "cutmix": 1.0,
        "cutmix_share": 0.5,
        "label_smoothing": 0.1,
        "mixed_clips": 4,
        "warmup_epochs": frozenset({2.0, 5.0}),
        "final_ratio": 0.01,
        "refresh_every": 1,
        "cosine_from": "start",
        "lag": frozenset({1 / 4, 1 / 16, 1 / 32}),
        "initial_ratio": 0.0,
        "floor": "absolute",
    }
    # Trainings on whole sets are the paper's zero-shot one or its fully-supervised one; which, no fact says.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 16,
        "data.batch": lambda _, training, __: frozenset({256, 512} if training.subset.shots is None else {64}),
        "data.clip.test_short_side": frozenset({1.0, 256 / 224}),
        "data.clip.views": lambda _, training, tested: views_of_a_test(training, tested, few="2x1"),
        "data.augmentation.short_side": 256 / 224,
        "data.augmentation.flip": lambda _, training, __: collection(training.dataset) != "ssv2",
        "data.augmentation.color_jitter": 0.8,
        "data.augmentation.gray": 0.2,
        "trainer.max_epochs": lambda _, training, __: _epochs(training),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **MixedTraining.SIDES,
        "rephrased": "both",
        "seed_share": "both",
        "context_tokens": "both",
        "merged_at_once": "both",
        "new_lr_factor": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = _RELEASED,
        mixing: Mixing = Mixing(),  # noqa: B008 - frozen
        rephrased: str | None = None,
        seed_share: float = 0.3,
        context_tokens: int = 96,
        merged_at_once: int = 100,
        lr: float = 2e-6,
        new_lr_factor: float = 10.0,
        weight_decay: float = 1e-3,
        beta2: float = 0.98,
        original_share: float = 0.0,
        prompts: str | list[str] = "name",
        view_fusion: ViewFusion = "probabilities",
        pretrained_from: str | None = None,
        grad_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            backbone, prompts, schedule, mixing=mixing, lr=lr, weight_decay=weight_decay, beta2=beta2,
            view_fusion=view_fusion, pretrained_from=pretrained_from, seed=seed, original_share=original_share,
        )  # fmt: skip
        Range(0, 1, above=True).check("seed_share", seed_share)
        COUNTS.check("context_tokens", context_tokens)
        COUNTS.check("merged_at_once", merged_at_once)
        FACTORS.check("new_lr_factor", new_lr_factor)
        self.rephrased = rephrased
        self.seed_share = seed_share
        self.context_tokens = context_tokens
        self.merged_at_once = merged_at_once
        self.new_lr_factor = new_lr_factor
        self.grad_checkpointing = grad_checkpointing
        image, text = backbone.image, backbone.text
        backbone.requires_grad_(True)
        text.token_embedding.requires_grad_(False)
        make: Callable[..., ContextBlock] = partial(
            ContextBlock, seed_share=seed_share, context_tokens=context_tokens, merged_at_once=merged_at_once
        )
        last = len(image.blocks) - 1
        for index in range(last + 1):
            image.replace(index, partial(make, index=index, last=index == last))
        self.generator = PromptGenerator(text.blocks[-1], backbone.embed_dim, text.width)
        with torch.device("cpu"):  # words are no weights: they are there on the meta device too
            words = backbone.tokenize([_WORDS])[0, 1:-1]
        self.learned = nn.Parameter(text.token_embedding(words).detach().clone())
        backbone.set_grad_checkpointing(grad_checkpointing)
        start_parts(self, pretrained_from)
        self._tokens: Tensor | None = None

    # Video -------------------------------------------------------------------------------------------------------

    @override
    def encode_frames(self, clips: Tensor) -> FrameFeatures:
        batch, frames = clips.shape[:2]
        parts: Any = self.backbone.visual
        x = parts.embed(clips.flatten(0, 1))  # (B·T, N, W)
        layout = FramesAndContext(frames, tokens=x.shape[1])
        x = self.backbone.image.run(layout.join([x.unflatten(0, (batch, frames))]), layout)  # (B, T + k, W)
        features = parts.project(x)
        return FrameFeatures(features[:, :frames], features[:, frames:])

    @override
    def pool_frames(self, frames: FrameFeatures, classes: PreparedTexts | None = None) -> ConditionalVideos:
        return ConditionalVideos(unit_mean(frames.frames), frames.context)

    # Text --------------------------------------------------------------------------------------------------------

    def texts(self, class_names: Sequence[str]) -> list[str]:
        """Texts of the classes: words in the place of the learned vectors, and names with a space before capitals."""
        named = [self.rephrased_name(name) for name in class_names]
        # Tokenizers take several spaces for one.
        names = [" ".join(re.sub("([A-Z])", r" \1", name).replace("_", " ").split()) for name in named]
        return [f"{_WORDS} {text}" for text in prompted(names, self.templates)]

    def prepare(self, tokens: Tensor) -> PreparedTexts:
        """Texts before the last block, the first one that sees a video: the same for all videos.

        Args:
            tokens: Token ids of the texts, `(C, L)`.
        """
        text = self.backbone.text
        learned = self.learned + text.positional_embedding[1 : 1 + len(self.learned)]
        return text.advance(with_vectors(text.embed(tokens), learned.unsqueeze(0)), len(text.blocks) - 1)

    def class_features(self, context: Tensor, texts: PreparedTexts) -> Tensor:
        """Class features `(B, C, D)` of videos: means over the prompts of unit features.

        Args:
            context: Features of the videos' context tokens, `(B, k, D)`.
            texts: Texts of the classes before the last block, C times as many as there are prompts.
        """
        # Attention is causal: below the last block the learned vectors are the same in every text.
        prompts = self.generator(texts.hidden[:1, 1 : 1 + len(self.learned)], context)  # (B, n, W)
        features = self.backbone.text.finish(with_vectors(texts, prompts))
        unit = F.normalize(features, dim=-1).unflatten(0, (context.shape[0], -1, len(self.templates)))
        averaged: Tensor = unit.mean(dim=2)
        return averaged

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        """Unit features `(C, D)` of classes without a video, of which the learned vectors see nothing."""
        return ensemble(self.backbone.text.finish(self.encode_classes(class_names)), len(class_names))

    @override
    def encode_classes(self, class_names: Sequence[str]) -> PreparedTexts:
        with torch.autocast(self.learned.device.type, enabled=False):
            return self.prepare(self.backbone.tokenize(self.texts(class_names)))

    @override
    def score(self, video: ConditionalVideos, classes: PreparedTexts) -> Tensor:
        at_once = max(1, _TOKENS // classes.hidden[..., 0].numel())
        return conditional_cosines(video, partial(self.class_features, texts=classes), at_once)

    # Training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """The tokens of the training classes' texts."""
        assert self.train_classes is not None
        self._tokens = self.backbone.tokenize(self.texts(self.train_classes.names))

    @override
    def train_text(self) -> PreparedTexts:
        """Texts of the training classes before the last block, with a graph: computed once for a batch."""
        assert self._tokens is not None, "call on_fit_start first"
        return self.prepare(self._tokens)

    @override
    def training_logits(self, video: ConditionalVideos, text: PreparedTexts) -> Tensor:
        # The text's gradient does not reach the video.
        videos = ConditionalVideos(video.video, video.context.detach())
        cosines = conditional_cosines(videos, partial(self.class_features, texts=text), at_once=len(video.video))
        return self.backbone.logit_scale.exp() * cosines

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return trained_groups(
            self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay, betas=(0.9, self.beta2),
            factor=lambda name: 1.0 if name.startswith("backbone.") else self.new_lr_factor,
        )  # fmt: skip


def _epochs(training: TrainingFacts) -> frozenset[int]:
    """The paper's number of epochs."""
    if training.subset.shots is None:
        return frozenset({10, 30})
    return frozenset({50} if training.subset.classes == "all" else {12})
