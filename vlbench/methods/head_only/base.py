"""What methods share that learn a head on the features of a frozen tower, from all training videos at once."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch, EvaluatedVideos
from vlbench.datasets.specs import Part
from vlbench.errors import CheckpointError, ConfigError
from vlbench.evaluation.evaluator import Evaluator
from vlbench.methods.base import Reads, VideoTextMethod
from vlbench.methods.head_only.features import HeldoutBatch, HeldoutFeatures, Passes, TrainingFeatures
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.settings import Side

_NAMES = "learned_class_names"
_COLLECTED = "collected_features"


class HeadOnly(VideoTextMethod):
    """A head on one feature a video, the unit mean of its frame features; the tower is frozen.

    A training collects the features of all training videos, a pass an epoch, and the head learns from them at the end
    of the last epoch. Held-out videos may choose what the head cannot learn; test videos never do.

    Args:
        backbone: Dual encoder whose towers stay as they are.
        prompts: Name of a set of templates of the class names, or templates.
        view_fusion: What is averaged over the views of a video.
        seed: Seed of the order of the features in a head that is trained in batches.
    """

    LEARNED: ClassVar[tuple[str, ...]]
    """Names of the tensors that the head consists of, which a checkpoint holds."""

    TRAINED: ClassVar[tuple[str, ...]] = ()
    """Names of those tensors that a descent ends with: the parameters that train, of which records state the number."""

    REQUIRES: ClassVar[Mapping[str, str]] = {"texts": "heads on features are given the texts of their classes"}
    keeps_features: ClassVar[bool] = False
    SIDES: ClassVar[Mapping[str, Side]] = {**VideoTextMethod.SIDES}

    def __init__(
        self, backbone: DualEncoder, prompts: str | list[str], view_fusion: ViewFusion = "probabilities", seed: int = 0
    ) -> None:
        super().__init__(backbone, prompts)
        self.view_fusion = view_fusion
        self.seed = seed
        self.automatic_optimization = False
        self.requires_grad_(False)
        for name in self.LEARNED:
            empty = torch.empty(0, backbone.embed_dim)
            if name in self.TRAINED:
                self.register_parameter(name, nn.Parameter(empty, requires_grad=False))
            else:
                self.register_buffer(name, empty)
        # Which classes the head knows travels along: a test may have others.
        self.register_buffer(_NAMES, torch.empty(0, dtype=torch.uint8))
        self.learned_class_names: Tensor
        self._collected = Passes()
        self._heldout: list[HeldoutBatch] = []
        self._learned = False

    # What a head answers -----------------------------------------------------------------------------------------

    @abstractmethod
    def learn(self, training: TrainingFeatures, heldout: HeldoutFeatures | None, text: Tensor) -> None:
        """Makes the tensors of `LEARNED` from features.

        Args:
            training: Features of the training videos.
            heldout: Features of the videos that hyper-parameters are chosen by; `None` takes the stated ones.
            text: Unit text features `(C, D)` of the training classes.
        """

    @property
    @override
    def reads(self) -> Reads:
        return "frame_features"

    @property
    @override
    def logit_factor(self) -> Tensor | float:
        """The scores of every head are logits."""
        return 1.0

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of the classes that the head has learned, in the order of its labels."""
        stored = self.learned_class_names
        return tuple(json.loads(bytes(stored.tolist()))) if stored.numel() else ()

    @property
    @override
    def fixed_classes(self) -> tuple[str, ...] | None:
        return None if self.opens_vocabulary else self.known_names

    def set_learned(self, **tensors: Tensor) -> None:
        """Puts tensors in the place of those of `LEARNED`, as parameters those of `TRAINED`.

        Args:
            tensors: Tensors by their names, on any device.
        """
        for name, value in tensors.items():
            value = value.detach().to(self.backbone.logit_scale.device)
            old = getattr(self, name)
            setattr(self, name, nn.Parameter(value, requires_grad=True) if isinstance(old, nn.Parameter) else value)

    def learn_from(
        self, training: TrainingFeatures, heldout: HeldoutFeatures | None, class_names: Sequence[str]
    ) -> None:
        """Has the head learn the classes of some names.

        Args:
            training: Features of the training videos.
            heldout: Features of the videos that hyper-parameters are chosen by; `None` takes the stated ones.
            class_names: Names of the training classes, in the order of the labels.
        """
        # Also in a validation, whose tensors could not be differentiated.
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
            self.learn(training, heldout, self.encode_text(class_names))
        names = torch.frombuffer(bytearray(json.dumps(list(class_names)).encode()), dtype=torch.uint8)
        self.set_learned(**{_NAMES: names})
        self._learned = True

    def restart(self, seed: int) -> None:
        """Forgets what the head has learned, and where from.

        Args:
            seed: Seed of the training to come.
        """
        self.seed = seed
        empty = torch.empty(0, self.backbone.embed_dim)
        self.set_learned(**dict.fromkeys(self.LEARNED, empty), **{_NAMES: torch.empty(0, dtype=torch.uint8)})
        self.provenance, self.describe_training, self.train_classes = None, None, None

    # Training ----------------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":  # before a checkpoint brings what was collected
            self._collected, self._heldout, self._learned = Passes(), [], False

    def on_fit_start(self) -> None:
        """Refuses what a head cannot learn from.

        Raises:
            ConfigError: If several processes would each collect a part, or test videos would choose hyper-parameters.
        """
        if self.trainer.world_size > 1:
            raise ConfigError(
                f"{self.name} learns from all training videos in one process, and the run has"
                f" {self.trainer.world_size}; set trainer.devices and trainer.num_nodes to 1"
            )
        if self._used().validate_on_test:
            raise ConfigError(f"{self.name} has no epochs to choose by test videos; set selection to last or heldout")

    @override
    def on_train_start(self) -> None:
        super().on_train_start()
        if len(self._collected) < self.current_epoch:
            raise ConfigError(
                f"the checkpoint is of a training of {self.name} that has ended, and the features of its"
                f" {self.current_epoch} epochs are gone; train anew, without --ckpt_path"
            )

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        raise ConfigError(f"{self.name} takes no steps; it learns from all training videos at once")

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return []

    @override
    def configure_optimizers(self) -> Any:
        """An optimizer of nothing, whose steps the Trainer counts."""
        return torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.0)

    @override
    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        with torch.no_grad():
            frames = batch.encoded(lambda clips: self.encode_frames(self.backbone.normalize(clips)))
            means = frames.float().mean(dim=1)
        optimizer: Any = self.optimizers()
        optimizer.step()
        self._collected.add(self.current_epoch, batch.ids, means, batch.labels)
        return torch.zeros((), device=means.device)

    @override
    def on_train_batch_end(self, outputs: Any, batch: ClipBatch, batch_idx: int) -> None:
        """Logs nothing: there is no loss."""

    def on_train_epoch_end(self) -> None:
        """Has the head learn at the end of the last epoch."""
        if self._is_last_epoch() and not self._learned:
            self._learn_collected(None)

    def _is_last_epoch(self) -> bool:
        steps, epochs = self.trainer.max_steps, self.trainer.max_epochs
        ends = self.trainer.should_stop or self.global_step >= steps > -1
        return ends or (epochs is not None and self.current_epoch + 1 >= epochs > -1)

    def _learn_collected(self, heldout: HeldoutFeatures | None) -> None:
        dataset = self._used()
        assert self.train_classes is not None
        everything = [item.id for item in dataset.videos("train")]
        skipped: set[str] = getattr(getattr(self.trainer, "datamodule", None), "skipped", set())
        missing = self._collected.incomplete(everything, skipped)
        if missing:
            raise ConfigError(
                f"{self.name} learns from every training video in every epoch, and {len(missing)} of {len(everything)}"
                f" were left out of one, {missing[0]} is one; give a bank of features (`vlbench features`), or a"
                " data.batch_size that divides the number of training videos, and no trainer.max_steps within an epoch"
            )
        with torch.inference_mode(False):
            training = self._collected.features(everything, self.device)
        self._collected = Passes()
        self.learn_from(training, heldout, self.train_classes.names)

    # Validation: held-out videos choose hyper-parameters, so that they are kept until the head has learned ------------

    @override
    def on_validation_epoch_start(self) -> None:
        if self._learns():
            self._heldout = []
        else:
            super().on_validation_epoch_start()

    @override
    def validation_step(self, batch: EvaluatedVideos, batch_idx: int) -> None:
        if not self._learns():
            super().validation_step(batch, batch_idx)  # type: ignore[arg-type]
            return
        with torch.no_grad():
            groups = list(batch.encoded(lambda clips: self.encode_frames(self.backbone.normalize(clips))))
        self._heldout.append(HeldoutBatch(list(batch.ids), batch.failures, groups))

    @override
    def on_validation_epoch_end(self) -> None:
        if not self._learns():
            super().on_validation_epoch_end()
            return
        if not self._is_last_epoch():
            return
        dataset = self._used()
        labels = dataset.sets("validation")[0].labels
        readable = [batch for batch in self._heldout if batch.ids]
        heldout = None
        if readable and dataset.heldout:
            units = torch.cat([batch.units() for batch in readable])
            ids = [video for batch in readable for video in batch.ids]
            heldout = HeldoutFeatures(units, torch.tensor([labels[video] for video in ids]).to(units.device))
        self._learn_collected(heldout)
        super().on_validation_epoch_start()
        for batch in self._heldout:
            self._current().update(batch)
        self._heldout = []
        super().on_validation_epoch_end()

    def _learns(self) -> bool:
        """Whether the validation is one of a training."""
        return bool(self.trainer.state.fn == "fit" and not self.trainer.sanity_checking)

    # Evaluation --------------------------------------------------------------------------------------------------

    @override
    def evaluator(self, part: Part) -> Evaluator:
        if self.provenance is not None and not self.known_names:
            raise CheckpointError(
                f"the checkpoint is of a training of {self.name} that has not ended, and a head learns at its end; run"
                " the same `vlbench fit` with --resume auto"
            )
        evaluator = super().evaluator(part)
        names = evaluator.sets[0].classes.names
        if not self.opens_vocabulary and self.known_names != names:
            known = f"{len(self.known_names)} other classes" if self.known_names else "no classes"
            raise ConfigError(
                f"{self.name} has learned {known}, and the test has {len(names)}; give a checkpoint of `vlbench fit` on"
                " these classes by --ckpt_path"
            )
        return evaluator

    # Checkpoints -------------------------------------------------------------------------------------------------

    @override
    def trained_keys(self) -> set[str]:
        return {*self.LEARNED, _NAMES}

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[_COLLECTED] = self._collected.state()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        # What was learned has a size of its own.
        self.set_learned(**{name: torch.empty_like(state[name]) for name in self.trained_keys() if name in state})
        super().on_load_checkpoint(checkpoint)
        self._collected = Passes(checkpoint.get(_COLLECTED, ()))
