"""The evaluator and trainer every method shares."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.optim import AdamW
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList, EvaluationSet
from vlbench.errors import CheckpointError, ConfigError
from vlbench.evaluation.metrics import Predictions, classification_metrics
from vlbench.methods.parts.class_features import frozen_ensemble, prompted
from vlbench.methods.parts.prompts import templates
from vlbench.optim import Schedule


def unit_mean(features: Tensor) -> Tensor:
    """Unit vectors `(B, D)` of the mean over the frames of features `(B, F, D)`."""
    return F.normalize(features.mean(dim=1), dim=-1)


class Evaluation(NamedTuple):
    """Results on one set of videos and classes.

    Attributes:
        set: which.
        predictions: of all processes.
        metrics: `classification_metrics` of them.
    """

    set: EvaluationSet
    predictions: Predictions
    metrics: dict[str, float]


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
        evaluations: results of the last evaluation, of all processes: one for each set of videos and classes.
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
        self.sets: list[EvaluationSet] = []
        self.class_features: list[Tensor] = []
        self.evaluations: list[Evaluation] = []
        self.provenance: dict[str, Any] | None = None
        self._parts: list[list[Predictions]] = []

    # What a method answers ---------------------------------------------------------------------------------------

    def encode_frames(self, clips: Tensor) -> Tensor:
        """Features `(B, F, D)` of normalised clips `(B, T, 3, H, W)`: the costly part, the same for any classes."""
        return self.backbone.encode_frames(clips)

    def pool_frames(self, frames: Tensor, classes: Tensor | None = None) -> Tensor:  # noqa: ARG002 - for subclasses
        """Unit video features `(B, D)` from frame features: their mean, unless overridden.

        Args:
            frames: `(B, F, D)`.
            classes: unit features `(C, D)` of the classes that the videos are scored against, in evaluation.
        """
        return unit_mean(frames)

    def encode_video(self, clips: Tensor, classes: Tensor | None = None) -> Tensor:
        """Unit features `(B, D)` of normalised clips `(B, T, 3, H, W)`; see `pool_frames` for `classes`."""
        return self.pool_frames(self.encode_frames(clips), classes)

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
        """Takes the names of the training classes from the datamodule.

        Raises:
            ConfigError: if there is no datamodule.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ConfigError(f"{type(self).__name__} reads the class names from a VideoDataModule; give one as `data`")
        self.train_classes = datamodule.dataset.train_classes

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

    def begin_evaluation(self, sets: Sequence[EvaluationSet]) -> None:
        """Computes the class features of every set once and forgets earlier results."""
        self.sets = list(sets)
        self.evaluations = []
        self._parts = [[] for _ in sets]
        with torch.no_grad():
            self.class_features = [self.encode_text(chosen.classes.names) for chosen in sets]

    def view_features(self, video: Tensor, members: Sequence[Sequence[int]]) -> list[Tensor]:
        """Unit features `(B_i, V, D)` of the videos of each set; every video goes through the tower once.

        One view at a time: memory does not grow with their number.

        Args:
            video: uint8 views `(B, V, T, 3, H, W)`.
            members: for each set, which B_i of the videos belong to it.
        """
        found: list[list[Tensor]] = [[] for _ in members]
        for view in video.unbind(1):
            frames = self.encode_frames(self.backbone.normalize(view))
            # Cosines of bfloat16 have three digits, which ties classes: cheap as it is, the rest is in full precision.
            with torch.autocast(frames.device.type, enabled=False):
                for views, rows, classes in zip(found, members, self.class_features, strict=True):
                    of_set = frames if len(rows) == len(frames) else frames[list(rows)]
                    views.append(self.pool_frames(of_set.to(classes.dtype), classes))
        return [torch.stack(views, dim=1) for views in found]

    def _evaluate(self, batch: ClipBatch) -> None:
        members = [[row for row, name in enumerate(batch.ids) if name in chosen.labels] for chosen in self.sets]
        found = None if batch.video is None else self.view_features(batch.video, members)
        for index, (chosen, rows) in enumerate(zip(self.sets, members, strict=True)):
            classes = self.class_features[index]
            part = Predictions.none(*classes.shape)
            if found is not None and rows:
                with torch.autocast(classes.device.type, enabled=False):
                    cosines = (found[index] @ classes.T).float()
                part.ids = [batch.ids[row] for row in rows]
                part.labels = torch.tensor([chosen.labels[name] for name in part.ids], dtype=torch.int64)
                part.scores = self.fuse_views(cosines).cpu()
                part.cosines = cosines.mean(dim=1).cpu()
                part.features = found[index].float().mean(dim=1).cpu()
            part.failures = {
                name: (chosen.labels[name], cause)
                for name, (_, cause) in batch.failures.items()
                if name in chosen.labels
            }
            self._parts[index].append(part)

    def _finish(self, stage: str) -> None:
        for chosen, classes, parts in zip(self.sets, self.class_features, self._parts, strict=True):
            predictions = Predictions.concatenate([Predictions.none(*classes.shape), *parts]).gathered()
            metrics = classification_metrics(predictions)
            prefix = stage if chosen is self.sets[0] else f"{stage}/{chosen.subset.key}"
            self.log_dict({f"{prefix}/{key}": value for key, value in metrics.items()}, prog_bar=stage == "val")
            self.evaluations.append(Evaluation(chosen, predictions, metrics))
        self._parts = []
        self.class_features = []

    def _datamodule(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    @override
    def on_validation_epoch_start(self) -> None:
        self.begin_evaluation(self._datamodule().dataset.sets("validation"))

    @override
    def on_test_epoch_start(self) -> None:
        self.begin_evaluation(self._datamodule().dataset.sets("test"))

    @override
    def on_predict_epoch_start(self) -> None:
        self.begin_evaluation(self._datamodule().dataset.sets("test"))

    @override
    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    @override
    def test_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    @override
    def predict_step(self, batch: ClipBatch, batch_idx: int) -> list[tuple[str, str, float]]:
        """`(id, class name, score)` of the best class of each readable video of the batch, for each set it is in."""
        self._evaluate(batch)
        best = []
        for chosen, parts in zip(self.sets, self._parts, strict=True):
            part = parts.pop()
            if part.ids:
                top = part.scores.max(dim=-1)
                names = [chosen.classes.names[index] for index in top.indices.tolist()]
                best += list(zip(part.ids, names, top.values.tolist(), strict=True))
        return best

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
        data = self._datamodule()
        dataset = data.dataset
        timer = next((one for one in self.trainer.callbacks if isinstance(one, Timer)), None)  # type: ignore[attr-defined]
        return {
            "dataset": dataset.label,
            "subset": asdict(dataset.train_subset),
            "list": dataset.list_name("train"),
            "videos": len(dataset.videos("train")),
            "skipped": sorted(data.skipped),
            "steps": self.global_step,
            "epochs": int(self.trainer.fit_loop.epoch_progress.current.processed),  # type: ignore[attr-defined]
            "heldout": dataset.heldout,
            "batch": data.batch_of_step(self.trainer),
            "seconds": round(timer.time_elapsed(), 3) if timer is not None else None,
            "processes": self.trainer.world_size,
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
