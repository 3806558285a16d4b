"""What the features of a bank depend on, and the file that says so; imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import vlbench
from vlbench.datasets.specs import DatasetSpec, Part
from vlbench.errors import DataError
from vlbench.files import write_atomically
from vlbench.names import name_bytes, one_line

FORMAT = 1
"""Version of the layout of a bank."""

FACTS = "bank.json"
"""File of a bank that is written last: a folder without it is no finished bank."""

DType = Literal["float16", "float32"]
"""Number formats of the features of a bank."""

Kind = Literal["views", "augmented"]
"""Features of the views that a test looks at, and of augmented clips as a training sees them."""


@dataclass(frozen=True)
class Shard:
    """One file of features.

    Attributes:
        file: Name of the file below the bank's folder.
        kind: Kind of the features in the file.
        digest: Hexadecimal digest of the bytes of the file.
        size: Number of bytes of the file.
    """

    file: str
    kind: Kind
    digest: str
    size: int


@dataclass(frozen=True)
class BankFacts:
    """What a bank says of itself.

    Attributes:
        dataset: Facts of the dataset: its class, variant, label, and the fields of its `DatasetSpec`.
        lists: Videos of each part and official split, `train/1`, as pairs of id and label in the whole dataset.
        backbone: Name, weights, digest, settings and `embed_dim` of the backbone.
        preprocess: Side of the frames in pixels, interpolation and resize mode.
        frames: Number T of frames of a clip.
        clip: Options of the clips, as `ClipOptions` has them.
        settings: Options that the features of each kind depend on, by their names as records have them.
        augmented: Number A of augmented passes of the training videos.
        seed: Seed of the augmented passes.
        dtype: Number format of the features.
        version: Version of vlbench that encoded the videos.
        layout: Version of the layout of the bank.
    """

    dataset: Mapping[str, Any]
    lists: Mapping[str, Sequence[Sequence[Any]]]
    backbone: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    frames: int
    clip: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    augmented: int
    seed: int
    dtype: DType
    version: str = vlbench.__version__
    layout: int = FORMAT

    def digest(self) -> str:
        """Sixteen hexadecimal characters that differ between banks of other features."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(name_bytes(text), digest_size=8).hexdigest()

    @property
    def spec(self) -> DatasetSpec:
        """Facts of the dataset that do not depend on where it lies."""
        facts = self.dataset
        return DatasetSpec(
            name=facts["name"],
            class_names=tuple(facts["class_names"]),
            base_classes=tuple(facts["base_classes"]),
            directional=facts["directional"],
            splits=facts["splits"],
            split_classes={int(split): tuple(labels) for split, labels in facts["split_classes"].items()},
            lists=facts["lists"],
            licence=facts["licence"],
            source=facts["source"],
        )

    def ids(self, kind: Kind = "views") -> list[str]:
        """Ids of the videos in the order of the features, each once; of those of the training lists where augmented."""
        names = [key for key in self.lists if kind == "views" or key.startswith("train/")]
        return list(dict.fromkeys(str(video) for name in names for video, _ in self.lists[name]))

    def listed(self, part: Part, split: int) -> list[tuple[str, int]] | None:
        """Id and label of the videos of a part of an official split; `None` where the bank has no such list."""
        videos = self.lists.get(f"{part}/{split}")
        return None if videos is None else [(str(video), int(label)) for video, label in videos]


@dataclass(frozen=True)
class Contents:
    """A finished bank: its facts, its files, and what could not be read.

    Attributes:
        facts: What the features depend on.
        shards: Files of features, in the order of the videos.
        failures: Id of each video that could not be read -> why.
        made_by: Command and machine that made the bank, for people and for `vlbench features verify`.
    """

    facts: BankFacts
    shards: tuple[Shard, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes the file that finishes a bank."""
        write_atomically(folder / FACTS, (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Contents:
        """What a folder says that it holds.

        Args:
            folder: Folder of the bank.

        Raises:
            DataError: If the folder holds no bank, an unfinished one, or one of another layout.
        """
        path = folder / FACTS
        if not path.is_file():
            begun = folder.is_dir() and any(folder.glob("*.safetensors"))
            state = "holds a bank that is not finished" if begun else "holds no bank"
            way_out = (
                "run the same `vlbench features` again, which goes on" if begun else "make one by `vlbench features`"
            )
            raise DataError(f"{folder.absolute()} {state}: {FACTS} is missing; {way_out}")
        try:
            values = json.loads(path.read_text())
            layout = values["facts"]["layout"]
            if layout != FORMAT:
                raise DataError(f"{path} has the layout {layout!r}; this vlbench reads {FORMAT}")
            facts = BankFacts(**values["facts"])
            shards = tuple(Shard(**shard) for shard in values["shards"])
            contents = cls(facts, shards, dict(values["failures"]), dict(values["made_by"]))
            _ = facts.ids(), facts.backbone["digest"], [int(name.partition("/")[2]) for name in facts.lists]
            classes = len(facts.spec.class_names)
            odd = {label for videos in facts.lists.values() for _, label in videos if not 0 <= label < classes}
            if odd:
                raise ValueError(f"a video has the label {min(odd)}, and there are {classes} classes")
            if facts.dtype not in get_args(DType):
                raise ValueError(f"dtype is {facts.dtype!r}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} does not describe a bank: {one_line(repr(error))}; make it anew by `vlbench features`"
            ) from error
        return contents
