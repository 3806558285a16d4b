"""The videos of one dataset that a subset means: of the official lists, of published ones, drawn or held out."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

from vlbench.datasets.described import DescribedDataset
from vlbench.datasets.lists.heldout import hold_out
from vlbench.datasets.lists.overlap import refuse_shared
from vlbench.datasets.lists.published import PublishedLists, check_names
from vlbench.datasets.lists.splits import base_labels, draw_shots, select
from vlbench.datasets.specs import ClassList, DatasetSpec, EvaluationSet, Part, Stored, Subset, VideoItem
from vlbench.errors import ConfigError, DataError
from vlbench.ranges import Range

_Source = Literal["train", "heldout", "validation", "test"]


class _VideoList(NamedTuple):
    """The videos of a configured subset and what records call the list."""

    name: str
    items: list[VideoItem]


class VideoDataset(DescribedDataset):
    """Facts about one dataset, and its videos by part and subset; neither torch nor a Trainer is needed.

    A subclass states the facts (`spec`) and lists the videos (`items`). Where the field's published lists are to be
    read too, it also says how they name its videos.

    Args:
        root: Folder of the dataset, see `find_root`.
        variant: Which of the named variants; `None` means the first one.
        train: What to train on.
        test: What to evaluate on: one subset, or several that are evaluated in one pass, each with its own classes.
        splits_dir: Folder of the field's published lists; `None` uses the official ones.
        heldout: Part of the training videos of each class that is the validation part instead, in [0, 1).
        validate_on_test: Whether the test part also is the validation part, for a selection of the epoch by its videos.
        class_list: File that names the classes that the dataset is restricted to, in training and test, see
            `read_class_names`; `None` for all of them. Labels stay in the dataset's order.
        stored: What a video is on the disk, see `vlbench.datasets.frames`.

    Example:
        >>> from vlbench.datasets import UCF101
        >>> dataset = UCF101(train=Subset(classes="base", shots=16), test=Subset(classes="novel"))
        >>> dataset.label, len(dataset.train_classes.names), len(dataset.test_classes.names)
        ('ucf101/words', 51, 50)

    Raises:
        ConfigError: If there is no such variant, a test subset is given twice or not at all, or `heldout` is out of
            range, or the list of classes is not there.
    """

    def __init__(
        self,
        root: str | None = None,
        variant: str | None = None,
        train: Subset = Subset(),  # noqa: B008 - frozen
        test: Subset | Sequence[Subset] = Subset(),  # noqa: B008 - frozen
        splits_dir: str | None = None,
        heldout: float = 0.0,
        validate_on_test: bool = False,
        class_list: str | None = None,
        stored: Stored = "videos",
    ) -> None:
        super().__init__(root, variant, class_list, stored)
        self.train_subset = train
        self.test_subsets = (test,) if isinstance(test, Subset) else tuple(test)
        keys = [subset.key for subset in self.test_subsets]
        if not keys or len(set(keys)) < len(keys):
            raise ConfigError(f"test is {keys}; allowed: one subset, or several of different classes or splits")
        Range(0, 1, below=True).check("heldout", heldout)
        self.splits_dir = Path(splits_dir) if splits_dir else None
        self.heldout = heldout
        self.validate_on_test = validate_on_test
        self._lists: dict[tuple[_Source, Subset], _VideoList] = {}
        self._whole_lists: dict[tuple[Part, Subset], _VideoList] = {}

    @property
    def train_classes(self) -> ClassList:
        """Classes of the training subset."""
        return self._classes("train", self.train_subset)

    @property
    def test_classes(self) -> ClassList:
        """Classes of the first test subset."""
        return self._classes("test", self.test_subset)

    @property
    def test_subset(self) -> Subset:
        """The first of the test subsets."""
        return self.test_subsets[0]

    def videos(self, part: Part) -> list[VideoItem]:
        """The videos of the configured subset, labelled by their position in its class list.

        Of several test subsets, each video once, labelled in the first subset that has it. A video of a published list
        that is not on disk keeps its official path and counts as unreadable.

        Raises:
            DataError: If lists or videos are missing, or lists contradict themselves, the file names or each other.
            ConfigError: If the dataset has no such split, or the folder of published lists no such list.
        """
        merged: dict[str, VideoItem] = {}
        for source, subset in self._sources(part):
            for item in self._list(source, subset).items:
                merged.setdefault(item.id, item)
        return list(merged.values())

    def sets(self, part: Part) -> list[EvaluationSet]:
        """What an evaluation of a part scores: a set of videos and classes for each subset."""
        return [
            EvaluationSet(
                subset,
                self._classes(source, subset),
                {item.id: item.truth for item in self._list(source, subset).items},
                self._list(source, subset).name,
                self.facts.multi_label,
            )
            for source, subset in self._sources(part)
        ]

    def list_name(self, part: Part) -> str:
        """What records call the list of the configured subset: `vifi/val1 (verified)`, `own/16-shot seed 0`,
        `official/split 1`; see `vlbench.datasets.lists.published.PublishedList` for lists of the field."""
        return ", ".join(self._list(source, subset).name for source, subset in self._sources(part))

    def check(self, part: Part) -> None:
        """Whether a part can be trained on or evaluated.

        Raises:
            DataError: If videos or lists are missing, or training and test lists of one split overlap.
            ConfigError: If the dataset has no such part, or training and test lists of different splits overlap.
        """
        if part == "train" and self.facts.multi_label:
            raise ConfigError(
                f"a video of {self.label} has several labels, and methods train on one label a video: test on it, and"
                " train on another dataset"
            )
        if not self.videos(part):
            hint = "; `vlbench test` evaluates on the test part" if part == "validation" else ""
            raise ConfigError(f"{self.label} has no {part} part{hint}")
        # A test of weights that were trained on nothing or elsewhere trains on no video of this configuration, and a
        # training needs no test videos; whoever records a test compares what the weights were trained on.
        if (part == "train" and self._tested_here()) or (part == "test" and self.train_subset.shots is not None):
            self.check_disjoint()

    def check_disjoint(self) -> None:
        """Whether the training list and the test lists have no video in common.

        Raises:
            ConfigError: If they have, being lists of different splits; names how many.
            DataError: If they have, although both are lists of one split, or a list cannot be read.
        """
        heldout = self.videos("validation") if self.heldout and not self.validate_on_test else []
        self.check_untested(self.list_name("train"), [*self.videos("train"), *heldout], self.train_subset.split)

    def check_untested(self, name: str, items: Sequence[VideoItem], split: int) -> None:
        """Whether the test lists have no video in common with a training list.

        Args:
            name: Name of the training list.
            items: Videos of the training list, those held out included.
            split: Number of the official split that the training list belongs to.

        Raises:
            ConfigError: If they have, being lists of another split; names how many.
            DataError: If they have, although they are lists of one split, or a list cannot be read.
        """
        for subset in self.test_subsets:
            tested = self._list("test", subset)
            refuse_shared(self.spec.name, (name, items, split), (*tested, subset.split), self.video_key)

    def training_list(self, subset: Subset, heldout: float = 0.0) -> tuple[str, list[VideoItem]]:
        """Name of a training list, and its videos, those held out included.

        Args:
            subset: Subset of the training part.
            heldout: Part of the videos that is held out, in [0, 1), for the name.

        Raises:
            DataError: If lists or videos are missing.
            ConfigError: If the dataset has no such split, or the folder of published lists no such list.
        """
        name, items = self._whole("train", subset)
        return (_held_out_name(name, heldout) if heldout else name), list(items)

    def with_all_classes(self) -> Self:
        """The same dataset without a list of classes, for the videos that other weights were trained on."""
        if self.class_list is None:
            return self
        other = copy(self)
        other.class_list = None
        other._lists, other._whole_lists = {}, {}
        vars(other).pop("listed_classes", None)
        return other

    def with_training(self, subset: Subset) -> Self:
        """The same dataset with another training subset; the lists that were read before are not read again.

        Args:
            subset: Subset of the training part.
        """
        other = copy(self)
        other.train_subset = subset
        other._lists, other._whole_lists = dict(self._lists), dict(self._whole_lists)
        return other

    def _tested_here(self) -> bool:
        """Whether the test lists and their videos are on this machine."""
        try:
            self.videos("test")
        except DataError:
            return False
        return True

    def _sources(self, part: Part) -> list[tuple[_Source, Subset]]:
        """The lists that make up a part."""
        if part == "train":
            return [("train", self.train_subset)]
        if part == "test" or self.validate_on_test:
            return [("test", subset) for subset in self.test_subsets]
        return [("heldout", self.train_subset) if self.heldout else ("validation", self.test_subset)]

    def _classes(self, part: _Source, subset: Subset) -> ClassList:
        spec = self._halved(subset)
        labels = self._labels(part, subset)
        names = tuple(spec.class_names[label] for label in labels)
        return ClassList(names, labels, spec.class_names, spec.descriptions)

    def _labels(self, part: _Source, subset: Subset) -> tuple[int, ...]:
        if self.facts.multi_label and (subset.classes != "all" or self.class_list is not None):
            raise ConfigError(
                f"classes of {self.label} are {self.class_list or subset.classes}, and a video has several: average"
                " precision over some of them is of other videos; leave data.class_list out and set classes: all"
            )
        labels = self._halved(subset).labels(subset.classes, subset.split if part in ("validation", "test") else None)
        return labels if self.listed_classes is None else self.listed_classes.among(labels, subset)

    def _halved(self, subset: Subset) -> DatasetSpec:
        """The specification, with a base half where the subset needs one and the dataset does not state it."""
        spec = self.spec
        if subset.classes == "all" or spec.base_classes:
            return spec
        return replace(spec, base_classes=self._frequent_half)

    @cached_property
    def _frequent_half(self) -> tuple[int, ...]:
        """The classes with the most training videos in the first split."""
        return base_labels(self.items("train", 1), len(self.spec.class_names))

    def _list(self, part: _Source, subset: Subset) -> _VideoList:
        if (part, subset) not in self._lists:
            if subset.split > self.spec.splits:
                raise ConfigError(f"{self.spec.name} has {self.spec.splits} official splits; split is {subset.split}")
            if part == "heldout" or (part == "train" and self.heldout):
                self._hold_out(subset)
            else:
                self._lists[part, subset] = self._whole(part, subset)
        return self._lists[part, subset]

    def _whole(self, part: Part, subset: Subset) -> _VideoList:
        """The list of a subset, those held out included."""
        if (part, subset) not in self._whole_lists:
            listed = self._published(part, subset) or self._official(part, subset)
            if self.listed_classes is not None:
                listed = listed._replace(name=_noted(listed.name, self.listed_classes.note))
            self._whole_lists[part, subset] = listed
        return self._whole_lists[part, subset]

    def _hold_out(self, subset: Subset) -> None:
        name, items = self._whole("train", subset)
        training, heldout = hold_out(items, self.heldout, subset.seed, self.train_classes.names)
        self._lists["train", subset] = _VideoList(_held_out_name(name, self.heldout), training)
        self._lists["heldout", subset] = _VideoList(_held_out_name(name, self.heldout, "the "), heldout)

    def _official(self, part: Part, subset: Subset) -> _VideoList:
        items = select(self.listed(part, subset.split), self._labels(part, subset))
        lineage = self.lineage(part, subset.split)
        if part != "train" or subset.shots is None:
            return _VideoList(f"{lineage}/split {subset.split}", items)
        drawn = draw_shots(items, subset.shots, subset.seed, class_names=self._classes(part, subset).names)
        drawn_from = "own" if lineage == "official" else f"own of {lineage}"
        return _VideoList(f"{drawn_from}/{subset.shots}-shot seed {subset.seed}", drawn)

    def _published(self, part: Part, subset: Subset) -> _VideoList | None:
        if self._published_lists is None or part == "validation":
            return None
        path = self._published_lists.find(part, subset)
        if path is None:
            return None
        if not self.video_folder.is_dir():
            raise self.missing(self.video_folder)
        listed = self._published_lists.read(path, part, subset)
        check_names(listed, self.label_of, self.spec.class_names)
        items = self._each_with_its_file([self._item(item.id, item.label) for item in listed.items])
        return _VideoList(listed.name, select(items, self._labels(part, subset)))

    @cached_property
    def _published_lists(self) -> PublishedLists | None:
        return PublishedLists(self.splits_dir, self.spec) if self.splits_dir else None


def _held_out_name(name: str, share: float, article: str = "") -> str:
    """Name of a list of which a part is held out, or of that part."""
    return _noted(name, f"{article}{share:g} held out")


def _noted(name: str, note: str) -> str:
    """Name of a part of a list; results are neither averaged nor ranked with those of the whole list."""
    lineage, *rest = name.split("/", 1)
    return "/".join([f"{lineage}, {note}", *rest])
