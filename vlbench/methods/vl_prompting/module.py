"""Vision-language prompting as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.text import PreparedTexts
from vlbench.methods.parts.class_features import ensemble, prompted
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.mixed_training import MixedTraining
from vlbench.methods.parts.mixing import Mixing
from vlbench.methods.vl_prompting.blocks import DeepPrompts, ImagePromptBlock, TextPromptBlock
from vlbench.optim import Schedule
from vlbench.ranges import Range
from vlbench.settings import Side

_RELEASED = Schedule(warmup_epochs=5, final_ratio=0.01, cosine_from="start", lag=0.5)


class VLPrompting(MixedTraining):
    """Vision-language prompting, the second stage of ViFi-CLIP's "bridge and prompt" (CVPR 2023, arXiv 2212.03640).

    The backbone is frozen, as ViFi-CLIP's training on Kinetics-400 left it, see `pretrained_from`. The defaults are the
    paper's for few-shot with ViT-B/16, and the released code's where the paper says nothing.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = VLPrompting(TinyCLIP(), image_depth=3, text_depth=3)
        >>> sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        5760

    Args:
        backbone: Dual encoder that gives one feature a frame; frozen.
        schedule: Schedule of the learning rate.
        mixing: Mixtures of training clips, and the smoothing of their labels.
        image_tokens: Learned tokens of an image block; 10 for few-shot, 16 for base-to-novel.
        text_tokens: Learned tokens of a text block, of the context's 77; 10 for few-shot, 16 for base-to-novel.
        image_depth: First image blocks that have learned tokens; 12 for few-shot, 9 for base-to-novel, 0 for none.
        text_depth: First text blocks that have learned tokens; 12 for few-shot, 9 for base-to-novel.
        lr: Peak learning rate; 8e-3 for few-shot, 4e-2 for base-to-novel.
        weight_decay: Weight decay of AdamW.
        beta2: Decay of AdamW's mean of squared gradients.
        prompts: Templates of the class names, which come behind the learned tokens.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
        pretrained_from: Checkpoint of a training whose backbone this one starts from; `None` starts from the original
            weights.
        seed: Seed of the mixtures.
    """

    name = "vl_prompting"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "VL prompting's tokens run through blocks",
        "class_token": "VL prompting appends tokens behind the class token",
        "frames_encoded_one_by_one": "VL prompting appends tokens to those of single frames",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "image_tokens": frozenset({10, 16}),
        "text_tokens": frozenset({10, 16}),
        "image_depth": lambda method: 9 if method.image_tokens == 16 else 12,
        "text_depth": lambda method: 9 if method.text_tokens == 16 else 12,
        "lr": frozenset({8e-3, 4e-2}),
        "weight_decay": 1e-3,
        "beta2": 0.98,
        "prompts": "name",
        "view_fusion": "probabilities",
        "mixup": 0.8,
        "cutmix": 1.0,
        "cutmix_share": 0.5,
        "label_smoothing": 0.1,
        "mixed_clips": 4,
        "warmup_epochs": 5.0,
        "final_ratio": 0.01,
        "refresh_every": 1,
        "cosine_from": "start",
        "lag": 0.5,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 32,
        "data.batch": 64,
        "data.clip.test_short_side": 256 / 224,
        "data.clip.views": lambda _, __, tested: frozenset() if tested is None else "1x1",
        "data.augmentation.short_side": 256 / 224,
        "data.augmentation.flip": True,
        "data.augmentation.color_jitter": 0.8,
        "data.augmentation.gray": 0.2,
        "trainer.max_epochs": lambda _, training, __: 50 if training.subset.classes == "all" else 11,
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **MixedTraining.SIDES,
        "image_tokens": "both",
        "text_tokens": "both",
        "image_depth": "both",
        "text_depth": "both",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = _RELEASED,
        mixing: Mixing = Mixing(),  # noqa: B008 - frozen
        image_tokens: int = 10,
        text_tokens: int = 10,
        image_depth: int = 12,
        text_depth: int = 12,
        lr: float = 8e-3,
        weight_decay: float = 1e-3,
        beta2: float = 0.98,
        prompts: str | list[str] = "name",
        view_fusion: ViewFusion = "probabilities",
        pretrained_from: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            backbone, prompts, schedule, mixing=mixing, lr=lr, weight_decay=weight_decay, beta2=beta2,
            view_fusion=view_fusion, pretrained_from=pretrained_from, seed=seed,
        )  # fmt: skip
        longest = backbone.text.context - 3  # a start, a word and an end come with them
        for option, value, allowed in (
            ("image_tokens", image_tokens, Range(1, 1_024)),
            ("text_tokens", text_tokens, Range(1, longest)),
            ("image_depth", image_depth, Range(0, len(backbone.image.blocks))),
            ("text_depth", text_depth, Range(1, len(backbone.text.blocks))),
        ):
            allowed.check(option, value)
        self.image_tokens = image_tokens
        self.text_tokens = text_tokens
        self.image_depth = image_depth
        self.text_depth = text_depth
        backbone.requires_grad_(False)
        self.image_prompts = DeepPrompts(image_depth, image_tokens, backbone.image.width)
        self.text_prompts = DeepPrompts(text_depth, text_tokens, backbone.text.width)
        self.image_prompts.requires_grad_(image_depth > 0)
        norm = backbone.image.norm
        for index in range(image_depth):
            block = partial(ImagePromptBlock, prompts=self.image_prompts, index=index, norm=norm)
            backbone.image.replace(index, block)
        text = backbone.text
        for index in range(text_depth):
            positions = partial(getattr, text, "positional_embedding")
            text.replace(index, partial(TextPromptBlock, prompts=self.text_prompts, index=index, positions=positions))
        self._texts: PreparedTexts | None = None

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return () if self.pretrained_from is None else ("ViFi-CLIP VL-prompting (K400 bridge)",)

    def texts(self, class_names: Sequence[str]) -> list[str]:
        """Texts of the classes: placeholders, whose place the learned tokens take, and the name without underscores."""
        placeholders = "X " * self.text_tokens
        names = [name.replace("_", " ") for name in class_names]
        return [placeholders + text for text in prompted(names, self.templates)]

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        return ensemble(self.backbone.encode_texts(self.texts(class_names)), len(class_names))

    def on_fit_start(self) -> None:
        """The tokens of the training classes' texts before the first block, which is frozen below the learned ones."""
        assert self.train_classes is not None
        with torch.no_grad():
            self._texts = self.backbone.text.embed(self.backbone.tokenize(self.texts(self.train_classes.names)))

    @override
    def train_text(self) -> Tensor:
        """Unit features `(C, D)` of the training classes, with a graph."""
        assert self._texts is not None, "call on_fit_start first"
        assert self.train_classes is not None
        return ensemble(self.backbone.text.finish(self._texts), len(self.train_classes.names))
