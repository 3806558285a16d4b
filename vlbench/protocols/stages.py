"""What a runner executes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vlbench.data.specs import Subset


@dataclass(frozen=True)
class Stage:
    """One command of a protocol.

    Attributes:
        name: unique in its plan, usable as a file name.
        action: `fit` or `test`.
        configs: configuration names, later ones override earlier ones.
        train: training subset; `None` if the stage trains nothing.
        test: test subset.
        seed: of initialisation, order, augmentation and of the draw of shots.
        protocol: versioned name.
        weights_from: name of the stage whose weights are tested.
        checkpoint: file whose weights are tested instead.
    """

    name: str
    action: Literal["fit", "test"]
    configs: tuple[str, ...]
    train: Subset | None
    test: Subset
    seed: int
    protocol: str
    weights_from: str | None = None
    checkpoint: str | None = None

    def digest(self, contents: Mapping[str, bytes], needed: str | None = None) -> str:
        """Identifies what the stage does, by its fields and the contents of its configurations, not their paths.

        Args:
            contents: of each configuration, and a digest of the checkpoint.
            needed: digest of the stage in `weights_from`.
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
            out: results folder.
            digest: of the stage.
        """
        data: dict[str, Any] = {"test": asdict(self.test), "seed": self.seed}
        if self.train is not None:
            data["train"] = asdict(self.train)
        overlay: dict[str, Any] = {
            "seed_everything": self.seed,
            "data": {"init_args": data},
            "trainer": {"default_root_dir": str(out / "runs" / self.name)},
        }
        if self.action == "fit":
            overlay["checkpoint"] = {"dirpath": str(checkpoint_folder(out, self.name))}
        else:
            overlay["record"] = {"folder": str(out), "name": self.name, "stage": digest, "protocol": self.protocol}
            if self.weights_from is not None:
                overlay["ckpt_path"] = str(checkpoint_folder(out, self.weights_from) / "last.ckpt")
        return overlay


def checkpoint_folder(out: Path, stage: str) -> Path:
    """Where a fit stage leaves `last.ckpt`."""
    return out / "checkpoints" / stage
