"""A bank as a dataset: its videos by part and subset, without the videos themselves."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from vlbench.bank.bank import FeatureBank
from vlbench.datasets import DATASETS, FolderVideos
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import ConfigError, DataError


class BankDataset(VideoDataset):
    """The dataset that a bank was made of: classes, lists and draws are those of its videos.

    The `root` is the folder of the bank, or a folder with a single bank below it.
    """

    folder: ClassVar[str] = "banks"
    variants: ClassVar[tuple[str, ...]] = ("bank",)
    holds_videos: ClassVar[bool] = False

    @cached_property
    def bank(self) -> FeatureBank:
        """The bank, opened on first use."""
        return FeatureBank(self.root)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        return self.bank.facts.spec

    @property
    @override
    def variant_label(self) -> str:
        return str(self.bank.facts.dataset["label"])

    @override
    def content(self, part: Part) -> str:
        contents: Mapping[str, str] = self.bank.facts.dataset["content"]
        # Of a part that the bank does not have, names of classes are all that is known.
        return contents.get(part, next(iter(contents.values())))

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        listed = self.bank.videos(part, split)
        if listed is None and part == "validation":
            return []
        if listed is None:
            has = ", ".join(self.bank.facts.lists)
            raise DataError(
                f"the bank {self.bank.folder} has no list {part}/{split}; it has {has}: make another bank by `vlbench"
                " features` with the configurations of that split, or use a list that is there"
            )
        return list(listed)

    @override
    def check_reader(self, method: str, reads: str, backbone: Mapping[str, object]) -> None:
        if reads != "frame_features":
            raise ConfigError(
                f"{method} reads {reads} and a bank holds features of frames; give a dataset of videos, such as"
                " --config data/ucf101.yaml, or a method that reads frame_features"
            )
        self.bank.check_backbone(backbone)

    @override
    def check(self, part: Part) -> None:
        unknown = [item.id for item in self.videos(part) if item.id not in self.bank]
        if unknown:
            raise DataError(
                f"{len(unknown)} of the {len(self.videos(part))} videos of {self.list_name(part)} are not in the bank "
                f"{self.bank.folder}, {unknown[0]} is one; make a bank of that list by `vlbench features`"
            )
        super().check(part)

    # Published lists name videos as those of the original dataset do -----------------------------------------------

    @cached_property
    def _original(self) -> VideoDataset | None:
        """The dataset that the bank was made of, for the names of videos; `None` where vlbench does not know it."""
        facts = self.bank.facts.dataset
        cls = DATASETS.get(facts["class"])
        return None if cls is None or cls is FolderVideos else cls(variant=facts["variant"])

    @override
    def video_id(self, name: str, label: int) -> str:
        return name if self._original is None else self._original.video_id(name, label)

    @override
    def video_stems(self, name: str) -> tuple[str, ...]:
        return super().video_stems(name) if self._original is None else self._original.video_stems(name)

    @override
    def label_of(self, name: str) -> int | None:
        return None if self._original is None else self._original.label_of(name)

    @override
    def video_key(self, item: VideoItem) -> Hashable:
        return item.id

    @override
    def _item(self, name: str, label: int) -> VideoItem:
        video = self.video_id(name, label)
        return VideoItem(Path(video), label, self._stored_id(video, self.video_stems(name)))

    @cached_property
    def _by_stem(self) -> dict[tuple[str, str], str]:
        """Id of each video by its folder and its file name without extension, which copies may change."""
        return {(str(Path(video).parent), Path(video).stem): video for video in self.bank.facts.ids()}

    def _stored_id(self, video: str, stems: Sequence[str]) -> str:
        if video in self.bank:
            return video
        parent = str(Path(video).parent)
        return next((self._by_stem[parent, stem] for stem in stems if (parent, stem) in self._by_stem), video)
