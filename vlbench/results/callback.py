"""Writes the record of a test run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from safetensors.torch import save
from typing_extensions import override

import vlbench
from vlbench.evaluation.metrics import bootstrap_interval, half_class_metrics
from vlbench.files import write_atomically
from vlbench.results.record import Identity, Record

_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "open_clip_torch", "av")


class RecordWriter(Callback):
    """One JSON record for every `vlbench test`, and the videos' scores beside it.

    Args:
        folder: results folder; the record goes to `<folder>/records`, the scores to `<folder>/predictions`. `None`
            writes nothing.
        name: file name of the record without suffix; `None` makes one from its identity.
        stage: digest of the runner's stage that the record belongs to.
        protocol: versioned name of the protocol the run belongs to.
        selection: which checkpoint is tested.
        half_classes: also evaluate on ten random halves of the classes, as MoTE's zero-shot protocol does.
        bootstrap: resampled test sets for the 95 % interval of top-1; 0 leaves it out.
    """

    def __init__(
        self,
        folder: str | None = "results",
        name: str | None = None,
        stage: str | None = None,
        protocol: str = "custom",
        selection: Literal["last", "heldout", "best_on_test"] = "last",
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
        self.config_digest: str | None = None
        self._started = 0.0

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank zero writes; every rank holds the gathered predictions."""
        if self.folder is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        method: Any = pl_module
        seconds = round(time.monotonic() - self._started, 3)
        weights = weights_digest(method) if trainer.ckpt_path is not None else None
        for evaluation in method.evaluations:
            record = self._record(trainer, method, evaluation, weights, seconds)
            name = self.name or record.name
            if self.name is not None and len(method.evaluations) > 1:
                name = f"{name}-{evaluation.set.subset.key}"
            predictions = evaluation.predictions
            kept = ("scores", "cosines", "features", "labels")
            tensors = {key: getattr(predictions, key).contiguous() for key in kept}
            lost = {video: label for video, (label, _) in predictions.failures.items()}
            metadata = {"ids": "\n".join(predictions.ids), "failures": json.dumps(lost)}
            # The scores first: a record means that everything belonging to it is there.
            write_atomically(self.folder / "predictions" / f"{name}.safetensors", save(tensors, metadata=metadata))
            path = record.write(self.folder / "records", name)
            print(f"record: {path}")  # noqa: T201 - tells the user where it went

    def _record(self, trainer: Trainer, method: Any, evaluation: Any, weights: str | None, seconds: float) -> Record:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        provenance = method.provenance or {}
        trained = weights is not None
        chosen, predictions = evaluation.set, evaluation.predictions
        metrics = {**evaluation.metrics, **bootstrap_interval(predictions, self.bootstrap)}
        if self.half_classes:
            metrics |= half_class_metrics(predictions)
        return Record(
            identity=Identity(
                method=method.name,
                backbone="{name}:{pretrained}".format(**method.backbone.identity.as_dict()),
                weights=weights,
                dataset=data.dataset.label,
                train_dataset=provenance.get("dataset") if trained else None,
                train=provenance.get("subset") if trained else None,
                test=asdict(chosen.subset),
                views=f"{data.clip.views.clips}x{data.clip.views.crops}",
                frames=data.frames,
                protocol=self.protocol,
                seed=int(provenance.get("seed", os.environ.get("PL_GLOBAL_SEED", 0))),
                selection=self.selection,
                train_list=provenance.get("list") if trained else None,
                test_list=chosen.list_name,
            ),
            metrics=metrics,
            expected=len(chosen.labels),
            evaluated=len(predictions.ids),
            failures={name: cause for name, (_, cause) in predictions.failures.items()},
            details={
                "stage": self.stage,
                "classes": list(chosen.classes.names),
                "test_digest": _digest_of_labels(chosen.labels),
                "deviations": method.deviations(),
                "views": asdict(data.clip.views),
                "sampling": data.clip.sampling,
                "training": provenance,
                "trainable_params": sum(p.numel() for p in method.parameters() if p.requires_grad),
                "total_params": sum(p.numel() for p in method.parameters()),
                "backbone_digest": method.backbone.identity.digest,
                "config_digest": self.config_digest,
                "seconds": seconds,
                "videos_per_second": round(len(data.dataset.videos("test")) / max(seconds, 1e-3), 3),
                "processes": trainer.world_size,
                "precision": str(trainer.precision),
                **_environment(method.device),
            },
        )


def weights_digest(method: LightningModule) -> str:
    """Of the weights that a checkpoint of this method holds; what a record names them by."""
    digest = hashlib.blake2b(digest_size=16)
    keys = method.trained_keys()  # type: ignore[operator]
    for key, value in sorted(method.state_dict().items()):
        if key in keys:
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest_of_labels(labels: dict[str, int]) -> str:
    """Of the videos of a test set and their classes; two runs with the same digest were asked the same."""
    lines = "".join(f"{label} {video}\n" for video, label in sorted(labels.items()))
    return hashlib.blake2b(lines.encode(), digest_size=16).hexdigest()


def _environment(device: torch.device) -> dict[str, Any]:
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
