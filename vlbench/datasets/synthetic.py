"""The synthetic dataset, read from rendered files like any other."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.specs import DatasetSpec, Part, VideoItem
from vlbench.synthetic import classes


class SyntheticActions(VideoDataset):
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

    @override
    def prepare(self) -> None:
        from vlbench.synthetic.generate import is_complete, render_dataset  # late: the renderer loads PyAV

        if not is_complete(self.root, self.variant):
            render_dataset(self.root, sets=(self.variant,))

    @override
    def items(self, part: Part, split: int) -> list[VideoItem]:
        annotations = self.root / self.variant / f"{part}.txt"
        if not annotations.is_file():
            raise self.missing(annotations)
        return read_path_label(annotations, self.root / self.variant)
