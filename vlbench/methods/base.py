"""The evaluator and trainer every method shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import USE_A_CLIP, Described, DualEncoder, lack
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import ClassList, Part
from vlbench.errors import CheckpointError, ConfigError
from vlbench.evaluation.evaluator import ClassState, Evaluator, Features
from vlbench.evaluation.facts import TrainingFacts
from vlbench.evaluation.measures import Probability
from vlbench.methods.parts.checkpoint import check_complete, read_header, state_digest, write_header
from vlbench.methods.parts.class_features import frozen_ensemble, prompted
from vlbench.methods.parts.finite import not_finite
from vlbench.methods.parts.fusion import ViewFusion, fused
from vlbench.methods.parts.pooling import unit_mean
from vlbench.methods.parts.prompts import templates
from vlbench.methods.stated import StatedOptions
from vlbench.methods.training import TrainingLoops
from vlbench.optim import Schedule

Reads = Literal["clips", "frame_features"]
"""What a method computes from: the pixels of clips, or the features that the frozen tower makes of frames."""


class VideoTextMethod(StatedOptions, TrainingLoops):
    """A way to classify videos by the names of their classes.

    A method says what the training loss is, which parameters train and, where they are not the backbone's mean frame
    feature, prompted names and the cosine of the two, how clips and classes become features and how a video is scored
    against the classes. This base owns the rest: steps, evaluation, optimizer, deviations from the paper, and
    checkpoints that hold what trains and name the frozen weights they belong to.

    A method keeps every argument of its constructor in an attribute of its name.

    Args:
        backbone: Dual encoder of videos and texts.
        prompts: Name of a set of templates of the class names, or templates.
        schedule: Schedule of the learning rate.

    Attributes:
        dataset: Dataset that `use` handed over.
        train_classes: Classes of the training subset, from the start of a fit or an evaluation.
        provenance: What the loaded checkpoint says about its training.
        describe_training: Gives the facts about the training that a checkpoint is to carry.
        configuration: Plain values that build the method anew, which a checkpoint is to carry.
    """

    name: str
    """Name in records and the leaderboard."""

    opens_vocabulary: bool = True
    """Whether classes are known by their names, so that classes without training videos can be scored; an instance says
    so where an option decides it. A method without an open vocabulary is evaluated on its training classes only, and
    its scores are logits."""

    keeps_features: ClassVar[bool] = True
    """Whether scores are products of a video's unit feature with the classes', so that features are stored beside."""

    REQUIRES: ClassVar[Mapping[str, str]] = {}
    """Capabilities that a backbone must have, by their names, and what for: the beginning of the sentence that refuses
    a backbone without them."""

    def __init__(self, backbone: DualEncoder, prompts: str | Sequence[str], schedule: Schedule | None = None) -> None:
        super().__init__(schedule)
        refusal = self.refusal(backbone.identity.name, backbone)
        if refusal is not None:
            raise ConfigError(refusal)
        self.backbone = backbone
        self.prompts = prompts
        self.templates = templates(prompts)
        self.view_fusion: ViewFusion = "probabilities"
        self.dataset: VideoDataset | None = None
        self.train_classes: ClassList | None = None
        self.provenance: TrainingFacts | None = None
        self.describe_training: Callable[[], TrainingFacts] | None = None
        self.configuration: Mapping[str, object] | None = None

    @classmethod
    def refusal(cls, name: str, backbone: Described) -> str | None:
        """The sentence that refuses a backbone; `None` where the method can use it.

        Args:
            name: Name of the backbone, for the sentence.
            backbone: Backbone, or what is known of one before it is built.
        """
        if cls.opens_vocabulary and not backbone.capabilities.texts:
            return f"{cls.name} knows classes by their names, {name} {lack(backbone, 'texts')}; {USE_A_CLIP}"
        for capability, purpose in cls.REQUIRES.items():
            if not getattr(backbone.capabilities, capability):
                return f"{purpose}, {name} {lack(backbone, capability)}; {USE_A_CLIP}"
        return None

    # What a method answers ---------------------------------------------------------------------------------------

    def encode_frames(self, clips: Tensor) -> Features:
        """Features `(B, F, D)` of normalised clips `(B, T, 3, H, W)`: the costly part, the same for any classes.

        A method that needs more than one tensor gives a named tuple of tensors whose first dimension is B.
        """
        return self.backbone.encode_frames(clips)

    def pool_frames(self, frames: Features, classes: ClassState | None = None) -> Features:  # noqa: ARG002 - for subclasses
        """Unit video features `(B, D)` from frame features: their mean, unless overridden.

        Args:
            frames: Frame features `(B, F, D)`, or whatever `encode_frames` gives.
            classes: State of the classes that the videos are scored against, in evaluation.
        """
        return unit_mean(frames)

    def encode_video(self, clips: Tensor, classes: ClassState | None = None) -> Features:
        """Unit features `(B, D)` of normalised clips `(B, T, 3, H, W)`; see `pool_frames` for `classes`."""
        return self.pool_frames(self.encode_frames(clips), classes)

    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        """Unit features `(C, D)` of classes: the frozen text tower's mean over the prompts.

        A method that changes the text tower overrides this.
        """
        return frozen_ensemble(self.backbone, prompted(class_names, self.templates), len(class_names))

    def encode_classes(self, class_names: Sequence[str]) -> ClassState:
        """What `score` needs of the classes, computed once for a set: their text features `(C, D)`, unless overridden.

        A method without an open vocabulary needs nothing.
        """
        return self.encode_text(class_names) if self.opens_vocabulary else None

    def encode_classes_with(self, class_names: Sequence[str], templates: Sequence[str]) -> ClassState:
        """`encode_classes` of the method with other templates.

        Args:
            class_names: Names of the classes.
            templates: Templates with one `{}` each.
        """
        original, self.templates = self.templates, tuple(templates)
        try:
            return self.encode_classes(class_names)
        finally:
            self.templates = original

    def score(self, video: Features, classes: ClassState) -> Tensor:
        """Scores `(B, C)` of videos against classes: the cosine, which is a logit once multiplied by `logit_factor`.

        A method whose text depends on the video, which compares sets, adds a cache or has a linear head overrides this.

        Args:
            video: Unit features `(B, D)` of the videos, or whatever `pool_frames` gives.
            classes: Unit features `(C, D)` of the classes, or whatever `encode_classes` gives.
        """
        scores: Tensor = video @ classes.T
        return scores

    def training_logits(self, video: Features, text: ClassState) -> Tensor:
        """Logits `(B, C)` of training clips, in the weights' precision under autocast too: bfloat16 ties classes.

        Args:
            video: Unit features `(B, D)` of the clips, or whatever `pool_frames` gives.
            text: Unit features `(C, D)` of the classes, or what else the training compares the clips with.
        """
        with torch.autocast(video.device.type, enabled=False):
            dtype = self.backbone.logit_scale.dtype
            logits: Tensor = self.logit_factor * video.to(dtype) @ text.to(dtype).T
            return logits

    @property
    def logit_factor(self) -> Tensor | float:
        """Factor that makes scores logits: the backbone's, or 1 without an open vocabulary, where scores are logits."""
        return self.backbone.logit_scale.exp() if self.opens_vocabulary else 1.0

    def fuse_views(self, scores: Tensor) -> Tensor:
        """Scores `(B, C)` of videos from the scores `(B, V, C)` of V views, by the method's `view_fusion`."""
        return fused(scores, self.logit_factor, self.view_fusion)

    @property
    def probability(self) -> Probability:
        """How the class probabilities of a video follow from its stored scores or cosines, by the `view_fusion`.

        They are what the method is trained to give: the softmax of logits. Scores of `softmax_of_mean` are softmaxes of
        unscaled cosines and nearly the same for all classes; there the logits are those of the mean cosines. A method
        that overrides `fuse_views` states its own rule.
        """
        if type(self).fuse_views is not VideoTextMethod.fuse_views:
            return Probability(None, reason=f"{self.name} fuses views in a way of its own and states no probability")
        factor = float(torch.as_tensor(self.logit_factor).detach())
        return {
            "probabilities": Probability("scores"),
            "logits": Probability("scores", 1.0),
            "cosines": Probability("scores", factor),
            "softmax_of_mean": Probability("cosines", factor),
        }[self.view_fusion]

    @property
    def features_depend_on_classes(self) -> bool:
        """Whether other classes or prompts would change a video's stored features or its scores with the old classes.

        Scores that are stored then hold for their own classes only.
        """
        return False

    @property
    def fixed_classes(self) -> tuple[str, ...] | None:
        """Names of the only classes that the method scores, in the order of its scores; `None` if it opens vocabulary.

        They are empty as long as the method knows none.
        """
        if self.opens_vocabulary:
            return None
        return self.train_classes.names if self.train_classes is not None else ()

    @property
    def published_as(self) -> tuple[str, ...]:
        """Names that published tables have for the method as it is configured; none by default."""
        return ()

    @property
    def reads(self) -> Reads:
        """What the method computes from. With `frame_features` the tower is frozen and as it was loaded, so that a bank
        of features may take the place of videos."""
        return "clips"

    @property
    def leaves_parameters_unused(self) -> bool:
        """Whether a training step may give a parameter that trains no gradient, which DDP then has to look for."""
        return False

    # What a method is given --------------------------------------------------------------------------------------

    def use(self, dataset: VideoDataset) -> None:
        """Hands over the dataset: the names of the training classes and the sets of an evaluation come from it.

        Args:
            dataset: Dataset of the videos that a Trainer will bring.

        Raises:
            ConfigError: If the dataset is a bank of features and the method cannot work on it.
        """
        if isinstance(dataset, VideoDataset):
            dataset.check_reader(self.name, self.reads, self.backbone.feature_facts())
        self.dataset = dataset

    def compile_blocks(self) -> None:
        """Has torch.compile compile the blocks of both towers, in place: the keys of the state dict stay."""
        self.backbone.image.compile()
        self.backbone.text.compile(dynamic=True)  # texts have many lengths

    @override
    def setup(self, stage: str) -> None:
        """Reads the names of the training classes.

        Raises:
            ConfigError: If no dataset was handed over, or an argument of the constructor is not kept.
        """
        self.train_classes = self._used().train_classes
        self.deviations()  # a record must not fail for them when everything is computed

    def _used(self) -> VideoDataset:
        if self.dataset is None:
            raise ConfigError(f"{type(self).__name__} has no dataset; call method.use(datamodule.dataset) first")
        return self.dataset

    # Evaluation --------------------------------------------------------------------------------------------------

    @override
    def evaluator(self, part: Part) -> Evaluator:
        sets = self._used().sets(part)
        if not self.opens_vocabulary:
            assert self.train_classes is not None
            for evaluated in sets:
                if evaluated.classes.names != self.train_classes.names:
                    raise ConfigError(
                        f"{self.name} has no open vocabulary: it scores its training classes and no others, and the "
                        f"test subset {evaluated.subset.key} has other classes"
                    )
        if self.keep is None:
            return Evaluator(self, sets)
        others = self.other_templates(self.keep)
        return Evaluator(self, sets, self.kept_facts(self.keep, others), others)

    # Checkpoints -------------------------------------------------------------------------------------------------

    def trained_keys(self) -> set[str]:
        """Keys of the state dict that a checkpoint holds: parameters that train."""
        return {key for key, parameter in self.named_parameters() if parameter.requires_grad}

    def trained_digest(self) -> str:
        """Hexadecimal digest of the weights that a checkpoint holds; records name trained weights by it."""
        return state_digest(self.state_dict(), self.trained_keys())

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        keep = self.trained_keys()
        checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in keep}
        training = self.describe_training() if self.describe_training is not None else None
        write_header(checkpoint, self.name, self.backbone.identity, training, self.configuration)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is this method's, on these frozen weights, complete and finite.

        Raises:
            CheckpointError: If it is not.
        """
        self.provenance = read_header(checkpoint, self.name, self.backbone.identity)
        check_complete(checkpoint["state_dict"], self.trained_keys())
        lost = not_finite(checkpoint["state_dict"])
        if lost:
            raise CheckpointError(
                f"{len(lost)} of the checkpoint's {len(checkpoint['state_dict'])} tensors are not finite, {lost[0]} is"
                " one; its training diverged: train again, with a smaller learning rate or without mixed precision"
            )
        # The frozen rest is in place already; completing the dictionary keeps the loading strict.
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
