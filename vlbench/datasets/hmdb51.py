"""HMDB-51."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from typing_extensions import override

from vlbench.datasets.descriptions import ShippedDescriptions
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.mmaction import MMActionDataset
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.errors import DataError

# fmt: off
CLASS_FOLDERS: tuple[str, ...] = (
    "brush_hair", "cartwheel", "catch", "chew", "clap", "climb", "climb_stairs", "dive", "draw_sword", "dribble",
    "drink", "eat", "fall_floor", "fencing", "flic_flac", "golf", "handstand", "hit", "hug", "jump",
    "kick", "kick_ball", "kiss", "laugh", "pick", "pour", "pullup", "punch", "push", "pushup",
    "ride_bike", "ride_horse", "run", "shake_hands", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "situp", "smile",
    "smoke", "somersault", "stand", "swing_baseball", "sword", "sword_exercise", "talk", "throw", "turn", "walk",
    "wave",
)
# fmt: on
"""Official folder names in alphabetical order, ten a line; a class's label is its place."""

OFFICIAL_NAMES: tuple[str, ...] = tuple(folder.replace("_", " ") for folder in CLASS_FOLDERS)
"""The folder names with spaces, in label order."""

_SWAPPED = {"kick": "kick ball", "kick ball": "kick", "sword": "sword exercise", "sword exercise": "sword"}

LEGACY_NAMES: tuple[str, ...] = tuple(_SWAPPED.get(name, name) for name in OFFICIAL_NAMES)
"""The names of the widely copied label file: labels 20 and 21 and labels 44 and 45 carry each other's names."""

Used = Literal["train", "test"]

_USES: tuple[str, ...] = ("unused", "train", "test")  # what the numbers in the annotation files stand for
_VIDEOS_PER_CLASS: dict[Used, int] = {"train": 70, "test": 30}
# Files are called <title>_<class>_<visible body>_<camera>_<people>_<viewpoint>_<quality>_<number>.avi
_TAGGED = re.compile(r"(?P<title_and_class>.+)_[fhlu]_[cn]m_np\d+_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+\.avi")


class HMDB51(MMActionDataset):
    """HMDB-51: 6,766 videos of 51 actions from films and the web, three official splits of 70 + 30 videos a class.

    Below `root`: `hmdb51_org/<class>/<video>.avi` (or `videos/<class>/<video>.avi`) and
    `testTrainMulti_7030_splits/<class>_test_split{1,2,3}.txt`, as the official archives unpack.

    Variants: `hmdb51`, the official names; `legacy-names`, to compare with papers, the names of a widely copied label
    file that swaps "kick" with "kick ball" and "sword" with "sword exercise". Descriptions go with the names.
    """

    folder: ClassVar[str] = "hmdb51"
    variants: ClassVar[tuple[str, ...]] = ("hmdb51", "legacy-names")
    mmaction: ClassVar[str] = "hmdb51_{part}_split_{split}"
    class_folders: ClassVar[Mapping[str, int]] = {name: label for label, name in enumerate(CLASS_FOLDERS)}

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        names = LEGACY_NAMES if self.variant == "legacy-names" else OFFICIAL_NAMES
        classes = len(CLASS_FOLDERS)
        return DatasetSpec(
            name="hmdb51",
            class_names=names,
            # the half that published base-to-novel lists train on: from "pour" on
            base_classes=tuple(range(CLASS_FOLDERS.index("pour"), classes)),
            splits=3,
            lists="hmdb",
            counts={(part, split): classes * n for part, n in _VIDEOS_PER_CLASS.items() for split in (1, 2, 3)},
            descriptions=ShippedDescriptions(names, ((self.folder, OFFICIAL_NAMES),)),
            licence="CC BY 4.0; the videos come from films and the web and belong to their owners",
            source="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/"
            " (hmdb51_org.rar, test_train_splits.rar)",
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
            if not needed.is_dir():
                raise self.missing(needed)
        return read_hmdb_split(annotations, self.video_folder, part, split)

    @override
    def official_list(self, part: Part, split: int) -> Path:
        return self.root / "testTrainMulti_7030_splits"

    @override
    def official_id(self, stem: str, label: int) -> str:
        return f"{CLASS_FOLDERS[label]}/{stem}.avi"

    @property
    @override
    def video_folder(self) -> Path:
        return self.folder_of("hmdb51_org", "videos")

    @override
    def video_id(self, name: str, label: int) -> str:
        return f"{CLASS_FOLDERS[label]}/{PurePosixPath(name).name}"

    @override
    def label_of(self, name: str) -> int | None:
        tagged = _TAGGED.fullmatch(PurePosixPath(name).name)
        # The longest: "draw_sword" and not "sword".
        stated = max((c for c in CLASS_FOLDERS if tagged and _ends_with(tagged, c)), key=len, default=None)
        return None if stated is None else CLASS_FOLDERS.index(stated)


def read_hmdb_split(folder: str | Path, root: str | Path, part: Used, split: int) -> list[VideoItem]:
    """Read the 51 files `<class>_test_split<split>.txt` of lines `video.avi use`; use is 0 (none), 1 (train), 2 (test).

    Args:
        folder: Folder of the 51 list files.
        root: Folder of the class folders; `VideoItem.id` is `<class>/<video>.avi`.
        part: Which of the videos to return.
        split: Number of the official split, 1 to 3.

    Returns:
        The videos class by class, in the order of the files.

    Raises:
        DataError: If a class's file is missing or empty, a line has another shape, lists a video again or names
            another class than the file does, or a class has not 70 training and 30 test videos.
    """
    return [
        item
        for label, name in enumerate(CLASS_FOLDERS)
        for item in _class_items(Path(folder) / f"{name}_test_split{split}.txt", Path(root), label, part)
    ]


def _class_items(annotations: Path, root: Path, label: int, part: Used) -> Iterator[VideoItem]:
    name = CLASS_FOLDERS[label]
    listed = read_path_label(annotations, root / name, class_names=_USES)
    for used, expected in _VIDEOS_PER_CLASS.items():
        count = sum(_USES[item.label] == used for item in listed)
        if count != expected:
            raise DataError(
                f"{annotations} lists {count} {used} videos; allowed: {expected}, as in every class and split; fetch"
                " the official file again"
            )
    for item in listed:
        _check_name(annotations, item.id, name)
        if _USES[item.label] == part:
            yield VideoItem(item.path, label, f"{name}/{item.id}")


def _check_name(annotations: Path, video: str, class_folder: str) -> None:
    """The class in the video's name, where there is one, has to be the class in the list's name."""
    if "/" in video:
        raise DataError(f"{annotations}: {video!r} has a folder; allowed: the name of a video in {class_folder}/")
    tagged = _TAGGED.fullmatch(video)
    # The title may end in any word, so what comes before the tags can only be compared from behind.
    if tagged and not _ends_with(tagged, class_folder):
        raise DataError(
            f"{annotations}: {video!r} is a video of another class than {class_folder}; fetch the official file again"
        )


def _ends_with(tagged: re.Match[str], class_folder: str) -> bool:
    return f"_{tagged['title_and_class']}".endswith(f"_{class_folder}")
