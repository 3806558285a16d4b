"""The evaluator and trainer every method shares."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor
from torch.optim import AdamW
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.data.batch import ClipBatch
from vlbench.data.prompts import templates
from vlbench.data.specs import ClassList
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods.text import frozen_ensemble, prompted
from vlbench.metrics import Predictions, classification_metrics
from vlbench.optim import Schedule


class VideoTextMethod(LightningModule, ABC):
    """A way to classify videos by the names of their classes.

    A method says what the training loss is, which parameters train and, where they are not the backbone's mean frame
    feature and prompted names, how clips and classes become features. This
    base owns the rest: steps, views, class features, predictions keyed by video, metrics, optimizer, checkpoints that
    hold what trains and name the frozen weights they belong to.

    Args:
        backbone: the dual encoder.
        prompts: named templates of the class names, or templates of your own.
        schedule: of the learning rate.

    Attributes:
        predictions: of the last evaluation, of all processes.
        provenance: what the loaded checkpoint says about its training.
    """

    name: str
    """Name in records and the leaderboard."""

    def __init__(self, backbone: DualEncoder, prompts: str | Sequence[str], schedule: Schedule | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.templates = templates(prompts)
        self.schedule = schedule or Schedule()
        self.train_classes: ClassList | None = None
        self.test_classes: ClassList | None = None
        self.class_features: Tensor | None = None
        self.predictions: Predictions | None = None
        self.provenance: dict[str, Any] | None = None
        self._parts: list[Predictions] = []

    # What a method answers ---------------------------------------------------------------------------------------

    def encode_video(self, clips: Tensor) -> Tensor:
        """Unit features `(B, D)` of normalised clips `(B, T, 3, H, W)`: the mean frame feature, unless overridden."""
        return self.unit_mean(self.backbone.encode_frames(clips))

    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        """Unit features `(C, D)` of classes: the frozen text tower's mean over the prompts.

        A method that changes the text tower overrides this.
        """
        return frozen_ensemble(self.backbone, prompted(class_names, self.templates), len(class_names))

    @abstractmethod
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """`loss`, the scalar to minimise, and other scalars to log, of a batch of clips `(B, T, 3, H, W)` uint8."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups, each with its own `lr` and `weight_decay`."""

    def fuse_views(self, cosines: Tensor) -> Tensor:
        """Scores `(B, C)` from cosines `(B, V, C)` of V views: the mean of the views' class probabilities."""
        return (self.backbone.logit_scale.exp() * cosines).softmax(dim=-1).mean(dim=1)

    def deviations(self) -> dict[str, Any]:
        """Options whose value differs from the paper's, for the record."""
        return {}

    # Training ----------------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Takes the class names from the datamodule.

        Raises:
            ConfigError: if there is no datamodule.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ConfigError(f"{type(self).__name__} reads the class names from a VideoDataModule; give one as `data`")
        self.train_classes = datamodule.train_classes
        self.test_classes = datamodule.test_classes

    @override
    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        terms = self.training_loss(batch)
        # The mean over the processes: a loss curve must not depend on their number.
        self.log_dict(
            {f"train/{key}": value.detach() for key, value in terms.items()},
            prog_bar=True,
            on_step=True,
            batch_size=len(batch.ids),
            sync_dist=True,
        )
        return terms["loss"]

    @override
    def configure_optimizers(self) -> Any:
        groups = self.parameter_groups()
        if not groups:
            raise ConfigError(f"{type(self).__name__} trains nothing; use `vlbench test`")
        # One pass over each parameter: on a CPU the default's many small ones cost a quarter of a ViT-B/16 step.
        optimizer = AdamW(groups, fused=True)
        total = int(self.trainer.estimated_stepping_batches)
        per_epoch = max(1, self.trainer.num_training_batches // self.trainer.accumulate_grad_batches)
        scheduler = self.schedule.scheduler(optimizer, steps_per_epoch=int(per_epoch), total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # Evaluation --------------------------------------------------------------------------------------------------

    def begin_evaluation(self) -> None:
        """Computes the class features once and forgets earlier predictions."""
        assert self.test_classes is not None
        self._parts = []
        with torch.no_grad():
            self.class_features = self.encode_text(self.test_classes.names)

    def scores(self, video: Tensor) -> Tensor:
        """Scores `(B, C)` of uint8 views `(B, V, T, 3, H, W)`, one view at a time: memory does not grow with V."""
        assert self.class_features is not None, "call begin_evaluation first"
        cosines = [self.encode_video(self.backbone.normalize(view)) @ self.class_features.T for view in video.unbind(1)]
        return self.fuse_views(torch.stack(cosines, dim=1).float())

    def _evaluate(self, batch: ClipBatch) -> None:
        assert self.test_classes is not None
        empty = torch.empty(0, len(self.test_classes.names))
        scores = empty if batch.video is None else self.scores(batch.video).cpu()
        self._parts.append(Predictions(list(batch.ids), batch.labels.cpu(), scores, dict(batch.failures)))

    def _finish(self, stage: str) -> None:
        assert self.test_classes is not None
        local = Predictions.concatenate(self._parts, len(self.test_classes.names))
        self.predictions = local.gathered()
        metrics = classification_metrics(self.predictions)
        self.log_dict({f"{stage}/{key}": value for key, value in metrics.items()}, prog_bar=stage == "val")
        self._parts = []
        self.class_features = None

    @override
    def on_validation_epoch_start(self) -> None:
        self.begin_evaluation()

    @override
    def on_test_epoch_start(self) -> None:
        self.begin_evaluation()

    @override
    def on_predict_epoch_start(self) -> None:
        self.begin_evaluation()

    @override
    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    @override
    def test_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    @override
    def predict_step(self, batch: ClipBatch, batch_idx: int) -> list[tuple[str, str, float]]:
        """`(id, class name, score)` of the best class of each readable video of the batch."""
        assert self.test_classes is not None
        if batch.video is None:
            return []
        best = self.scores(batch.video).max(dim=-1)
        names = [self.test_classes.names[index] for index in best.indices.tolist()]
        return list(zip(batch.ids, names, best.values.tolist(), strict=True))

    @override
    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    @override
    def on_test_epoch_end(self) -> None:
        self._finish("test")

    # Checkpoints -------------------------------------------------------------------------------------------------

    def trained_keys(self) -> set[str]:
        """Keys of the state dict that a checkpoint holds: parameters that train."""
        return {key for key, parameter in self.named_parameters() if parameter.requires_grad}

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        keep = self.trained_keys()
        checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in keep}
        checkpoint["vlbench"] = {
            "method": self.name,
            "backbone": self.backbone.identity.as_dict(),
            "training": self._training_facts(),
        }

    def _training_facts(self) -> dict[str, Any]:
        """What a record says about where the weights came from; plain values."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return {
            "dataset": data.label,
            "subset": asdict(data.train_subset),
            "list": data.list_name("train"),
            "videos": len(data.videos("train")),
            "skipped": sorted(data.skipped),
            "steps": self.global_step,
            "epochs": self.current_epoch,
            "batch": data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches,
            "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
            "deviations": self.deviations(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is this method's, on these frozen weights, and complete.

        Raises:
            CheckpointError: if it is not.
        """
        held = checkpoint.get("vlbench")
        if held is None:
            raise CheckpointError("the checkpoint was not written by vlbench: it names no method and no backbone")
        if held["method"] != self.name:
            raise CheckpointError(f"the checkpoint is of method {held['method']!r}, the configuration of {self.name!r}")
        identity = self.backbone.identity.as_dict()
        if held["backbone"]["digest"] != identity["digest"]:
            raise CheckpointError(
                f"the checkpoint was trained on {held['backbone']}, the configuration has {identity}; "
                "give the same backbone and pretrained weights (random ones need the same seed_everything)"
            )
        expected, found = self.trained_keys(), set(checkpoint["state_dict"])
        if expected != found:
            raise CheckpointError(
                f"the checkpoint does not fit: missing {sorted(expected - found)[:5]}, "
                f"unexpected {sorted(found - expected)[:5]}"
            )
        self.provenance = held["training"]
        # The frozen rest is in place already; completing the dictionary keeps the loading strict.
        current = self.state_dict()
        checkpoint["state_dict"] = {**current, **checkpoint["state_dict"]}

    def unit_mean(self, features: Tensor) -> Tensor:
        """Unit vectors `(B, D)` of the mean over the frames of features `(B, F, D)`."""
        return F.normalize(features.mean(dim=1), dim=-1)
