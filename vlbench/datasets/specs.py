"""What the data side and everything above it agree on: videos, subsets, dataset specifications.

Imports neither torch nor a decoder, so that plans and `--help` stay cheap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from vlbench.errors import ConfigError
from vlbench.names import name_bytes
from vlbench.ranges import COUNTS, SEEDS, Range

if TYPE_CHECKING:
    from vlbench.datasets.descriptions import Descriptions, ShippedDescriptions

ClassSet = Literal["all", "base", "novel"]
Part = Literal["train", "validation", "test"]
Stored = Literal["videos", "frames"]
"""What a video is on the disk: a video file, or a picture for each of its frames, see `vlbench.datasets.frames`."""
Selection = Literal["last", "heldout", "best_on_test"]
"""Which epoch of a training is tested: the last one, or the best on held-out training videos or on the test videos."""

Truth = int | tuple[int, ...]
"""What is right for a video: the position of its class, or those of all its classes, ascending, where a video may have
several or none."""


VIDEO_EXTENSIONS: tuple[str, ...] = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""What counts as a video in a class-folder tree; upper case counts too."""


class VideoItem(NamedTuple):
    """One labelled video.

    Attributes:
        path: Path of the video file, or of the video's frames: a folder, a tar, or a folder in a tar.
        label: Index into the class names of the whole dataset, `0 <= label < num_classes`.
        id: Name of the video inside its dataset; unique, stable across machines (usually the path below the root).
        span: Start and end in seconds of the part of the file that is meant, counted from its first frame; `None` for
            all of it.
        labels: Every label of the video, ascending, where a video of the dataset may have several or none; `label` is
            the first one then. `None` where each video has one.
        frames: Number of frames that a list states; a video with another number cannot be read.
    """

    path: Path
    label: int
    id: str
    span: tuple[float, float] | None = None
    labels: tuple[int, ...] | None = None
    frames: int | None = None

    @property
    def truth(self) -> Truth:
        """The label, or all labels where there may be several."""
        return self.label if self.labels is None else self.labels

    def relabelled(self, label: int) -> VideoItem:
        """The same video under another label."""
        return self if label == self.label else self._replace(label=label)


@dataclass(frozen=True)
class Subset:
    """Which part of a dataset is meant; it knows nothing of protocols.

    Attributes:
        classes: Every class, the base half or the novel half.
        shots: Videos per class, `None` for all of them.
        split: Number of the official split, counted from 1.
        seed: Seed of the draw when `shots` is set.

    Example:
        >>> few_shot = Subset(shots=16, seed=1)
        >>> few_shot.with_(classes="base").key
        'base-split1'
    """

    classes: ClassSet = "all"
    shots: int | None = None
    split: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classes not in ("all", "base", "novel"):
            raise ConfigError(f"Subset.classes is {self.classes!r}; allowed: all, base, novel")
        COUNTS.check("Subset.shots", self.shots, "all videos")
        Range(1, 1_000).check("Subset.split", self.split)
        SEEDS.check("Subset.seed", self.seed)

    @property
    def key(self) -> str:
        """Tells test subsets of one dataset apart in file names: `novel-split1`."""
        return f"{self.classes}-split{self.split}"

    def with_(self, **changes: object) -> Subset:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ClassList:
    """The classes of one side of an experiment, in the order of its labels.

    Attributes:
        names: Class texts; batch label k means `names[k]`.
        labels: Labels of the classes in the whole dataset.
        all_names: The class texts of the whole dataset.
        descriptions: Sentences on every class of the dataset, where it ships them; `read` gives them.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    all_names: tuple[str, ...]
    descriptions: Descriptions | ShippedDescriptions | None = None


class EvaluationSet(NamedTuple):
    """Videos that are scored against one list of classes.

    Attributes:
        subset: Which part of the dataset it is.
        classes: What the videos are scored against.
        labels: Id of each video -> position of its class in `classes`, or positions of all its classes.
        list_name: What records call the list of videos.
        multi_label: Whether a video may have several classes or none.
    """

    subset: Subset
    classes: ClassList
    labels: Mapping[str, Truth]
    list_name: str
    multi_label: bool = False


@dataclass(frozen=True)
class DatasetSpec:
    """Facts about a dataset that do not depend on where it lies.

    Attributes:
        name: Identifier in configs, records and the leaderboard.
        class_names: Class texts in label order, as they enter the prompts.
        base_classes: Labels of the base half, ascending; empty where the training list decides: the more frequent half.
        directional: Whether a mirrored video can change its class; the horizontal flip is then left out of training.
        splits: Number of official splits.
        split_classes: Labels of the classes that a test split holds, ascending, by the split's number; a split that is
            not named holds all.
        lists: What the field's published lists call the dataset; empty where there are none.
        counts: Expected videos as `{(part, split): count}`, where known.
        about: Rough number of videos of a part whose lists differ from place to place, for estimates of cost.
        descriptions: Sentences on every class, where they ship with vlbench; `read` gives them.
        licence: One line on the terms of use.
        source: Place that the official files come from.
        class_count: Number of classes, where their names are read from a file of the dataset.
        multi_label: Whether a video may have several labels or none; such a dataset is evaluated by mean average
            precision and not trained on.
        names_file: File of the dataset, below its root, that the class names are read from; empty where they are known
            without.

    Example:
        >>> spec = DatasetSpec("kitchen", ("cut", "stir", "pour"), base_classes=(0, 2))
        >>> spec.labels("novel")
        (1,)
    """

    name: str
    class_names: tuple[str, ...]
    base_classes: tuple[int, ...] = ()
    directional: bool = False
    splits: int = 1
    split_classes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    lists: str = ""
    counts: dict[tuple[str, int], int] | None = None
    about: Mapping[str, int] = field(default_factory=dict)
    descriptions: Descriptions | ShippedDescriptions | None = None
    licence: str = ""
    source: str = ""
    class_count: int | None = None
    names_file: str = ""
    multi_label: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes, also where their names are not read yet."""
        return len(self.class_names) or self.class_count or 0

    def labels(self, classes: ClassSet, test_split: int | None = None) -> tuple[int, ...]:
        """Labels of a class set, ascending.

        Args:
            classes: Class set whose labels are returned.
            test_split: Keeps the classes of this test split only.

        Raises:
            ConfigError: If one half is asked for and the dataset defines none.
        """
        everything = tuple(range(self.num_classes))
        of_split = everything if test_split is None else self.split_classes.get(test_split, everything)
        if classes == "all":
            return of_split
        if not self.base_classes:
            raise ConfigError(f"{self.name} defines no base and novel classes; use classes: all")
        base = frozenset(self.base_classes)
        return tuple(label for label in of_split if (label in base) == (classes == "base"))


def collection(dataset: str) -> str:
    """The name of a dataset without the variant of its class names, `ucf101` of `ucf101/words`.

    Args:
        dataset: Name of the dataset with its variant, as facts and records have it.
    """
    return dataset.partition("/")[0]


def content_digest(lines: Iterable[str]) -> str:
    """Sixteen hexadecimal characters that differ between sequences of lines, such as names of classes and of videos."""
    return hashlib.blake2b(name_bytes("\n".join(lines)), digest_size=8).hexdigest()
