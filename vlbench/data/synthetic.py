"""The synthetic dataset, read from rendered files like any other."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from typing_extensions import override

from vlbench.data.annotations import read_path_label
from vlbench.data.datamodule import Part, VideoDataModule
from vlbench.data.descriptions import Descriptions
from vlbench.data.specs import DatasetSpec, VideoItem
from vlbench.synthetic import classes
from vlbench.synthetic.generate import is_complete, render_dataset


class SyntheticActions(VideoDataModule):
    """Coloured shapes that move; the videos are rendered on first use.

    Variants: `shapes-s`, 16 classes where the order of the frames decides; `shapes-k`, 24 mixed classes; `shapes-u`,
    16 classes told apart by their objects. No set shares an object with another.
    """

    folder: ClassVar[str] = "synthetic"
    variants: ClassVar[tuple[str, ...]] = ("shapes-s", "shapes-k", "shapes-u")

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        members = classes.SETS[self.variant]
        return DatasetSpec(
            name=self.variant,
            class_names=tuple(member.name for member in members),
            base_classes=classes.base_labels(self.variant),
            directional=True,
            descriptions=Descriptions(
                spatial=tuple(classes.spatial_descriptions(member) for member in members),
                temporal=tuple(classes.temporal_descriptions(member) for member in members),
            ),
            licence="Apache-2.0",
            source="rendered by `vlbench data synth DIR`",
        )

    def check(self, stage: str) -> None:
        """Nothing can be missing: `prepare_data` renders it."""

    def prepare_data(self) -> None:
        """Renders what is missing; Lightning calls it in one process a machine."""
        if not is_complete(self.root, self.variant):
            render_dataset(self.root, sets=(self.variant,))

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        annotations = self.root / self.variant / f"{part}.txt"
        if not annotations.is_file():
            raise self.missing(annotations)
        return read_path_label(annotations, self.root / self.variant)
