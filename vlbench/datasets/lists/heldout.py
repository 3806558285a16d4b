"""Training videos set aside to choose an epoch by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from vlbench.datasets.lists.splits import draw_shots
from vlbench.datasets.specs import VideoItem
from vlbench.errors import DataError


def hold_out(
    items: Iterable[VideoItem], share: float, seed: int, class_names: Sequence[str]
) -> tuple[list[VideoItem], list[VideoItem]]:
    """Splits a training list into what is trained on and what is held out, both in the order of `items`.

    Which videos of a class are held out depends on their ids and the seed alone, as in `draw_shots`.

    Args:
        items: Videos of the training list.
        share: Part of the videos of each class, in (0, 1), rounded to a whole number; at least one, and one is left.
        seed: Another seed gives another part.
        class_names: Class names in label order.

    Raises:
        DataError: If a class has a single video.
    """
    items = list(items)
    by_label: dict[int, list[VideoItem]] = defaultdict(list)
    for item in items:
        by_label[item.label].append(item)
    heldout_ids: set[str] = set()
    for label, videos in sorted(by_label.items()):
        if len(videos) < 2:
            raise DataError(
                f"class {label} ({class_names[label]}) has 1 training video, which cannot be trained on and held out; "
                "set data.heldout to 0"
            )
        count = min(max(1, round(share * len(videos))), len(videos) - 1)
        heldout_ids |= {item.id for item in draw_shots(videos, count, seed)}
    return [item for item in items if item.id not in heldout_ids], [item for item in items if item.id in heldout_ids]
