"""Writes the record of a test run."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, TypedDict, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from safetensors.torch import save_file
from torch import nn
from typing_extensions import override

import vlbench
from vlbench.backbones.base import DualEncoder
from vlbench.clips.options import ClipOptions
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import Selection
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import Evaluation
from vlbench.evaluation.facts import TrainingFacts
from vlbench.evaluation.metrics import bootstrap_interval, half_class_metrics
from vlbench.files import replacing
from vlbench.names import name_bytes
from vlbench.results.details import Details
from vlbench.results.record import Identity, Record

_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "open_clip_torch", "av")


class RecordedData(Protocol):
    """What a record says of the data; a `VideoDataModule` answers it."""

    dataset: VideoDataset
    frames: int
    clip: ClipOptions
    skipped: set[str]

    def batch_of_step(self, trainer: Trainer, /) -> int: ...  # noqa: D102 - explained by the class

    def epochs_done(self, trainer: Trainer, /) -> int: ...  # noqa: D102


class RecordedMethod(Protocol):
    """What a record says of the method; a `VideoTextMethod` answers it."""

    name: str
    backbone: DualEncoder
    provenance: TrainingFacts | None
    evaluations: list[Evaluation]
    describe_training: Callable[[], TrainingFacts] | None

    @property
    def device(self) -> torch.device: ...  # noqa: D102 - explained by the class

    @property
    def features_depend_on_classes(self) -> bool: ...  # noqa: D102

    def deviations(self) -> dict[str, object]: ...  # noqa: D102

    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102

    def trained_digest(self) -> str: ...  # noqa: D102


class RecordWriter(Callback):
    """One JSON record for every `vlbench test`, with the videos' scores beside it, and what a checkpoint of `vlbench
    fit` says of its training.

    Args:
        folder: Results folder; the record goes to `<folder>/records`, the scores to `<folder>/predictions`. `None`
            writes nothing.
        name: File name of the record without suffix; `None` makes one from the record's identity.
        stage: Digest of the runner's stage that the record belongs to.
        protocol: Versioned name of the protocol that the run belongs to.
        selection: Epoch of the training that the tested checkpoint is of.
        half_classes: Whether to evaluate on ten random halves of the classes too, as MoTE's zero-shot protocol does.
        bootstrap: Number of resampled test sets for the 95 % interval of top-1; 0 leaves the interval out.
    """

    def __init__(
        self,
        folder: str | None = "results",
        name: str | None = None,
        stage: str | None = None,
        protocol: str = "custom",
        selection: Selection = "last",
        half_classes: bool = False,
        bootstrap: int = 1000,
    ) -> None:
        self.folder = Path(folder) if folder else None
        self.name = name
        self.stage = stage
        self.protocol = protocol
        self.selection = selection
        self.half_classes = half_classes
        self.bootstrap = bootstrap
        self._data: RecordedData | None = None
        self._seed = 0
        self._config_digest: str | None = None
        self._started = 0.0

    def use(self, data: RecordedData, seed: int, config_digest: str | None = None) -> None:
        """Hands over what records and checkpoints say of the run beside the method.

        Args:
            data: DataModule of the run.
            seed: Seed of the run.
            config_digest: Digest of the configuration of the run.
        """
        self._data = data
        self._seed = seed
        self._config_digest = config_digest

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            method = _recorded(pl_module)
            method.describe_training = partial(self._training, trainer, method)

    def _training(self, trainer: Trainer, method: RecordedMethod) -> TrainingFacts:
        data = self._used()
        timer = next((callback for callback in trainer.callbacks if isinstance(callback, Timer)), None)  # type: ignore[attr-defined]
        return TrainingFacts(
            dataset=data.dataset.label,
            subset=data.dataset.train_subset,
            list=data.dataset.list_name("train"),
            videos=len(data.dataset.videos("train")),
            skipped=tuple(sorted(data.skipped)),
            steps=trainer.global_step,
            epochs=data.epochs_done(trainer),
            heldout=data.dataset.heldout,
            batch=data.batch_of_step(trainer),
            seconds=round(timer.time_elapsed(), 3) if timer is not None else None,
            processes=trainer.world_size,
            seed=self._seed,
            deviations=method.deviations(),
        )

    def _used(self) -> RecordedData:
        if self._data is None:
            raise ConfigError("RecordWriter knows no data; call RecordWriter.use(datamodule, seed) first")
        return self._data

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._used()
        self._started = time.monotonic()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank zero writes; every rank holds the gathered predictions."""
        if self.folder is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        method = _recorded(pl_module)
        seconds = round(time.monotonic() - self._started, 3)
        weights = method.trained_digest() if trainer.ckpt_path is not None else None
        for evaluation in method.evaluations:
            record = self._record(trainer, method, evaluation, weights, seconds)
            name = self.name or record.name
            if self.name is not None and len(method.evaluations) > 1:
                name = f"{name}-{evaluation.set.subset.key}"
            predictions = evaluation.predictions
            kept = ("scores", "cosines", "features", "labels")
            tensors = {key: getattr(predictions, key).contiguous() for key in kept}
            lost = {video: label for video, (label, _) in predictions.failures.items()}
            metadata = {"ids": json.dumps(predictions.ids), "failures": json.dumps(lost)}
            # The scores first: a record means that everything belonging to it is there.
            with replacing(self.folder / "predictions" / f"{name}.safetensors") as temporary:
                save_file(tensors, temporary, metadata=metadata)
            path = record.write(self.folder / "records", name)
            print(f"record: {path}")  # noqa: T201 - tells the user where it went

    def _record(
        self, trainer: Trainer, method: RecordedMethod, evaluation: Evaluation, weights: str | None, seconds: float
    ) -> Record:
        data, training = self._used(), method.provenance
        trained = training if weights is not None else None
        evaluated, predictions = evaluation.set, evaluation.predictions
        metrics = {**evaluation.metrics, **bootstrap_interval(predictions, self.bootstrap)}
        if self.half_classes:
            metrics |= half_class_metrics(predictions)
        return Record(
            identity=Identity(
                method=method.name,
                backbone="{name}:{pretrained}".format(**method.backbone.identity.as_dict()),
                weights=weights,
                dataset=data.dataset.label,
                train_dataset=trained.dataset if trained else None,
                train=trained.subset if trained else None,
                test=evaluated.subset,
                views=f"{data.clip.views.clips}x{data.clip.views.crops}",
                frames=data.frames,
                protocol=self.protocol,
                seed=training.seed if training else self._seed,
                selection=self.selection,
                train_list=trained.list if trained else None,
                test_list=evaluated.list_name,
            ),
            metrics=metrics,
            expected=len(evaluated.labels),
            evaluated=len(predictions.ids),
            failures={name: cause for name, (_, cause) in predictions.failures.items()},
            details=Details(
                stage=self.stage,
                classes=evaluated.classes.names,
                test_digest=_digest_of_labels(evaluated.labels),
                features_depend_on_classes=method.features_depend_on_classes,
                deviations=method.deviations(),
                views=asdict(data.clip.views),
                sampling=data.clip.sampling,
                training=training,
                trainable_params=sum(p.numel() for p in method.parameters() if p.requires_grad),
                total_params=sum(p.numel() for p in method.parameters()),
                backbone_digest=method.backbone.identity.digest,
                config_digest=self._config_digest,
                seconds=seconds,
                videos_per_second=round(len(data.dataset.videos("test")) / max(seconds, 1e-3), 3),
                processes=trainer.world_size,
                precision=str(trainer.precision),
                **_environment(method.device),
            ),
        )


def _recorded(method: LightningModule) -> RecordedMethod:
    # Not isinstance: from Python 3.12 on it looks for attributes statically, and modules keep their parts elsewhere.
    wanted = {*RecordedMethod.__annotations__, *(name for name in vars(RecordedMethod) if not name.startswith("_"))}
    missing = sorted(name for name in wanted if not hasattr(method, name))
    if missing:
        raise ConfigError(
            f"RecordWriter records a VideoTextMethod, {type(method).__name__} is none: it has no {', '.join(missing)}"
        )
    return cast(RecordedMethod, method)


def _digest_of_labels(labels: dict[str, int]) -> str:
    """Digest of the videos of a test set and their classes; two runs with one digest were asked the same."""
    lines = "".join(f"{label} {video}\n" for video, label in sorted(labels.items()))
    return hashlib.blake2b(name_bytes(lines), digest_size=16).hexdigest()


class _Environment(TypedDict):
    """Fields of `Details` that say where and with what code a test ran."""

    device: str
    peak_memory_bytes: int
    vlbench: str
    git_commit: str | None
    python: str
    packages: dict[str, str]


def _environment(device: torch.device) -> _Environment:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu ({platform.machine()})",
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else _peak_resident_bytes(),
        "vlbench": vlbench.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _peak_resident_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _git_commit() -> str | None:
    """Commit of the checkout vlbench runs from, ending in `-dirty` if files differ from it; `None` from a wheel."""
    checkout = Path(vlbench.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    describe = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    return subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip() or None
