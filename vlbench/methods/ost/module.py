"""OST as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList, content_digest
from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.ost.transport import Stop, set_similarity
from vlbench.methods.parts.blending import OriginalWeights
from vlbench.methods.parts.contrastive import ContrastiveTraining
from vlbench.methods.parts.described import dataset_descriptions
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import trained_groups
from vlbench.methods.parts.starting import start_from
from vlbench.optim import Schedule
from vlbench.settings import Side

_SPATIAL = "This is a video about {descriptor}"
_TEMPORAL = "A video of {class} usually includes {descriptor}"
_CLASS, _DESCRIPTOR = "{class}", "{descriptor}"


class Descriptors(NamedTuple):
    """Unit features of the descriptors of classes.

    Attributes:
        spatial: Features of what a still frame shows, `(C, N, D)`.
        temporal: Features of the steps of the action, `(C, N, D)`.
    """

    spatial: Tensor
    temporal: Tensor


class OST(ContrastiveTraining):
    """OST (CVPR 2024, arXiv 2312.00096): a whole CLIP is fine-tuned, frames against descriptors of the classes.

    A class is two sets of sentences, on what it looks like and on how it unfolds. A video's frames are compared with
    each set by optimal transport and by their means. The defaults are the paper's for few-shot with ViT-B/16, and the
    released code's where the paper says nothing; but a video is solved by itself.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> OST(TinyCLIP(), stop="batch", lr=8e-6).deviations()
        {'stop': 'batch'}

    Args:
        backbone: Dual encoder that gives one feature a frame; all of it is fine-tuned.
        schedule: Schedule of the learning rate.
        descriptions: Folder with `spatial.json` and `temporal.json`, descriptors of every class of the dataset; `None`
            takes the dataset's own.
        spatial_prompt: Text of a descriptor of what a class looks like, with `{descriptor}` and, if it names the class,
            `{class}`; `"{descriptor}"` alone fits descriptions that are whole sentences.
        temporal_prompt: Text of a descriptor of how a class unfolds, as `spatial_prompt`.
        stop: What ends the rounds of the transport: the mean change for each `video` by itself, or, as released, for
            the whole `batch`, with which a test has to take one video at once.
        lr: Peak learning rate: 5e-6 for few-shot (of HMDB-51 with 4 shots 3.5e-6, of Something-Something with 16 shots
            2.5e-6), 8e-6 for zero-shot.
        weight_decay: Weight decay of AdamW, of biases, norms and the logit scale too.
        beta2: Decay of AdamW's mean of squared gradients.
        contrasted_clips: Clips whose videos and texts are contrasted with each other: 32 in the paper, as many as its
            GPUs take at once.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
        original_share: Part of CLIP's own weights in the weights of an evaluation, in [0, 1]; 0.2 for zero-shot.
        pretrained_from: Checkpoint of a training whose backbone this one starts from; `None` starts from the original
            weights.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
    """

    name = "ost"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "frames_encoded_one_by_one": "OST compares single frames with descriptors of the classes"
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        "spatial_prompt": _SPATIAL,
        "temporal_prompt": _TEMPORAL,
        "stop": "video",
        "lr": frozenset({8e-6, 5e-6, 3.5e-6, 2.5e-6}),
        "weight_decay": 1e-3,
        "beta2": 0.98,
        "contrasted_clips": 32,
        "view_fusion": "probabilities",
        "original_share": frozenset({0.0, 0.2}),
        "warmup_epochs": 5.0,
        "final_ratio": 0.01,
        "refresh_every": 1,
        "cosine_from": "start",
        "lag": frozenset({1 / 2, 1 / 8}),
        "initial_ratio": 0.0,
        "floor": "relative",
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        "data.frames": 32,
        "data.batch": lambda _, training, __: 256 if training.subset.shots is None else 64,
        "data.clip.test_short_side": 256 / 224,
        "data.clip.views": lambda _, __, tested: frozenset() if tested is None else "1x1",
        "data.augmentation.short_side": 256 / 224,
        "data.augmentation.flip": True,
        "data.augmentation.color_jitter": 0.8,
        "data.augmentation.gray": 0.2,
        "trainer.max_epochs": lambda _, training, __: _epochs(training),
        "trainer.max_steps": -1,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **ContrastiveTraining.SIDES,
        "descriptions": "both",
        "spatial_prompt": "both",
        "temporal_prompt": "both",
        "stop": "both",
        "original_share": "test",
    }
    NO_DEVIATION: ClassVar[Mapping[str, str]] = {
        **ContrastiveTraining.NO_DEVIATION,
        "descriptions": "a folder; where the sentences lie says nothing of them",
    }
    TERMS_WEIGHT = 1.0

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=5, final_ratio=0.01, cosine_from="start", lag=0.5),  # noqa: B008
        descriptions: str | None = None,
        spatial_prompt: str = _SPATIAL,
        temporal_prompt: str = _TEMPORAL,
        stop: Stop = "video",
        lr: float = 5e-6,
        weight_decay: float = 1e-3,
        beta2: float = 0.98,
        contrasted_clips: int = 32,
        view_fusion: ViewFusion = "probabilities",
        original_share: float = 0.0,
        pretrained_from: str | None = None,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__(
            backbone, "A video of {}", schedule, lr=lr, weight_decay=weight_decay, beta2=beta2,
            contrasted_clips=contrasted_clips, grad_checkpointing=grad_checkpointing,
        )  # fmt: skip
        if stop not in ("video", "batch"):
            raise ConfigError(f"stop is {stop!r}; allowed: 'video', 'batch'")
        for option, prompt in (("spatial_prompt", spatial_prompt), ("temporal_prompt", temporal_prompt)):
            if prompt.count(_DESCRIPTOR) != 1:
                raise ConfigError(
                    f"{option} is {prompt!r}; allowed: a text with one {_DESCRIPTOR}, such as {_TEMPORAL!r}"
                )
        self.descriptions = descriptions
        self.spatial_prompt = spatial_prompt
        self.temporal_prompt = temporal_prompt
        self.stop = stop
        self.view_fusion = view_fusion
        self.original_share = original_share
        self.pretrained_from = pretrained_from
        self._original = OriginalWeights(backbone, original_share)  # CLIP's own, wherever the training starts
        start_from(backbone, pretrained_from)
        self._tokens: Tensor | None = None
        self._spatial = 0

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("OST",) if self.pretrained_from is None else ("OST (K400 pretrained)",)

    # Descriptors -------------------------------------------------------------------------------------------------

    def texts(self, class_names: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
        """Spatial and temporal texts of classes, each a list a class.

        Args:
            class_names: Names of some of the dataset's classes.

        Raises:
            ConfigError: If there are no descriptors, or a class is not of the dataset.
        """
        classes = self._classes()
        described = dataset_descriptions(classes, self.descriptions)
        labels = {name: label for label, name in enumerate(classes.all_names)}
        unknown = [name for name in class_names if name not in labels]
        if unknown:
            raise ConfigError(f"the dataset has no class {unknown[0]!r}, so that there are no descriptors of it")
        sides = (self.spatial_prompt, described.spatial), (self.temporal_prompt, described.temporal)
        spatial, temporal = (
            [
                [prompt.replace(_CLASS, name).replace(_DESCRIPTOR, text) for text in side[labels[name]]]
                for name in class_names
            ]
            for prompt, side in sides
        )
        return spatial, temporal

    def _classes(self) -> ClassList:
        if self.train_classes is None:
            raise ConfigError(
                f"{self.name} scores classes by descriptors that come with their dataset, and has none; allowed: the"
                " classes of a dataset, by `vlbench test` or `vlbench.evaluate`"
            )
        return self.train_classes

    @override
    def settings(self, side: Side) -> dict[str, object]:
        settings = super().settings(side)
        if "descriptions" in settings and self.train_classes is not None:
            described = dataset_descriptions(self.train_classes, self.descriptions)
            if side == "training":
                described = described.subset(self.train_classes.labels)
            sentences = (text for texts in (*described.spatial, *described.temporal) for text in texts)
            settings["descriptions"] = content_digest(sentences)  # where they lie says nothing of them
        return settings

    # Training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """The tokens of the training classes' texts, spatial ones first, `(C, 2 N, L)`."""
        names = self._classes().names
        spatial, temporal = self.texts(names)
        texts = [text for sides in zip(spatial, temporal, strict=True) for side in sides for text in side]
        self._tokens = self.backbone.tokenize(texts).unflatten(0, (len(names), -1))
        self._spatial = len(spatial[0])

    @override
    def contrast_features(self, batch: ClipBatch) -> list[Tensor]:
        """Unit features `(B, T, D)` of the frames and `(B, 2 N, D)` of the descriptors of the clips' classes."""
        assert batch.video is not None
        assert self._tokens is not None, "call on_fit_start first"
        tokens = self._tokens.index_select(0, batch.labels)
        features = self.backbone.texts.encode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        return [self.encode_video(self.backbone.normalize(batch.video)), self._unit(features)]

    @override
    def contrast_logits(self, features: Sequence[Tensor]) -> Tensor:
        frames, texts = features
        descriptors = Descriptors(texts[:, : self._spatial], texts[:, self._spatial :])
        with torch.autocast(frames.device.type, enabled=False):
            logits: Tensor = self.logit_factor * self.score(frames, descriptors)
            return logits

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        betas = (0.9, self.beta2)
        return trained_groups(self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay, betas=betas)

    # Evaluation --------------------------------------------------------------------------------------------------

    def _unit(self, features: Tensor) -> Tensor:
        return F.normalize(features.to(self.backbone.logit_scale.dtype), dim=-1)

    @override
    def pool_frames(self, frames: Tensor, classes: Descriptors | None = None) -> Tensor:
        """Unit features `(B, T, D)` of the frames, which stay apart."""
        if classes is not None and self.stop == "batch" and len(frames) > 1:
            raise ConfigError(
                f"stop is 'batch', with which scores depend on the videos beside a video, and {len(frames)} are tested "
                "at once; give data.loading.eval_batch_size: 1, or stop: video"
            )
        return self._unit(frames)

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        """Unit features `(C, D)` of classes: the means over all their descriptors, which no score is made of."""
        return F.normalize(torch.cat(self.encode_classes(class_names), dim=1).mean(dim=1), dim=-1)

    @override
    def encode_classes(self, class_names: Sequence[str]) -> Descriptors:
        sides = []
        for side in self.texts(class_names):
            features = self.backbone.encode_texts([text for texts in side for text in texts])
            sides.append(self._unit(features).unflatten(0, (len(side), -1)))
        return Descriptors(*sides)

    @override
    def score(self, video: Tensor, classes: Descriptors) -> Tensor:
        """Half the sum over both sides of the similarity by transport and that of the means, in [-2, 2].

        Args:
            video: Unit features `(B, T, D)` of the frames.
            classes: Descriptors of the classes.
        """
        spatial, temporal = (set_similarity(video, side, self.stop) for side in classes)
        return 0.5 * (spatial + temporal)

    @property
    @override
    def features_depend_on_classes(self) -> bool:
        # How many rounds a video takes is a mean over its classes.
        return True

    @override
    def evaluation_weights(self) -> AbstractContextManager[None]:
        """The fine-tuned weights with `original_share` of the original ones."""
        return self._original.blended(self.backbone, self.original_share)


def _epochs(training: TrainingFacts) -> frozenset[int]:
    """The paper's number of epochs; for base-to-novel no recipe is released."""
    if training.subset.classes != "all":
        return frozenset()
    return frozenset({10} if training.subset.shots is None else {50})
