"""Subsets drawn by the project where no published list is at hand: K-shot draws, base and novel halves.

All of it is a pure function of video ids and labels, so that two machines with the same list train on the same videos.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from vlbench.datasets.specs import VideoItem
from vlbench.errors import ConfigError, DataError
from vlbench.names import name_bytes


def draw_shots(
    items: Iterable[VideoItem], shots: int, seed: int, *, class_names: Sequence[str] | None = None
) -> list[VideoItem]:
    """Draw exactly `shots` videos of every class.

    A class's draw depends on the ids of its videos and the seed alone: not on the order of `items`, on the other
    classes or on the machine. Draws with one seed are nested, the K = 2 draw lies in the K = 4 draw. The result is
    sorted by label, then id.

    Args:
        items: Videos to draw from.
        shots: Videos a class, 1 or more.
        seed: Another seed gives another draw.
        class_names: Names of all the classes that must be in the draw; without it, the classes that `items` has.

    Raises:
        ConfigError: If `shots` is less than 1.
        DataError: If a class has fewer videos than asked for, an id occurs twice, or a label has no class name.

    Example:
        >>> from pathlib import Path
        >>> items = [VideoItem(Path(f"{k}.mp4"), k % 2, f"{k}.mp4") for k in range(10)]
        >>> [item.label for item in draw_shots(items, shots=2, seed=0)]
        [0, 0, 1, 1]
    """
    if shots < 1:
        raise ConfigError(f"shots is {shots}; allowed: 1 or more")
    by_label = _by_label(items)
    if class_names is not None:
        _check_labels(by_label, len(class_names))
    labels = sorted(by_label) if class_names is None else range(len(class_names))
    drawn: list[VideoItem] = []
    for label in labels:
        # .get and not []: a defaultdict would hide a class without videos
        videos = by_label.get(label, [])
        if len(videos) < shots:
            name = f"class {label}" if class_names is None else f"class {label} ({class_names[label]})"
            raise DataError(f"{name} has {len(videos)} videos, {shots} were asked for; draw fewer or complete the list")
        ranked = sorted(videos, key=lambda video: _rank(video.id, seed))
        drawn += sorted(ranked[:shots], key=lambda video: video.id)
    return drawn


def base_labels(items: Iterable[VideoItem], num_classes: int) -> tuple[int, ...]:
    """Labels of the base half, ascending: the classes with the most training videos, half of them rounded up.

    Of two classes with equally many videos the one with the lower label comes first.

    Raises:
        ConfigError: If there are fewer than two classes.
        DataError: If a label is out of range or a base class would have no video.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes is {num_classes}; allowed: 2 or more, to have a base and a novel half")
    counts = Counter(item.label for item in items)
    _check_labels(counts, num_classes)
    ranked = sorted(range(num_classes), key=lambda label: (-counts[label], label))
    base = ranked[: (num_classes + 1) // 2]
    if counts[base[-1]] == 0:
        raise DataError(
            f"class {base[-1]} would be a base class and has no training video; give the training list of all"
            f" {num_classes} classes ({len(counts)} have videos)"
        )
    return tuple(sorted(base))


def select(items: Iterable[VideoItem], labels: Sequence[int]) -> list[VideoItem]:
    """Keep the videos of these labels, in the order of `items`, and renumber them: `labels[i]` becomes `i`.

    Class names have to be picked in the same order: `[names[label] for label in labels]`.

    Raises:
        ConfigError: If a label is given twice.
    """
    renumbered = {label: position for position, label in enumerate(labels)}
    if len(renumbered) != len(labels):
        twice = [label for label, count in Counter(labels).items() if count > 1]
        raise ConfigError(f"labels {twice} are given more than once; give each label once")
    return [item.relabelled(renumbered[item.label]) for item in items if item.label in renumbered]


def _rank(video_id: str, seed: int) -> tuple[bytes, str]:
    """A video's place in its class: a hash and not a random generator, whose stream would depend on the order."""
    digest = hashlib.blake2b(name_bytes(f"{seed}/{video_id}"), digest_size=16).digest()
    return digest, video_id


def _by_label(items: Iterable[VideoItem]) -> dict[int, list[VideoItem]]:
    groups: dict[int, list[VideoItem]] = defaultdict(list)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"video {item.id!r} is listed twice and could be drawn twice; remove one of the entries")
        seen.add(item.id)
        groups[item.label].append(item)
    return groups


def _check_labels(labels: Iterable[int], num_classes: int) -> None:
    for label in labels:
        if not 0 <= label < num_classes:
            raise DataError(f"label {label}; allowed: 0 to {num_classes - 1}; does the list belong to this dataset?")
