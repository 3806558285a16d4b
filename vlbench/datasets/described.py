"""What one dataset is: facts about it, and where its files are."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

from vlbench.datasets.lists.class_names import ListedClasses, name_of
from vlbench.datasets.lists.frame_folders import FRAMES, FrameFolders, frame_folders, refuse_shared_frames
from vlbench.datasets.lists.published import VideoFiles
from vlbench.datasets.specs import DatasetSpec, Part, Stored, VideoItem, content_digest
from vlbench.errors import ConfigError, DataError


class DescribedDataset(ABC):
    """Facts about one dataset, and the videos of its official lists; `VideoDataset` adds the subsets.

    Args:
        root: Folder of the dataset, see `find_root`.
        variant: Which of the named variants; `None` means the first one.
        class_list: File that names the classes that the dataset is restricted to; `None` for all of them.
        stored: What a video is on the disk, see `vlbench.datasets.frames`.

    Raises:
        ConfigError: If there is no such variant, or the list of classes is not there.
    """

    folder: ClassVar[str]
    """Name of the dataset's folder below the data root."""
    variants: ClassVar[tuple[str, ...]]
    """Named variants, the default first."""
    holds_videos: ClassVar[bool] = True
    """Whether items are videos; those of a bank are features that were computed before."""

    def __init__(self, root: str | None, variant: str | None, class_list: str | None, stored: Stored) -> None:
        if variant is not None and variant not in self.variants:
            raise ConfigError(f"{type(self).__name__} has no variant {variant!r}; allowed: {', '.join(self.variants)}")
        self.variant = variant or self.variants[0]
        self.root = self.find_root(root)
        self.class_list = Path(class_list) if class_list else None
        if self.class_list is not None and not self.class_list.is_file():
            raise ConfigError(f"class_list is {class_list}, which is no file; give one with the name of a class a line")
        self.stored = stored

    # What a dataset answers --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def spec(self) -> DatasetSpec:
        """Facts about the dataset in this variant."""

    @abstractmethod
    def items(self, part: Part, split: int) -> list[VideoItem]:
        """The videos of a part of an official split; empty where the dataset has no such part.

        Raises:
            DataError: If the lists or the videos are not where they should be.
        """

    def listed(self, part: Part, split: int) -> list[VideoItem]:
        """The videos of a part of an official split at the places where they are kept; see `items`.

        Args:
            part: Part of the dataset.
            split: Number of the official split, counted from 1.
        """
        items = self.items(part, split)
        return self._each_with_its_file([self._files.find(item) for item in items]) if self.holds_videos else items

    @property
    def facts(self) -> DatasetSpec:
        """Facts about the dataset that need none of its files; without class names where a file of it has them."""
        return self.spec

    @property
    def label(self) -> str:
        """Dataset and variant, as records name them, and after another slash the name of the list of classes."""
        return self.variant_label if self.class_list is None else f"{self.variant_label}/{name_of(self.class_list)}"

    @property
    def variant_label(self) -> str:
        """Dataset and variant, whatever classes it is restricted to."""
        return self.facts.name if self.facts.name == self.variant else f"{self.facts.name}/{self.variant}"

    def lineage(self, part: Part, split: int) -> str:  # noqa: ARG002 - for subclasses
        """Whose list `items` reads, as records name it before the slash."""
        return "official"

    def content(self, part: Part) -> str:  # noqa: ARG002 - for subclasses
        """Digest of what makes two datasets of one name differ: the names of the classes, in the order of their labels.

        Args:
            part: Part of the dataset; where its videos are the user's own, they count too.
        """
        return content_digest(self.spec.class_names)

    def digest(self, part: Part) -> str:
        """Digest of what makes two datasets of one name differ: the content, and which classes it is restricted to.

        Args:
            part: Part of the dataset.
        """
        content = self.content(part)
        return content if self.listed_classes is None else content_digest([content, *self.listed_classes.names])

    def prepare(self) -> None:  # noqa: B027 - most datasets have nothing to make
        """Makes the videos that the dataset can make by itself, where they are missing."""

    # Where published lists and official ones name videos differently -----------------------------------------------

    @property
    def video_folder(self) -> Path:
        """Folder below which the videos of lists are, or their frames."""
        return self.root

    def video_id(self, name: str, label: int) -> str:  # noqa: ARG002 - for subclasses
        """The id that the official lists give a video.

        Args:
            name: Name of the video in a published list, `v_Archery_g01_c01.avi` or `val/abcdefghijk_000000_000010.mp4`.
            label: Label of the video in the whole dataset.
        """
        return name

    def video_stems(self, name: str) -> tuple[str, ...]:
        """File names without extension that a video of a published list may have on disk, the likeliest first."""
        return (PurePosixPath(name).stem,)

    def label_of(self, name: str) -> int | None:  # noqa: ARG002 - for subclasses
        """The label that a video's file name states, where the dataset's file names state one."""
        return None

    def video_key(self, item: VideoItem) -> Hashable:
        """What entries of two lists have in common if they are the same video: the id, unless overridden."""
        return item.id

    def check_reader(self, method: str, reads: str, backbone: Mapping[str, object]) -> None:  # noqa: B027
        """Whether a method can work on what the dataset holds; every method can on videos.

        Args:
            method: Name of the method.
            reads: What the method computes from, see `VideoTextMethod.reads`.
            backbone: What the features of the method's backbone depend on, by name.

        Raises:
            ConfigError: If the method cannot; the message says what differs.
        """

    # Where its files are ------------------------------------------------------------------------------------------

    @classmethod
    def find_root(cls, root: str | None) -> Path:
        """Where the dataset is looked for."""
        return Path(root) if root else Path(os.environ.get("VLBENCH_DATA", "data")) / cls.folder

    def folder_of(self, *names: str) -> Path:
        """The first folder below the root that is there, or the first one if none is.

        Args:
            names: Paths below the root that the folder of the videos may have; frames are looked for as
                `frame_folders` says.
        """
        folders, first = (frame_folders(names), FRAMES) if self.stored == "frames" else (names, names[0])
        return next((self.root / name for name in folders if (self.root / name).is_dir()), self.root / first)

    def files_below(self, folder: Path) -> VideoFiles:
        """The videos below a folder, or the frames of videos.

        Args:
            folder: Folder of the videos.
        """
        return FrameFolders(folder) if self.stored == "frames" else VideoFiles(folder)

    def missing(self, what: Path, role: str = "") -> DataError:
        """The one message about a dataset that is not there.

        Args:
            what: File or folder that is not there.
            role: Clause that says what it is for, where its name does not.
        """
        return DataError(
            f"{self.facts.name}: {what}{role and f', {role},'} does not exist (looked in {self.root.absolute()}); give"
            f" the folder by --data.root DIR, or VLBENCH_DATA=DIR with the dataset in DIR/{self.folder}.\n"
            f"  It comes from {self.facts.source}.\n"
            "  Without it: add --config data/synthetic.yaml --config backbone/tiny.yaml --config trainer/cpu.yaml"
        )

    @cached_property
    def listed_classes(self) -> ListedClasses | None:
        """Classes that the dataset is restricted to; `None` for all of them.

        Raises:
            ConfigError: If the list names another class, a class twice or none.
            DataError: If the list, or the names of the dataset's classes, cannot be read.
        """
        return None if self.class_list is None else ListedClasses(self.class_list, self.spec)

    def _each_with_its_file(self, items: list[VideoItem]) -> list[VideoItem]:
        if self.stored == "frames":
            refuse_shared_frames(items)
        return items

    @cached_property
    def _files(self) -> VideoFiles:
        return self.files_below(self.video_folder)

    def _item(self, name: str, label: int) -> VideoItem:
        video_id = self.video_id(name, label)
        official = str(PurePosixPath(video_id).with_name(PurePosixPath(name).name))
        return VideoItem(self._files.locate(official, self.video_stems(name)), label, video_id)
