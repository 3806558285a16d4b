"""LoRA as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.errors import ConfigError
from vlbench.methods.lora.attention import LowRankAttention, LowRankBlock
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.text_training import TextTraining
from vlbench.optim import Schedule
from vlbench.ranges import FACTORS, Range
from vlbench.settings import Side

_LOGIT_FACTOR = 100.0
"""Factor on cosines, as released: a constant, and not the backbone's."""

_PER_SHOT = 500
"""Steps of a training for each video of a class, as released."""


class LoRA(TextTraining):
    """Low-rank terms on the attention of both towers of a frozen CLIP, as in CLIP-LoRA (CVPRW 2024, arXiv 2405.18541).

    Each of the projections `W x + b` becomes `W x + b + s B A drop(x)`. The released method is one of images; a video
    is the mean of its frames here. Evaluation merges the terms into the weights.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = LoRA(TinyCLIP(), rank=4)
        >>> sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        16896
        >>> method.deviations()
        {'rank': 4}

    Args:
        backbone: Dual encoder that is adapted.
        schedule: Schedule of the learning rate.
        rank: Rank r of the terms.
        alpha: Numerator alpha of the factor s on the terms.
        scaling: Factor s on the terms: `sqrt_rank` for alpha / √r, as released, or `rank` for alpha / r.
        dropout: Part of the values of a term's input that training sets to 0, in [0, 1).
        parts: Projections with a term: a string of `q`, `k`, `v` and `o`, the output's.
        towers: Towers that are adapted: `both`, `image` or `text`.
        lr: Peak learning rate of the terms.
        weight_decay: Weight decay of AdamW.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
    """

    name = "lora"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "LoRA's terms are in the attention of blocks",
        "plain_attention": "LoRA's terms are of one weight for queries, keys and values",
    }
    # The method is one of images: nothing is published of frames and views.
    PAPER: ClassVar[Mapping[str, object]] = {
        "rank": 2,
        "alpha": 1.0,
        "scaling": "sqrt_rank",
        "dropout": 0.25,
        "parts": "qkv",
        "towers": "both",
        "lr": 2e-4,
        "weight_decay": 1e-2,
        "prompts": "photo",
        "view_fusion": "probabilities",
        "warmup_epochs": 0.0,
        "final_ratio": 0.005,
        "refresh_every": 1,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.batch": 32,
        "data.augmentation.flip": True,
        "data.augmentation.color_jitter": 0.0,
        "data.augmentation.gray": 0.0,
        "trainer.max_steps": lambda _, training, __: _steps(training.subset.shots),
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **TextTraining.SIDES,
        "rank": "both",
        "alpha": "both",
        "scaling": "both",
        "dropout": "training",
        "parts": "both",
        "towers": "both",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=0, final_ratio=0.005),  # noqa: B008 - frozen
        rank: int = 2,
        alpha: float = 1.0,
        scaling: Literal["sqrt_rank", "rank"] = "sqrt_rank",
        dropout: float = 0.25,
        parts: str = "qkv",
        towers: Literal["both", "image", "text"] = "both",
        lr: float = 2e-4,
        weight_decay: float = 1e-2,
        prompts: str | list[str] = "photo",
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(backbone, prompts, schedule, lr=lr, weight_decay=weight_decay, view_fusion=view_fusion)
        Range(1, min(backbone.image.width, backbone.text.width)).check("rank", rank)
        FACTORS.check("alpha", alpha)
        Range(0, 1, below=True).check("dropout", dropout)
        if scaling not in ("sqrt_rank", "rank"):
            raise ConfigError(f"scaling is {scaling!r}; allowed: 'sqrt_rank', 'rank'")
        if towers not in ("both", "image", "text"):
            raise ConfigError(f"towers is {towers!r}; allowed: 'both', 'image', 'text'")
        if not parts or sorted(parts) != sorted(set(parts) & set("qkvo")):
            raise ConfigError(f"parts is {parts!r}; allowed: some of the letters of 'qkvo', each once")
        self.rank = rank
        self.alpha = alpha
        self.scaling = scaling
        self.dropout = dropout
        self.parts = "".join(part for part in "qkvo" if part in parts)
        self.towers = towers
        scale = alpha / (math.sqrt(rank) if scaling == "sqrt_rank" else rank)
        make = partial(LowRankBlock, parts=parts, rank=rank, scale=scale, dropout=dropout)
        for name, tower in (("text", backbone.text), ("image", backbone.image)):
            for index in range(len(tower.blocks)):
                if towers in (name, "both"):
                    tower.replace(index, make)

    def attentions(self) -> list[LowRankAttention]:
        """The attentions with terms, those of the text tower first, in the order of the released files."""
        blocks = [*self.backbone.text.blocks, *self.backbone.image.blocks]
        return [block.attention for block in blocks if isinstance(block.attention, LowRankAttention)]

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("ViCLIP + LoRA",)

    @property
    @override
    def logit_factor(self) -> Tensor | float:
        return _LOGIT_FACTOR

    @override
    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """The terms as part of the weights: the same features but for rounding, at the frozen backbone's cost."""
        with ExitStack() as stack:
            for attention in self.attentions():
                stack.enter_context(attention.merged())
            yield


def _steps(shots: int | None) -> frozenset[int]:
    """The paper's number of steps, which is stated for few-shot only."""
    return frozenset() if shots is None else frozenset({_PER_SHOT * shots})
