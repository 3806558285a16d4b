"""What a runner executes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vlbench.datasets.specs import Selection, Subset


@dataclass(frozen=True)
class Stage:
    """One command of a protocol.

    Attributes:
        name: Unique in its plan, usable as a file name.
        action: Action of the stage, `fit` or `test`.
        configs: Configuration names, later ones override earlier ones.
        train: Training subset; `None` if the stage trains nothing.
        test: Test subsets of one dataset, evaluated in one pass; a training validates on them, if at all.
        seed: Seed of initialisation, order, augmentation and the draw of shots.
        protocol: Versioned name of the protocol.
        weights_from: Name of the stage whose weights are tested.
        checkpoint: File whose weights are tested instead.
        selection: Which epoch's weights are tested; of a training, which it keeps beside the last one's.
        half_classes: Whether records also hold accuracies on random halves of the classes.
    """

    name: str
    action: Literal["fit", "test"]
    configs: tuple[str, ...]
    train: Subset | None
    test: tuple[Subset, ...]
    seed: int
    protocol: str
    weights_from: str | None = None
    checkpoint: str | None = None
    selection: Selection = "last"
    half_classes: bool = False

    @property
    def records(self) -> tuple[str, ...]:
        """Names of the records that a test leaves, one for each subset."""
        if self.action == "fit":
            return ()
        if len(self.test) == 1:
            return (self.name,)
        return tuple(f"{self.name}-{subset.key}" for subset in self.test)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Names of the files that a training leaves."""
        if self.action == "test":
            return ()
        return ("last.ckpt",) if self.selection == "last" else ("last.ckpt", "best.ckpt")

    def digest(self, contents: Mapping[str, bytes], needed: str | None = None) -> str:
        """Identifies what the stage does, by its fields and the contents of its configurations, not their paths.

        Args:
            contents: Contents of each configuration, and a digest of the checkpoint.
            needed: Digest of the stage in `weights_from`.
        """
        digest = hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=8)
        for name in self.configs:
            digest.update(contents[name])
        if self.checkpoint is not None:
            digest.update(contents[self.checkpoint])
        digest.update((needed or "").encode())
        return digest.hexdigest()

    def overlay(self, out: Path, digest: str) -> dict[str, Any]:
        """The configuration that makes the method's and the dataset's into this stage.

        Args:
            out: Results folder of the run.
            digest: Digest of the stage.
        """
        data: dict[str, Any] = {"test": [asdict(subset) for subset in self.test]}
        if self.train is not None:
            data["train"] = asdict(self.train)
        overlay: dict[str, Any] = {
            "seed_everything": self.seed,
            "data": {"init_args": data},
            "trainer": {"default_root_dir": str(out / "runs" / self.name)},
        }
        if self.action == "fit":
            overlay["checkpoint"] = {"dirpath": str(checkpoint_folder(out, self.name))}
            if self.selection != "last":
                overlay["selection"] = self.selection
            return overlay
        overlay["record"] = {
            "folder": str(out),
            "name": self.name,
            "stage": digest,
            "protocol": self.protocol,
            "selection": self.selection,
            "half_classes": self.half_classes,
        }
        if self.weights_from is not None:
            file = "last.ckpt" if self.selection == "last" else "best.ckpt"
            overlay["ckpt_path"] = str(checkpoint_folder(out, self.weights_from) / file)
        return overlay


def checkpoint_folder(out: Path, stage: str) -> Path:
    """Where a fit stage leaves its checkpoints."""
    return out / "checkpoints" / stage
