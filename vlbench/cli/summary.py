"""What a run says of itself before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from vlbench.datasets import VideoDataset
from vlbench.datasets.specs import Part
from vlbench.methods.base import VideoTextMethod

PARTS: dict[str, tuple[Part, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("test",),
}
"""Parts of the dataset that a command reads."""

_ADJECTIVES = {"train": "training"}


def summary(seed: int, dataset: VideoDataset, parts: Sequence[Part], method: VideoTextMethod) -> list[str]:
    """One line each on the seed, every list of videos and the method.

    Args:
        seed: Seed of the run.
        dataset: Dataset of the run.
        parts: Parts of the dataset that the run reads; a part without videos is left out.
        method: Method of the run.
    """
    lines = [f"seed: {seed}"]
    for part in parts:
        if part == "train":
            lists = [(len(dataset.videos(part)), len(dataset.train_classes.names), dataset.list_name(part))]
        else:
            lists = [(len(one.labels), len(one.classes.names), one.list_name) for one in dataset.sets(part)]
        lines += [
            f"data: {dataset.label}, {videos:,} {_ADJECTIVES.get(part, part)} videos of {classes:,} classes ({name})"
            for videos, classes, name in lists
            if videos
        ]
    total = sum(parameter.numel() for parameter in method.parameters())
    trainable = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    lines.append(
        f"method: {method.name} on {method.backbone.identity.name}, {trainable:,} of {total:,} parameters train"
    )
    return lines
