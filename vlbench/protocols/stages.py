"""What a runner executes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from vlbench.datasets.specs import Selection, Subset


@dataclass(frozen=True)
class Stage:
    """One command of a protocol.

    Attributes:
        name: Unique in its plan, usable as a file name.
        action: Action of the stage: `fit`, `test`, `choose`, which takes the best of `candidates`, or `sweep`, which
            trains and tests on each of `draws`.
        configs: Configuration names, later ones override earlier ones.
        train: Training subset; `None` if the stage trains nothing.
        test: Test subsets of one dataset, evaluated in one pass; a training validates on them, if at all.
        seed: Seed of initialisation, order, augmentation and the draw of shots.
        protocol: Versioned name of the protocol.
        weights_from: Name of the stage whose weights are tested.
        checkpoint: File whose weights are tested instead.
        selection: Which epoch's weights are tested; of a training, which it keeps beside the last one's.
        half_classes: Whether records also hold accuracies on random halves of the classes.
        pretrained_from: Name of the training stage, or checkpoint file, whose backbone the method starts from.
        draws: Training videos a class and seed of each draw of a sweep.
        options: Options of the method that a grid sets, by their names, and their values.
        candidates: Names of the trainings that a choice is among.
    """

    name: str
    action: Literal["fit", "test", "choose", "sweep"]
    configs: tuple[str, ...]
    train: Subset | None
    test: tuple[Subset, ...]
    seed: int
    protocol: str
    weights_from: str | None = None
    checkpoint: str | None = None
    selection: Selection = "last"
    half_classes: bool = False
    pretrained_from: str | None = None
    draws: tuple[tuple[int, int], ...] = ()
    options: tuple[tuple[str, bool | int | float | str], ...] = ()
    candidates: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the stages that have to be done before this one."""
        start = () if self.start_file is not None else (self.pretrained_from,)
        return tuple(name for name in (self.weights_from, *start, *self.candidates) if name is not None)

    @property
    def start_file(self) -> str | None:
        """Checkpoint file that the method starts from, where it is not a stage's."""
        given = self.pretrained_from
        return given if given is not None and PurePath(given).suffix == ".ckpt" else None

    @property
    def files(self) -> tuple[str, ...]:
        """Checkpoint files that the stage reads, beside those of other stages."""
        return tuple(file for file in (self.checkpoint, self.start_file) if file is not None)

    @property
    def records(self) -> tuple[str, ...]:
        """Names of the records that a test leaves, one for each subset."""
        if self.leaves_weights:
            return ()
        if self.action == "sweep":
            return tuple(f"{self.name}-{shots}shot-seed{seed}-test" for shots, seed in self.draws)
        if len(self.test) == 1:
            return (self.name,)
        return tuple(f"{self.name}-{subset.key}" for subset in self.test)

    @property
    def leaves_weights(self) -> bool:
        """Whether the stage leaves checkpoints, and no records."""
        return self.action in ("fit", "choose")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Names of the files that a training or a choice leaves."""
        if not self.leaves_weights:
            return ()
        return ("last.ckpt",) if self.selection == "last" else ("last.ckpt", "best.ckpt")

    def digest(self, contents: Mapping[str, bytes], needed: Sequence[str] = ()) -> str:
        """Identifies what the stage does, by its fields and the contents of its configurations, not their paths.

        Args:
            contents: Contents of each configuration, and a digest of each checkpoint file.
            needed: Digests of the stages in `needs`.
        """
        digest = hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=8)
        for name in self.configs:
            digest.update(contents[name])
        for name in self.files:
            digest.update(contents[name])
        for stage in needed:
            digest.update(stage.encode())
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
        if self.pretrained_from is not None:
            trained = checkpoint_folder(out, self.pretrained_from) / "last.ckpt"
            start = Path(self.start_file).absolute() if self.start_file is not None else trained
            overlay["model"] = {"init_args": {"pretrained_from": str(start)}}
        if self.options:
            overlay.setdefault("model", {}).setdefault("init_args", {}).update(self.options)
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
        if self.action == "sweep":
            overlay["draws"] = [list(draw) for draw in self.draws]
        if self.weights_from is not None:
            file = "last.ckpt" if self.selection == "last" else "best.ckpt"
            overlay["ckpt_path"] = str(checkpoint_folder(out, self.weights_from) / file)
        return overlay


def checkpoint_folder(out: Path, stage: str) -> Path:
    """Where a fit stage leaves its checkpoints."""
    return out / "checkpoints" / stage
