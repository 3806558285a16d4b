"""Encodes the videos of a dataset by a frozen tower, a file of features at a time.

Videos are cut into batches in the order of the bank's lists and batches into files, so that which videos go through the
tower together does not depend on the number of processes, nor on what an earlier run has left: equal batches give equal
bits. A file is whole or not there; what is there is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from vlbench.backbones.base import FRAME_OPTIONS, DualEncoder
from vlbench.bank.facts import BankFacts, Contents, DType, Kind
from vlbench.bank.shards import ShardFile, shard_name, write_shard
from vlbench.clips.batch import ClipBatch, ViewBatch
from vlbench.clips.datamodule import VideoDataModule
from vlbench.datasets.specs import Part, VideoItem
from vlbench.errors import ConfigError, DataError
from vlbench.ranges import Range
from vlbench.settings import plain

_VIDEOS = 256
"""Videos of a file of features, about: what a killed run loses."""

_OF_USE = ("heldout", "loading.epoch_size", "loading.on_error")
"""Settings of a training that say how features are used and not what they are."""

Progress = Callable[[int], None]
"""Function that is told how many more videos are done."""


@dataclass(frozen=True)
class Piece:
    """The videos of one file of features.

    Attributes:
        kind: Kind of the features.
        index: Number of the file among those of its kind.
        batches: Positions of the videos in the bank's order, batch by batch.
    """

    kind: Kind
    index: int
    batches: tuple[tuple[int, ...], ...]

    @property
    def videos(self) -> int:
        """Number of videos of the file."""
        return sum(map(len, self.batches))

    def path(self, folder: Path) -> Path:
        """File of the piece below the bank's folder."""
        return folder / shard_name(self.kind, self.index)


class Encoder:
    """Makes the features of a bank.

    Args:
        data: DataModule of the videos, whose training and test subsets say which lists the bank has.
        backbone: Backbone that encodes, in evaluation mode and on its device.
        parts: Parts of the dataset that are encoded.
        augmented: Number of augmented passes of the training part.
        dtype: Number format of the features.

    Attributes:
        facts: What the features depend on.
        items: Videos in the bank's order, each once.

    Raises:
        ConfigError: If the bank would be of a part of the classes or shots, which are drawn from a bank later.
        DataError: If lists or videos are missing.
    """

    def __init__(
        self, data: VideoDataModule, backbone: DualEncoder, parts: Sequence[Part], augmented: int, dtype: DType
    ) -> None:
        Range(0, 1_000).check("augmented", augmented)
        dataset = data.dataset
        if augmented and "train" not in parts:
            raise ConfigError(f"augmented is {augmented} and parts {', '.join(parts)}; augmented passes are of train")
        # Half of the changes on another device would round otherwise.
        data.augmentation = replace(data.augmentation, run_on="worker")
        subsets = {
            "train": [dataset.train_subset],
            "test": [*dataset.test_subsets],
            "validation": [dataset.test_subset],
        }
        for subset in (subset for part in parts for subset in subsets[part]):
            if subset.classes != "all" or subset.shots is not None:
                raise ConfigError(
                    f"the subset has classes {subset.classes} and shots {subset.shots}; a bank holds all videos of a "
                    "split, and subsets are drawn from the bank: leave both out"
                )
        if dataset.facts.multi_label:
            raise ConfigError(
                f"a video of {dataset.label} may have several labels, and a bank holds one a video; test on the videos"
            )
        if dataset.class_list is not None:
            raise ConfigError(
                f"data.class_list is {dataset.class_list}; a bank holds the videos of all classes: leave it out here,"
                " and set it for the trainings and tests on the bank"
            )
        self.data = data
        self.backbone = backbone
        lists: dict[str, list[VideoItem]] = {}
        for part in parts:
            for split in dict.fromkeys(subset.split for subset in subsets[part]):
                videos = dataset.listed(part, split)
                if not videos:
                    raise ConfigError(f"{dataset.label} has no {part} part; leave it out of --parts")
                lists[f"{part}/{split}"] = videos
        lists = dict(sorted(lists.items()))  # the order in which a file of JSON has them
        self.items = list({item.id: item for videos in lists.values() for item in videos}.values())
        spec = dataset.spec
        of_spec = {
            name: plain(getattr(spec, name))
            for name in ("name", "class_names", "base_classes", "directional", "splits", "lists", "licence", "source")
        }
        splits = {str(split): list(labels) for split, labels in spec.split_classes.items()}
        of_training = {k: v for k, v in data.settings("training").items() if k not in _OF_USE} if augmented else {}
        of_backbone = backbone.feature_facts()
        self.facts = BankFacts(
            dataset={
                "class": type(dataset).__name__,
                "variant": dataset.variant,
                "label": dataset.label,
                "content": {part: dataset.content(part) for part in parts},
                **of_spec,
                "split_classes": splits,
            },
            lists={key: [[item.id, item.label] for item in videos] for key, videos in lists.items()},
            backbone={name: value for name, value in of_backbone.items() if name not in FRAME_OPTIONS},
            preprocess={name: of_backbone[name] for name in FRAME_OPTIONS},
            frames=data.frames,
            clip=asdict(data.clip),
            settings={"views": data.settings("test"), "augmented": of_training},
            augmented=augmented,
            seed=data.seed if augmented else 0,
            dtype=dtype,
        )

    def pieces(self) -> list[Piece]:
        """The files of the bank."""
        data = self.data
        counts: dict[Kind, tuple[int, int]] = {"views": (len(self.items), data.batch_of_evaluation())}
        if self.facts.augmented:
            counts["augmented"] = (len(self.facts.ids("augmented")), data.batch_size)
        pieces: list[Piece] = []
        for kind, (count, size) in counts.items():
            batches = iter([tuple(range(first, min(first + size, count))) for first in range(0, count, size)])
            while group := tuple(islice(batches, max(1, _VIDEOS // size))):
                pieces.append(Piece(kind, sum(piece.kind == kind for piece in pieces), group))
        return pieces

    def missing(self, folder: Path) -> list[Piece]:
        """The files of the bank that are not there, or not whole; the latter are removed."""
        missing, digest = [], self.facts.digest()
        for piece in self.pieces():
            path = piece.path(folder)
            try:
                whole = path.is_file() and ShardFile.open(path).bank == digest
            except DataError:
                whole = False
            if not whole:
                with suppress(FileNotFoundError):
                    path.unlink()
                missing.append(piece)
        return missing

    def write(self, folder: Path, pieces: Sequence[Piece], progress: Progress) -> None:
        """Encodes some files of the bank.

        Args:
            folder: Folder of the bank.
            pieces: Files that are made, in this order.
            progress: Function that is told how many more videos are done.

        Raises:
            WriteError: If the disk refuses; the files that are there are whole.
        """
        digest = self.facts.digest()
        for kind in ("views", "augmented"):
            of_kind = [piece for piece in pieces if piece.kind == kind]
            encoded = self._views(of_kind) if kind == "views" else self._augmented(of_kind)
            for piece in of_kind:
                parts: list[NDArray[Any]] = []
                ids: list[str] = []
                failures: dict[str, str] = {}
                for _ in piece.batches:
                    features, read, lost = next(encoded)
                    parts.append(features)
                    ids += read
                    failures |= lost
                    progress(len(read) + len(lost))
                write_shard(piece.path(folder), _joined(parts), ids, failures, digest)

    def encode(self, ids: Sequence[str], size: int = 8) -> Iterator[tuple[NDArray[Any], list[str], dict[str, str]]]:
        """Features `(B, V, F, D)`, ids and failures of some videos, batch by batch, as a test sees them.

        Args:
            ids: Ids of the videos.
            size: Number B of videos that go through the tower together.
        """
        places = {item.id: index for index, item in enumerate(self.items)}
        rows = [places[video] for video in ids]
        batches = tuple(tuple(rows[first : first + size]) for first in range(0, len(rows), size))
        yield from self._views([Piece("views", 0, batches)])

    def finish(self, folder: Path, made_by: dict[str, Any]) -> Contents:
        """Writes what makes the files a bank.

        Args:
            folder: Folder with all of the bank's files.
            made_by: Command and machine that made the bank.
        """
        files = [(piece.kind, ShardFile.open(piece.path(folder))) for piece in self.pieces()]
        failures = {video: cause for _, file in files for video, cause in file.failures.items()}
        shards = tuple(file.described(kind) for kind, file in files)
        contents = Contents(self.facts, shards, dict(sorted(failures.items())), made_by)
        contents.write(folder)
        return contents

    @torch.no_grad()
    def _views(self, pieces: Sequence[Piece]) -> Iterator[tuple[NDArray[Any], list[str], dict[str, str]]]:
        """Features `(B, V, F, D)`, ids and failures of each batch, as a test sees the videos."""
        data = self.data
        batches = [batch for piece in pieces for batch in piece.batches]
        collate = partial(ViewBatch.collate, at_once=data.loading.eval_batch_size or data.batch_size)
        for batch in self._loaded(data.test_views(self.items), batches, collate):
            videos = len(batch.ids)
            groups = [
                frames.unflatten(0, (views, videos)).transpose(0, 1) for views, frames in batch.encoded(self._encode)
            ]
            yield self._stored(groups), batch.ids, {video: cause for video, (_, cause) in batch.failures.items()}

    @torch.no_grad()
    def _augmented(self, pieces: Sequence[Piece]) -> Iterator[tuple[NDArray[Any], list[str], dict[str, str]]]:
        """Features `(B, A, F, D)`, ids and failures of each batch, as a training sees the videos, A times."""
        count = self.facts.augmented
        items = {item.id: item for item in self.items}
        training = [items[video] for video in self.facts.ids("augmented")]
        keys = [
            tuple((position, draw) for position in batch)
            for piece in pieces
            for batch in piece.batches
            for draw in range(count)
        ]
        loaded = iter(self._loaded(self.data.training_clips(training), keys, ClipBatch.collate))
        while passes := list(islice(loaded, count)):
            # A file that can be read once can be read again, unless somebody has just removed it.
            failures = {video: cause for batch in passes for video, (_, cause) in batch.failures.items()}
            ids = [video for video in passes[0].ids if video not in failures]
            groups = []
            for batch in passes:
                if ids:
                    keep = [row for row, video in enumerate(batch.ids) if video not in failures]
                    groups.append(batch.encoded(self._encode)[keep].unsqueeze(1))
            yield self._stored(groups), ids, failures

    def _loaded(self, videos: Any, batches: Sequence[Any], collate: Callable[..., Any]) -> Iterator[Any]:
        loader: Any = DataLoader(
            videos, batch_sampler=[list(batch) for batch in batches], collate_fn=collate, **self.data.loader_options()
        )
        device = self.backbone.logit_scale.device
        for batch in loader if batches else ():
            yield move_data_to_device(batch, device)

    def _encode(self, clips: Tensor) -> Tensor:
        return self.backbone.encode_frames(self.backbone.normalize(clips))

    def _stored(self, groups: Sequence[Tensor]) -> NDArray[Any]:
        """Features `(B, V, F, D)` of the groups of views as they are stored."""
        if not groups:
            return np.empty((0, 0, 0, 0), self.facts.dtype)
        features: NDArray[Any] = torch.cat(list(groups), dim=1).to(getattr(torch, self.facts.dtype)).cpu().numpy()
        return features


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The features of several batches; a batch without readable videos has none."""
    filled = [part for part in parts if len(part)]
    return np.concatenate(filled) if filled else parts[0]
