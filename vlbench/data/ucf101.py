"""UCF-101."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from typing_extensions import override

from vlbench.data.annotations import read_ucf_list
from vlbench.data.datamodule import Part, VideoDataModule
from vlbench.data.descriptions import SHIPPED, read_descriptions
from vlbench.data.specs import DatasetSpec, VideoItem
from vlbench.data.ucf101_names import OFFICIAL_NAMES, WORDS


class UCF101(VideoDataModule):
    """UCF-101: 13,320 videos of 101 actions, three official splits.

    Below `root`: `UCF-101/<class>/<video>.avi` and `ucfTrainTestlist/{train,test}list0{1,2,3}.txt`, as the official
    archives unpack. Variants: `words` ("Apply Eye Makeup") and `camel` ("ApplyEyeMakeup"), which differ as text.
    """

    folder: ClassVar[str] = "ucf101"
    variants: ClassVar[tuple[str, ...]] = ("words", "camel")

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        names = WORDS if self.variant == "words" else OFFICIAL_NAMES
        return DatasetSpec(
            name="ucf101",
            class_names=names,
            splits=3,
            counts={("test", 1): 3783, ("test", 2): 3734, ("test", 3): 3696},
            descriptions=read_descriptions(SHIPPED / self.folder, names),
            licence="research use; the videos come from YouTube and belong to their uploaders",
            source="https://www.crcv.ucf.edu/data/UCF101.php (UCF101.rar, UCF101TrainTestSplits-RecognitionTask.zip)",
        )

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        if part == "validation":
            return []
        videos = self.root / "UCF-101"
        annotations = self.root / "ucfTrainTestlist" / f"{part}list0{split}.txt"
        for needed in (videos, annotations):
            if not needed.exists():
                raise self.missing(needed)
        return read_ucf_list(annotations, videos, OFFICIAL_NAMES)
