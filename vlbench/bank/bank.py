"""A bank of features, opened for reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlbench.bank.facts import FACTS, BankFacts, Contents, Kind
from vlbench.bank.shards import ShardFile, digest_of
from vlbench.datasets.specs import Part, VideoItem
from vlbench.errors import ConfigError, DataError


class FeatureBank:
    """Features of the videos of a dataset by their ids; the features stay on the disk until they are used.

    Args:
        folder: Folder of a finished bank, or a folder with a single bank below it.

    Attributes:
        folder: Folder of the bank.
        facts: What the features depend on.
        failures: Id of each video that could not be read -> why.
        made_by: Command and machine that made the bank.

    Raises:
        DataError: If there is no bank, or it is unfinished, cut off or changed.
        ConfigError: If there are several banks below the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = find_bank(Path(folder))
        contents = Contents.read(self.folder)
        self.facts: BankFacts = contents.facts
        self.failures = contents.failures
        self.made_by = contents.made_by
        self._videos: dict[tuple[Part, int], list[VideoItem] | None] = {}
        self._digests = {shard.file: shard.digest for shard in contents.shards}
        self._files: dict[Kind, list[ShardFile]] = {"views": [], "augmented": []}
        digest = self.facts.digest()
        for shard in contents.shards:
            file = ShardFile.open(self.folder / shard.file)
            if file.bank != digest or file.path.stat().st_size != shard.size:
                raise DataError(
                    f"{file.path} belongs to another bank than {self.folder / FACTS} beside it describes; delete it and"
                    " run the same `vlbench features` again"
                )
            self._files[shard.kind].append(file)
        for kind in self._places:
            wanted = self.facts.ids(kind) if kind == "views" or self.facts.augmented else []
            missing = [video for video in wanted if video not in self._places[kind] and video not in self.failures]
            if missing:
                raise DataError(
                    f"the bank {self.folder} lacks the {kind} of {len(missing)} of its {len(wanted)} videos,"
                    f" {missing[0]} is one; run the same `vlbench features` again"
                )

    @cached_property
    def _places(self) -> dict[Kind, dict[str, tuple[int, int]]]:
        """File and row of each video, for each kind of features."""
        return {
            kind: {video: (index, row) for index, file in enumerate(files) for row, video in enumerate(file.ids)}
            for kind, files in self._files.items()
        }

    def __contains__(self, video: str) -> bool:
        return video in self._places["views"] or video in self.failures

    def videos(self, part: Part, split: int) -> list[VideoItem] | None:
        """Videos of a part of an official split, labelled in the whole dataset; `None` where there is no such list."""
        if (part, split) not in self._videos:
            listed = self.facts.listed(part, split)
            items = None if listed is None else [VideoItem(Path(video), label, video) for video, label in listed]
            self._videos[part, split] = items
        return self._videos[part, split]

    def shape(self, kind: Kind = "views") -> tuple[int, int, int]:
        """Sizes V, F and D of the features of a video: views or passes, frame features of each, dimensions."""
        files = self._files[kind]
        if not files:
            return 0, 0, int(self.facts.backbone["embed_dim"])
        # Of a file whose videos are all unreadable the number of frame features is not known.
        views, frames, width = next((file for file in files if file.ids), files[0]).shape[1:]
        return views, frames, width

    def features(self, ids: Sequence[str], kind: Kind = "views") -> NDArray[Any]:
        """Features `(N, V, F, D)` of readable videos, in the order of their ids, a copy in memory.

        Args:
            ids: Ids of the N videos.
            kind: Kind of the features; V counts the views, or the augmented passes.

        Raises:
            DataError: If the bank has no features of a video.
        """
        places, files = self._places[kind], self._files[kind]
        unknown = [video for video in ids if video not in places]
        if unknown:
            why = self.failures.get(unknown[0], "it is in no list of the bank")
            raise DataError(f"the bank {self.folder} has no {kind} of {unknown[0]}: {why}")
        result = np.empty((len(ids), *self.shape(kind)), self.facts.dtype)
        rows: dict[int, list[tuple[int, int]]] = {}
        for position, video in enumerate(ids):
            index, row = places[video]
            rows.setdefault(index, []).append((position, row))
        for index, pairs in rows.items():
            positions, sources = zip(*pairs, strict=True)
            result[list(positions)] = files[index].features[list(sources)]
        return result

    def check_files(self) -> None:
        """Reads every file of the bank.

        Raises:
            DataError: If the bytes of a file are not those that were written.
        """
        for file in (file for files in self._files.values() for file in files):
            if digest_of(file.path) != self._digests[file.path.name]:
                raise DataError(
                    f"{file.path} is not what was written: its digest differs from that in {FACTS}; delete it and run"
                    " the same `vlbench features` again"
                )

    def check_backbone(self, backbone: Mapping[str, object]) -> None:
        """Whether the features are those of a backbone.

        Args:
            backbone: Name, digest, settings and preprocessing of the backbone, see `DualEncoder.feature_facts`.

        Raises:
            ConfigError: If they are not; the message says what differs.
        """
        there, here = _flat({**self.facts.backbone, **self.facts.preprocess}), _flat(backbone)
        names = [name for name in here if name != "pretrained" and here[name] != there.get(name)]
        if names:
            clauses = [f"{name} is {_brief(there.get(name))} there and {_brief(here[name])} here" for name in names]
            raise ConfigError(
                f"the bank {self.folder} is of another backbone: {'; '.join(clauses)}; give the configuration of the"
                f" bank's backbone, {self.facts.backbone['name']}, or another bank by --data.root DIR"
            )


def find_bank(folder: Path) -> Path:
    """The folder of a bank: the folder itself, or that of the single bank below it.

    Args:
        folder: Folder of a bank, or folder that `vlbench features --out` wrote banks to.

    Raises:
        ConfigError: If there are several banks below the folder.
    """
    if (folder / FACTS).is_file() or not folder.is_dir():
        return folder
    banks = sorted(path.parent for path in folder.glob(f"*/{FACTS}"))
    if len(banks) > 1:
        raise ConfigError(
            f"{folder} holds {len(banks)} banks; give the folder of one by --data.root DIR:"
            f" {', '.join(map(str, banks))}"
        )
    begun = sorted({path.parent for path in folder.glob("*/*.safetensors")})
    return banks[0] if banks else begun[0] if len(begun) == 1 else folder


def _flat(facts: Mapping[str, object]) -> dict[str, object]:
    """Facts about a backbone with each of its settings for itself, behind the facts that say less."""
    plain = {name: value for name, value in facts.items() if not isinstance(value, Mapping)}
    nested = ((name, value) for name, value in facts.items() if isinstance(value, Mapping))
    return plain | {f"{name}.{key}": item for name, value in nested for key, item in value.items()}


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
