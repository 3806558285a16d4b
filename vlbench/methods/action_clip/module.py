"""ActionCLIP as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import LACKS, USE_A_CLIP, DualEncoder
from vlbench.backbones.weight_files import check_keys
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import collection
from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.evaluation.measures import Probability
from vlbench.methods.action_clip.blocks import ShiftedBlock
from vlbench.methods.action_clip.heads import HeadName, make_head
from vlbench.methods.parts.class_features import ensemble, prompted
from vlbench.methods.parts.contrastive import ContrastiveTraining
from vlbench.methods.parts.draws import drawn_groups
from vlbench.methods.parts.groups import trained_groups
from vlbench.methods.parts.pooling import unit_mean
from vlbench.methods.parts.starting import start_from
from vlbench.optim import Schedule
from vlbench.ranges import FRAMES, SEEDS, WEIGHTS, Range
from vlbench.settings import Side

_TEST_SCALE = 100.0
"""Factor on cosines at evaluation, in the released code whatever the learned one is."""

_HEAD = "temporal."
"""Beginning of the names of the head's weights."""

_BATCHES = {"kinetics400": 128, "hmdb51": 64, "ucf101": 32}
"""Training clips of an optimizer step in the released recipes, by the dataset's name without its variant."""


class ActionCLIP(ContrastiveTraining):
    """ActionCLIP (arXiv 2109.08472): a whole CLIP is fine-tuned with a head over time, videos against texts.

    A clip meets one of the templates in training; evaluation averages the class probabilities over all of them. The
    defaults are the paper's for ViT-B/16, and the released code's where the paper says nothing.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> ActionCLIP(TinyCLIP(), head="meanP", weight_decay=0.0).deviations()
        {'head': 'meanP', 'weight_decay': 0.0}

    Args:
        backbone: Dual encoder that gives one feature a frame; all of it is fine-tuned.
        schedule: Schedule of the learning rate.
        head: Head over time, by its released name: `Transf`, `Transf_cls`, `LSTM`, `Conv_1D` or `meanP`;
            `Conv_1D_corrected` convolves over time, where the released code mixes channels and frames.
        layers: Number of blocks of the heads `Transf` and `Transf_cls`.
        frames: Number of frames of a clip that the head `Transf_cls` has positions for, the same as `data.frames`.
        shift: Whether image blocks take an eighth of the patches' channels from the next frame and an eighth from the
            previous one, the paper's "in-network prompt".
        lr: Peak learning rate of the text tower and the logit scale.
        image_lr_ratio: Learning rate of the image tower as a part of `lr`.
        head_lr_ratio: Learning rate of the head, in units of `lr`.
        weight_decay: Weight decay of AdamW, of biases, norms and the logit scale too.
        beta2: Decay of AdamW's mean of squared gradients.
        contrasted_clips: Clips whose videos and texts are contrasted with each other: all of a step in the paper, 128
            for Kinetics-400. A process needs memory for its part of them at once.
        prompts: Templates of the class names, of which a training clip meets one.
        pretrained_from: Checkpoint of a training whose backbone this one starts from, and whose head if it is
            ActionCLIP's; `None` starts from the original weights.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the draws of templates, which do not depend on the number of processes.
    """

    name = "action_clip"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "frames_encoded_one_by_one": "ActionCLIP's head runs over the features of single frames"
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "head": "Transf",
        "layers": 6,
        "frames": frozenset({8, 16, 32}),
        "shift": False,
        "lr": 5e-6,
        "image_lr_ratio": 1.0,
        "head_lr_ratio": 10.0,
        "weight_decay": 0.2,
        "beta2": 0.98,
        "contrasted_clips": frozenset(_BATCHES.values()),
        "prompts": "action",
        "warmup_epochs": 5.0,
        "final_ratio": 0.0,
        "refresh_every": 10,
        "cosine_from": "warmup_end",
        "lag": 0.0,
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": frozenset({8, 16, 32}),
        "data.batch": lambda _, training, __: _batches(training),
        "data.clip.test_short_side": 256 / 224,
        "data.clip.views": lambda _, __, tested: frozenset() if tested is None else "1x1",
        "data.augmentation.color_jitter": 0.8,
        "data.augmentation.gray": 0.2,
        "trainer.max_epochs": lambda _, training, __: frozenset({50} if training.subset.shots is None else ()),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **ContrastiveTraining.SIDES,
        "head": "both",
        "layers": "both",
        "frames": "both",
        "shift": "both",
        "image_lr_ratio": "training",
        "head_lr_ratio": "training",
    }
    TERMS_WEIGHT = 0.5

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=5, refresh_every=10),  # noqa: B008 - frozen
        head: HeadName = "Transf",
        layers: int = 6,
        frames: int = 8,
        shift: bool = False,
        lr: float = 5e-6,
        image_lr_ratio: float = 1.0,
        head_lr_ratio: float = 10.0,
        weight_decay: float = 0.2,
        beta2: float = 0.98,
        contrasted_clips: int = 128,
        prompts: str | list[str] = "action",
        pretrained_from: str | None = None,
        grad_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            backbone, prompts, schedule, lr=lr, weight_decay=weight_decay, beta2=beta2,
            contrasted_clips=contrasted_clips, grad_checkpointing=grad_checkpointing,
        )  # fmt: skip
        Range(1, 64).check("layers", layers)
        FRAMES.check("frames", frames)
        WEIGHTS.check("image_lr_ratio", image_lr_ratio)
        WEIGHTS.check("head_lr_ratio", head_lr_ratio)
        SEEDS.check("seed", seed)
        self.view_fusion = "cosines"  # the mean over the views of the scores as they are
        self.layers = layers
        self.frames = frames
        self.shift = shift
        self.image_lr_ratio = image_lr_ratio
        self.head_lr_ratio = head_lr_ratio
        self.pretrained_from = pretrained_from
        self.seed = seed
        start_from(backbone, pretrained_from)
        heads = max(1, backbone.text_width // 64)
        self.temporal = make_head(head, backbone.embed_dim, heads=heads, layers=layers, frames=frames)
        self.head = head
        self._start_head()
        if shift and not backbone.capabilities.class_token:
            raise ConfigError(
                "shift: true moves the tokens of patches and leaves a class token in its place, "
                f"{backbone.identity.name} {LACKS['class_token']}; {USE_A_CLIP}, or give shift: false"
            )
        for index in range(len(backbone.image.blocks) if shift else 0):
            backbone.image.replace(index, ShiftedBlock)
        self._tokens: list[Tensor] | None = None

    def _start_head(self) -> None:
        """Gives the head the weights of the head that `pretrained_from` has, if it has one."""
        if self.pretrained_from is None or self.backbone.logit_scale.is_meta:
            return
        content = torch.load(self.pretrained_from, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        state = {name.removeprefix(_HEAD): value for name, value in content.items() if name.startswith(_HEAD)}
        if state:
            check_keys(self.temporal.state_dict(), state, f"pretrained_from: the head in {self.pretrained_from}")
            self.temporal.load_state_dict(state)

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("ActionCLIP",)

    @override
    def pool_frames(self, frames: Tensor, classes: Tensor | None = None) -> Tensor:
        return unit_mean(self.temporal(frames))

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        return ensemble(self.backbone.encode_texts(prompted(class_names, self.templates)), len(class_names))

    # Training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """The tokens of the training classes in each template, `(C, L)`."""
        assert self.train_classes is not None
        names = self.train_classes.names
        tokens = self.backbone.tokenize(prompted(names, self.templates)).unflatten(0, (len(names), -1))
        self._tokens = list(tokens.unbind(dim=1))

    def drawn_templates(self, batch: ClipBatch) -> list[int]:
        """Number of the template that each clip meets in the current step: draws from seed, step and the clip's id.

        Args:
            batch: Training clips of this process.
        """
        groups = drawn_groups(batch, 1, "the number of clips of a draw", seed=self.seed, step=self.global_step)
        return [int(generator.integers(len(self.templates))) for _, generator in groups]

    @override
    def contrast_features(self, batch: ClipBatch) -> list[Tensor]:
        """Unit features `(B, D)` of the clips and of their classes in a template each."""
        assert batch.video is not None
        assert self._tokens is not None, "call on_fit_start first"
        templates = [self._tokens[number] for number in self.drawn_templates(batch)]
        # A row at a time: numbers of templates in a tensor would be copied to the device in every step.
        rows = [table.index_select(0, label) for table, label in zip(templates, batch.labels.split(1), strict=True)]
        text = F.normalize(self.backbone.texts.encode(torch.cat(rows)), dim=-1)
        return [self.encode_video(self.backbone.normalize(batch.video)), text]

    @override
    def contrast_logits(self, features: Sequence[Tensor]) -> Tensor:
        return self.training_logits(*features)

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        image = {id(parameter) for parameter in self.backbone.visual.parameters()}
        ratios = {
            name: self.head_lr_ratio
            if name.startswith(_HEAD)
            else self.image_lr_ratio
            if id(parameter) in image
            else 1.0
            for name, parameter in self.named_parameters()
        }
        return trained_groups(
            self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay, factor=ratios.__getitem__,
            betas=(0.9, self.beta2),
        )  # fmt: skip

    # Evaluation --------------------------------------------------------------------------------------------------

    @override
    def encode_classes(self, class_names: Sequence[str]) -> Tensor:
        """Unit features `(A, C, D)` of the classes in each of A templates."""
        features = self.backbone.encode_texts(prompted(class_names, self.templates))
        each: Tensor = F.normalize(features, dim=-1).unflatten(0, (len(class_names), -1))
        return each.transpose(0, 1)

    @override
    def score(self, video: Tensor, classes: Tensor) -> Tensor:
        """Mean over the templates of the class probabilities, `(B, C)`, for unit features `(B, D)` and `(A, C, D)`."""
        logits = _TEST_SCALE * torch.einsum("bd,acd->bac", video, classes)
        return logits.softmax(dim=-1).mean(dim=1)

    @property
    @override
    def probability(self) -> Probability:
        """The scores are means of probabilities."""
        return Probability("scores")

    @property
    @override
    def features_depend_on_classes(self) -> bool:
        # The features do not, but each template's probabilities are relative to all classes.
        return True


def _batches(training: TrainingFacts) -> frozenset[int]:
    """The paper's number of clips of an optimizer step; none are stated of few videos a class."""
    size = _BATCHES.get(collection(training.dataset))
    return frozenset() if size is None or training.subset.shots is not None else frozenset({size})
