"""Efficient-Prompt: learned context of the class names and a transformer over time, on a frozen CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.blocks import QuickGELU
from vlbench.backbones.text import PreparedTexts
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import ClassState, Features
from vlbench.methods.parts.class_features import ensemble
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.pooling import unit_mean
from vlbench.methods.parts.text_training import TextTraining
from vlbench.optim import Schedule
from vlbench.ranges import FACTORS, FRAMES, Range
from vlbench.settings import Side

_PUBLISHED = (
    "A5/A6 (Efficient-Prompt)",
    "A5 (Efficient-Prompt)",
    "A6 (Efficient-Prompt)",
    'A5 (Efficient-Prompt, "VPT" in the README)',
)
_HEAD_WIDTH = 64
_STD = 0.01


class TemporalTransformer(nn.Module):
    """A pre-norm transformer over frame features, `TFM(f + positions)`, without a residual around all of it.

    Args:
        width: Width D of the frame features; heads are 64 wide.
        layers: Number of blocks of the transformer.
        frames: Number of learned positions, and of frames at most.
    """

    def __init__(self, width: int, layers: int, frames: int) -> None:
        super().__init__()
        if width % _HEAD_WIDTH:
            raise ConfigError(
                f"the temporal transformer has heads of {_HEAD_WIDTH} dimensions, which do not divide the backbone's "
                f"{width}; use a CLIP, such as --config backbone/vit_b16.yaml"
            )
        self.positions = nn.Parameter(torch.empty(frames, width).normal_(std=_STD))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, width // _HEAD_WIDTH, 4 * width, 0.0, QuickGELU(), batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """The output `(B, T, D)` for frame features of that shape.

        Raises:
            ConfigError: If there are more frames than positions.
        """
        if frames.shape[1] > len(self.positions):
            raise ConfigError(
                f"a clip has {frames.shape[1]} frames and max_frames is {len(self.positions)}; give a larger "
                "model.max_frames, or fewer data.frames"
            )
        x = frames + self.positions[: frames.shape[1]]
        for block in self.blocks:
            x = block(x)
        return x


class EfficientPrompt(TextTraining):
    """Efficient-Prompt, A5 and A6 in its tables (ECCV 2022, arXiv 2112.04478): learned context, transformer over time.

    Both towers are frozen. A class is `[SOS, 16 learned vectors, name, 16 learned vectors, EOS]`, a video the mean of a
    transformer's output over its frame features. Which vectors of the released table stand behind a name, how heads,
    activation, blocks and positions begin are readings of ours.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = EfficientPrompt(TinyCLIP(), text_tokens=4)
        >>> method.texts(["Baby_Crawling"])
        ['X X X X Baby Crawling X X X X']
        >>> method.deviations()
        {'text_tokens': 4}

    Args:
        backbone: Dual encoder that gives one feature a frame; frozen.
        schedule: Schedule of the learning rate.
        text_tokens: Learned vectors on each side of a class name.
        layers: Blocks of the transformer over time: 1 in the released command, 2 by the released default.
        max_frames: Number of learned positions of frames, the most frames that a clip may have.
        temperature: Temperature τ that cosines are divided by.
        lr: Learning rate of all that trains.
        weight_decay: Weight decay of AdamW.
        prompts: Templates of the class names, which stand between the learned vectors.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
    """

    name = "efficient_prompt"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "Efficient-Prompt's vectors enter the text tower before its blocks",
        "causal_text": "Efficient-Prompt's vectors stand before the end token of a causal text",
        "frames_encoded_one_by_one": "Efficient-Prompt's transformer runs over the features of single frames",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "text_tokens": 16,
        "layers": frozenset({1, 2}),
        "max_frames": 16,
        "temperature": 0.07,
        "lr": 1e-4,
        "weight_decay": 1e-2,
        "prompts": "{}",
        "view_fusion": "probabilities",
        "warmup_epochs": 0.0,
        "final_ratio": 1.0,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    # The released code trains on HMDB-51 alone, for 1,100 steps.
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 16,
        "data.batch": 64,
        "data.augmentation.short_side": 1.0,
        "data.augmentation.flip": False,
        "data.augmentation.color_jitter": 0.0,
        "data.augmentation.gray": 0.0,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **TextTraining.SIDES,
        "text_tokens": "both",
        "layers": "both",
        "max_frames": "both",
        "temperature": "both",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=0, final_ratio=1.0),  # noqa: B008 - frozen
        text_tokens: int = 16,
        layers: int = 1,
        max_frames: int = 16,
        temperature: float = 0.07,
        lr: float = 1e-4,
        weight_decay: float = 1e-2,
        prompts: str | list[str] = "{}",
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(backbone, prompts, schedule, lr=lr, weight_decay=weight_decay, view_fusion=view_fusion)
        context = backbone.text.context
        Range(1, (context - 3) // 2).check("text_tokens", text_tokens)  # a start, a word and an end come with them
        Range(1, 128).check("layers", layers)
        FRAMES.check("max_frames", max_frames)
        FACTORS.check("temperature", temperature)
        self.text_tokens = text_tokens
        self.layers = layers
        self.max_frames = max_frames
        self.temperature = temperature
        # As released, a vector for every place of the context, the first of which are used.
        self.learned = nn.Parameter(torch.empty(context, backbone.text.width).normal_(std=_STD))
        self.temporal = TemporalTransformer(backbone.embed_dim, layers, max_frames)

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return _PUBLISHED

    @property
    @override
    def logit_factor(self) -> Tensor | float:
        return 1 / self.temperature

    @override
    def pool_frames(self, frames: Features, classes: ClassState | None = None) -> Features:
        return unit_mean(self.temporal(frames))

    @override
    def texts(self, class_names: Sequence[str]) -> list[str]:
        """Texts of the classes: the name without underscores between placeholders, whose places the vectors take."""
        around = " ".join(["X"] * self.text_tokens)
        return [f"{around} {text} {around}" for text in super().texts(class_names)]

    def embedded(self, class_names: Sequence[str]) -> PreparedTexts:
        """Texts of the classes before the first block, with placeholders.

        Raises:
            ConfigError: If a name and the learned vectors do not fit the context.
        """
        text, names = self.backbone.text, super().texts(class_names)
        lengths = torch.tensor(text.lengths(names)) + 2 * self.text_tokens
        longest = int(lengths.max())
        if longest > text.context:  # a tower that cuts texts would cut vectors
            raise ConfigError(
                f"the class name {names[int(lengths.argmax())]!r} and {2 * self.text_tokens} learned vectors have "
                f"{longest} tokens of a context of {text.context}; give a smaller model.text_tokens"
            )
        return text.embed(self.backbone.tokenize(self.texts(class_names)))

    def with_vectors(self, texts: PreparedTexts) -> PreparedTexts:
        """Texts before the first block, with the learned vectors and their positions in the places of placeholders."""
        count, width = self.text_tokens, self.learned.shape[1]
        ends = torch.as_tensor(texts.ends).view(-1, 1)
        steps = torch.arange(count, device=ends.device)
        places = torch.cat([(1 + steps).expand(len(ends), -1), ends - count + steps], dim=1)
        vectors = self.learned[: 2 * count] + self.backbone.text.positional_embedding[places]
        index = places.unsqueeze(-1).expand(-1, -1, width)
        return replace(texts, hidden=texts.hidden.scatter(1, index, vectors.to(texts.hidden.dtype)))

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        features = self.backbone.text.finish(self.with_vectors(self.embedded(class_names)))
        return ensemble(features, len(class_names))

    def on_fit_start(self) -> None:
        """The texts of the training classes before the first block, which is frozen but for the learned vectors."""
        assert self.train_classes is not None
        with torch.no_grad():
            self._prepared = self.embedded(self.train_classes.names)

    @override
    def train_text(self) -> Tensor:
        assert self._prepared is not None, "call on_fit_start first"
        assert self.train_classes is not None
        features = self.backbone.text.finish(self.with_vectors(self._prepared))
        return ensemble(features, len(self.train_classes.names))
