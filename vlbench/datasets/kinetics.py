"""Kinetics-400, Kinetics-600 and Kinetics-700.

All are released as lists of YouTube clips, of which fewer are online every year. Copies of the videos differ in what
they still have and in how the files are named; the readers here take every usual naming.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.descriptions import ShippedDescriptions
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.lists.published import PublishedList, check_names
from vlbench.datasets.lists.text import NamedColumns
from vlbench.datasets.named_by_file import NamedByFile
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import DataError

_CLASSES = Path(__file__).parent / "assets" / "classes"
_COLUMNS = (("label",), ("youtube_id",), ("time_start",), ("time_end",))
_FOLDERS = ("train", "val", "test")
_TIMES = re.compile(r"_\d{6}_\d{6}$")
_LICENCE = "annotations CC BY 4.0; the videos come from YouTube and belong to their uploaders"
_SOURCE = "https://github.com/cvdfoundation/kinetics-dataset"

# The half of Kinetics-400 that the field trains on in base-to-novel experiments.
_BASE = (
    0, 1, 5, 6, 11, 12, 14, 16, 18, 19, 22, 24, 27, 29, 31, 34, 36, 37, 40, 41, 42, 43, 48, 49, 50, 55, 56, 59, 60, 68,
    69, 70, 75, 77, 78, 79, 80, 83, 84, 86, 87, 88, 93, 97, 99, 103, 104, 107, 108, 109, 115, 116, 123, 124, 125, 126,
    127, 130, 132, 133, 134, 139, 140, 142, 143, 147, 148, 149, 151, 152, 153, 159, 161, 162, 164, 166, 167, 169, 172,
    174, 177, 180, 182, 183, 188, 189, 192, 193, 197, 199, 201, 204, 205, 206, 208, 209, 212, 213, 214, 217, 218, 219,
    220, 221, 223, 224, 225, 227, 229, 230, 232, 233, 234, 235, 240, 242, 243, 244, 245, 246, 247, 248, 249, 250, 251,
    252, 253, 254, 255, 256, 258, 261, 262, 264, 269, 273, 275, 277, 278, 280, 282, 283, 285, 286, 289, 291, 292, 294,
    298, 299, 301, 302, 304, 305, 306, 307, 308, 313, 315, 316, 317, 318, 321, 322, 323, 325, 326, 327, 330, 331, 334,
    336, 337, 339, 340, 346, 348, 349, 350, 356, 358, 360, 364, 365, 367, 369, 371, 373, 378, 379, 380, 382, 387, 389,
    390, 391, 393, 394, 398, 399,
)  # fmt: skip

_LISTS = {
    "vifi": "https://github.com/muzairkhattak/ViFi-CLIP, datasets_splits/k600_splits",
    "mote": "https://github.com/ZMHH-H/MoTE, lists/k600_test",
    "open-vclip": "https://github.com/wengzejia1/Open-VCLIP, zs_label_db/k600_split*/val.csv with spaces for commas",
}
"""Where the lists of each zero-shot test set of Kinetics-600 come from."""


class _Kinetics(VideoDataset):
    """Reads the released CSV files and finds their clips; `Kinetics400` says how the folder is laid out."""

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        folder = "val" if part == "test" else part
        annotations, videos = self._annotations(folder), self.folder_of(folder)
        for needed in (annotations, videos):
            if not needed.exists():
                raise self.missing(needed)
        files = self.files_below(videos)
        return [
            VideoItem(files.locate(f"{clip}.mp4", (clip, youtube_id)), label, f"{folder}/{clip}")
            for clip, youtube_id, label in _clips(annotations, self.spec.class_names)
        ]

    def _annotations(self, folder: str) -> Path:
        """The released list of the videos in a folder."""
        listed = self.root / "annotations" / f"{folder}.csv"
        # In the original archives the validation list has another name than in the copies that are around.
        original = listed.with_name("validate.csv")
        return original if folder == "val" and original.is_file() and not listed.is_file() else listed

    @override
    def video_id(self, name: str, label: int) -> str:
        folder, clip = PurePosixPath(name).parts[0], PurePosixPath(name).stem
        return f"{folder}/{clip}" if folder in _FOLDERS else clip

    @override
    def video_stems(self, name: str) -> tuple[str, ...]:
        clip = PurePosixPath(name).stem
        return clip, _TIMES.sub("", clip)

    @override
    def label_of(self, name: str) -> int | None:
        folder = PurePosixPath(name).parent.name.replace("_", " ")
        return self._labels_by_name.get(folder)

    @cached_property
    def _labels_by_name(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.spec.class_names)}


class Kinetics400(_Kinetics):
    """Kinetics-400: 400 actions; as everywhere in the field, the official validation set is the test set.

    Below `root`: `annotations/{train,val}.csv` as released, and the videos below `train/` and `val/`, in class folders
    or not, named `<youtube id>_<start>_<end>` (seconds, six digits each) or `<youtube id>`. A listed video that is not
    there counts as unreadable: many are no longer online, and a test set that shrinks silently cannot be compared.

    No counts are expected: the lists were released in several revisions. The field's list has 19,877 test videos.
    """

    folder: ClassVar[str] = "kinetics400"
    variants: ClassVar[tuple[str, ...]] = ("kinetics400",)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        names = _class_names(self.folder)
        return DatasetSpec(
            name="kinetics400",
            class_names=names,
            base_classes=_BASE,
            lists="k400",
            about={"train": 240_000, "test": 19_900},
            descriptions=ShippedDescriptions(names, ((self.folder, names),)),
            licence=_LICENCE,
            source=_SOURCE,
        )


class Kinetics600(_Kinetics):
    """Kinetics-600: 600 actions, and the three test sets that all go by "K600 zero-shot".

    Variant `k600`: all classes, laid out like `Kinetics400`.

    Variants `vifi`, `mote`, `open-vclip`: 160 classes that Kinetics-400 does not have, in three draws, the splits 1 to
    3. The classes of a split are the same in all three variants, the videos are not, so accuracies do not compare:

    - `vifi`: ViFi-CLIP's lists, also OST's and TC-CLIP's: 14,084, 13,978 and 14,136 videos, from the official training,
      validation and test videos;
    - `mote`: MoTE's lists, about 14,900 videos a split;
    - `open-vclip`: Open-VCLIP's lists, also FROSTER's: about 7,300 videos a split, from the validation videos.

    They have a test part only. Its lists are not shipped: `zero_shot/<variant>/split{1,2,3}.txt` below `root`, with
    lines `name label` whose labels count within the split's classes in alphabetical order; ViFi-CLIP's are read, and
    verified, where `splits_dir` has them. The videos are found by name anywhere below `root`.
    """

    folder: ClassVar[str] = "kinetics600"
    variants: ClassVar[tuple[str, ...]] = ("k600", *_LISTS)

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        names, earlier = _class_names(self.folder), _class_names(Kinetics400.folder)
        known = frozenset(earlier)
        added = tuple(name for name in names if name not in known)
        whole = DatasetSpec(
            name="k600",
            class_names=names,
            descriptions=ShippedDescriptions(names, ((Kinetics400.folder, earlier), (self.folder, added))),
            licence=_LICENCE,
            source=_SOURCE,
        )
        return whole if self.variant == "k600" else _zero_shot(whole, self.variant)

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if self.variant == "k600":
            return super().items(part, split)
        if part != "test":
            return []
        path = self.root / "zero_shot" / self.variant / f"split{split}.txt"
        if not path.is_file():
            raise self.missing(path)
        labels = self.spec.split_classes[split]
        listed = read_path_label(path, self.root, class_names=[self.spec.class_names[label] for label in labels])
        items = tuple(item.relabelled(labels[item.label]) for item in listed)
        check_names(PublishedList(str(path), items), self.label_of, self.spec.class_names)
        return [self._item(item.id, item.label) for item in items]


class Kinetics700(NamedByFile, _Kinetics):
    """Kinetics-700: 700 actions; as everywhere in the field, the official validation set is the test set.

    Laid out like `Kinetics400`. Class names are those of the released validation list, in alphabetical order, or those
    of the training list where there is no validation list. Variants: `k700`, the edition of 2019, and `k700-2020`,
    which has the same classes and other lists of videos; each belongs into a root of its own.

    No counts are expected, as for Kinetics-400.
    """

    folder: ClassVar[str] = "kinetics700"
    variants: ClassVar[tuple[str, ...]] = ("k700", "k700-2020")

    @property
    @override
    def facts(self) -> DatasetSpec:
        return DatasetSpec(
            name="k700",
            class_names=(),
            class_count=700,
            names_file="annotations/val.csv",
            licence=_LICENCE,
            source=_SOURCE,
        )

    @property
    @override
    def names_path(self) -> Path:
        test, train = self._annotations("val"), self._annotations("train")
        return train if train.is_file() and not test.is_file() else test

    @override
    def read_names(self, path: Path) -> list[str]:
        return sorted({name for _, (name,) in NamedColumns(path).rows(_COLUMNS[0])})


def _class_names(dataset: str) -> tuple[str, ...]:
    return tuple((_CLASSES / f"{dataset}.txt").read_text().splitlines())


def _zero_shot(whole: DatasetSpec, variant: str) -> DatasetSpec:
    unseen = json.loads((_CLASSES / "kinetics600_unseen.json").read_text())
    known = variant == "vifi"
    return replace(
        whole,
        splits=len(unseen),
        split_classes={int(split): tuple(labels) for split, labels in unseen.items()},
        lists="k600" if known else "",
        counts={("test", 1): 14_084, ("test", 2): 13_978, ("test", 3): 14_136} if known else None,
        about={"test": {"vifi": 14_100, "mote": 14_900, "open-vclip": 7_300}[variant]},
        source=f"{_SOURCE}; the lists: {_LISTS[variant]}",
    )


def _clips(annotations: Path, class_names: tuple[str, ...]) -> Iterator[tuple[str, str, int]]:
    """Name, video on YouTube and label of every clip of a released list.

    Raises:
        DataError: If a column or an id is missing, a class is unknown, a time is not a whole second, or a clip comes
            twice.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    seen: set[str] = set()
    for where, (name, youtube, first, last) in NamedColumns(annotations).rows(*_COLUMNS):
        if name not in labels:
            raise DataError(f"{where}: {name!r} is none of the {len(labels)} classes; use the released file")
        if not youtube:
            raise DataError(f"{where}: the clip has no youtube_id; use the released file")
        try:
            clip = f"{youtube}_{int(first):06d}_{int(last):06d}"
        except ValueError as error:
            raise DataError(f"{where}: the times are not whole seconds: {error}; use the released file") from error
        if clip in seen:
            raise DataError(f"{where}: {clip!r} was listed before; a clip may be listed once, remove one of the lines")
        seen.add(clip)
        yield clip, youtube, labels[name]
