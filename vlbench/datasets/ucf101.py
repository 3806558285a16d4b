"""UCF-101."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

from typing_extensions import override

from vlbench.datasets.descriptions import ShippedDescriptions
from vlbench.datasets.lists.annotations import ItemList, labels_by_name, named_label
from vlbench.datasets.lists.text import lines_of
from vlbench.datasets.mmaction import MMActionDataset
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.datasets.ucf101_names import OFFICIAL_NAMES, WORDS, class_of_video, official_name
from vlbench.errors import DataError

# The half that the field trains on: more videos than the other, counted from 0 in the order of classInd.txt.
_BASE = (
    0, 2, 3, 5, 6, 7, 8, 9, 10, 11, 15, 16, 17, 19, 21, 22, 23, 25, 26, 31, 32, 33, 34, 35, 36, 38, 41, 43, 47, 48, 55,
    58, 59, 60, 61, 62, 64, 67, 70, 73, 75, 77, 78, 80, 83, 84, 89, 91, 94, 98, 99,
)  # fmt: skip


class UCF101(MMActionDataset):
    """UCF-101: 13,320 videos of 101 actions, three official splits.

    Below `root`: `UCF-101/<class>/<video>.avi` (or `videos/` for `UCF-101/`) and the lists
    `ucfTrainTestlist/{train,test}list0{1,2,3}.txt`, as the official archives unpack. Variants: `words` ("Apply Eye
    Makeup") and `camel` ("ApplyEyeMakeup"), which differ as text.
    """

    folder: ClassVar[str] = "ucf101"
    variants: ClassVar[tuple[str, ...]] = ("words", "camel")
    mmaction: ClassVar[str] = "ucf101_{part}_split_{split}"
    class_folders: ClassVar[Mapping[str, int]] = {name: label for label, name in enumerate(OFFICIAL_NAMES)}

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        names = WORDS if self.variant == "words" else OFFICIAL_NAMES
        return DatasetSpec(
            name="ucf101",
            class_names=names,
            base_classes=_BASE,
            splits=3,
            lists="ucf",
            counts={
                ("train", 1): 9537,
                ("train", 2): 9586,
                ("train", 3): 9624,
                ("test", 1): 3783,
                ("test", 2): 3734,
                ("test", 3): 3696,
            },
            descriptions=ShippedDescriptions(names, ((self.folder, names),)),
            licence="research use; the videos come from YouTube and belong to their uploaders",
            source="https://www.crcv.ucf.edu/data/UCF101.php (UCF101.rar, UCF101TrainTestSplits-RecognitionTask.zip)",
        )

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        listed = self.mmaction_items(part, split)
        if listed is not None:
            return listed
        annotations = self.official_list(part, split)
        for needed in (self.video_folder, annotations):
            if not needed.exists():
                raise self.missing(needed)
        return read_ucf_list(annotations, self.video_folder, OFFICIAL_NAMES)

    @override
    def official_list(self, part: Part, split: int) -> Path:
        return self.root / "ucfTrainTestlist" / f"{part}list0{split}.txt"

    @override
    def official_id(self, stem: str, label: int) -> str:
        return f"{OFFICIAL_NAMES[label]}/{stem}.avi"

    @property
    @override
    def video_folder(self) -> Path:
        return self.folder_of("UCF-101", "videos")

    @override
    def video_id(self, name: str, label: int) -> str:
        return f"{OFFICIAL_NAMES[label]}/{PurePosixPath(name).name}"

    @override
    def label_of(self, name: str) -> int | None:
        stated = class_of_video(name)
        return OFFICIAL_NAMES.index(stated) if stated in OFFICIAL_NAMES else None


def read_ucf_list(list_file: str | Path, root: str | Path, class_index: Sequence[str]) -> list[VideoItem]:
    """Read UCF-101's `trainlist0x.txt` (`Class/video.avi 1`, counted from 1) or `testlist0x.txt` (no numbers).

    The label is the folder's place in `class_index`. The number and the file name have to agree with the folder.

    Args:
        list_file: One of the official lists.
        root: Folder of the class folders.
        class_index: Class names in the order of `classInd.txt`.

    Raises:
        DataError: If the list is missing or empty, a line has another shape, its folder is no class, its number or its
            file name names another class than the folder does, or a video was listed before.
    """
    by_name = labels_by_name(class_index)
    listed = ItemList(root)
    for where, line in lines_of(Path(list_file)):
        path, *number = line.split()
        parts = PurePosixPath(path).parts
        if len(parts) != 2 or len(number) > 1:
            raise DataError(f"{where}: {line!r}; allowed: 'Class/video.avi 1' or 'Class/video.avi'")
        label = named_label(where, official_name(parts[0]), by_name)
        _check_ucf_line(where, path, number, label, class_index)
        listed.add(where, path, label)
    return listed.finish(list_file)


def _check_ucf_line(where: str, path: str, number: list[str], label: int, class_index: Sequence[str]) -> None:
    """The number, where there is one, and the class in the file name have to say what the folder says."""
    if number and number[0] != str(label + 1):
        raise DataError(
            f"{where}: {path!r} has class number {number[0]!r}; allowed: {label + 1} ({class_index[label]}), because"
            " the official lists count from 1 in the order of classInd.txt; read other lists with read_path_label"
        )
    in_name = class_of_video(path)
    if in_name not in (None, class_index[label]):
        raise DataError(
            f"{where}: {path!r} is a video of {in_name} in the folder of {class_index[label]}; move it or fetch the"
            " official list again"
        )
