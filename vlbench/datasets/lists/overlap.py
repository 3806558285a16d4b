"""Videos that a training list and a test list have in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from vlbench.datasets.specs import VideoItem
from vlbench.errors import ConfigError, DataError

SplitList: TypeAlias = tuple[str, Sequence[VideoItem], int]
"""Name of a list, its videos, and the number of the official split that it belongs to."""


def refuse_shared(dataset: str, train: SplitList, test: SplitList, key: Callable[[VideoItem], Hashable]) -> None:
    """Refuses lists that share videos; the splits of a dataset do, and a list belongs to one of them.

    Args:
        dataset: Name of the dataset.
        train: List of training videos.
        test: List of test videos.
        key: Key of a video, which two entries have in common if they are the same video.

    Raises:
        ConfigError: If lists of different splits share videos; names how many.
        DataError: If lists of one split do.
    """
    name, items, split = train
    tested, videos, test_split = test
    keys = {key(item) for item in items}
    shared = sorted(item.id for item in videos if key(item) in keys)
    if not shared:
        return
    facts = (
        f"{dataset}: {len(shared)} of the {len(items)} training videos of {name} are test videos of {tested},"
        f" {shared[0]!r} is one"
    )
    if split != test_split:
        raise ConfigError(f"{facts}; set data.test.split to {split}, the training list's split")
    raise DataError(f"{facts}; one of the lists is wrong, make or fetch both again")
