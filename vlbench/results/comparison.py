"""What rows of the leaderboard must have in common to be ranked together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vlbench.clips.options import NORMAL
from vlbench.results.record import Record, lineage, order_of_views, stored_as


@dataclass(frozen=True)
class TestedVideos:
    """One test set: which videos, against which classes.

    Attributes:
        classes: Class set of the dataset, `all`, `base` or `novel`.
        split: Number of the official split.
        list_name: Name of the list of videos; `None` if it is not known.
        expected: Number of videos in the list.
        class_names: Class names in the order of the labels.
        unreadable: Ids of the videos that could not be read, sorted.
        digest: Digest of the videos and their classes; `None` in records of an older vlbench.
    """

    classes: str
    split: int
    list_name: str | None
    expected: int
    class_names: tuple[str, ...]
    unreadable: tuple[str, ...]
    digest: str | None

    @classmethod
    def of(cls, record: Record) -> TestedVideos:
        """The test set of a record."""
        test, details = record.identity.test, record.details
        unreadable = tuple(sorted(record.failures))
        return cls(
            test.classes,
            test.split,
            record.identity.test_list,
            record.expected,
            details.classes,
            unreadable,
            details.test_digest,
        )

    def __str__(self) -> str:
        """All fields on one line; two test sets with the same line are equal."""
        return repr(tuple(vars(self).values()))


@dataclass(frozen=True)
class ComparisonKey:
    """What a row may be ranked with: rows with equal keys compare.

    Attributes:
        protocol: Versioned name of the protocol.
        dataset: Tested dataset and variant of its class names.
        shots: Training videos a class of the tested dataset, `all`, or 0 if none of its videos train.
        selection: Which epoch of the training was tested.
        train_classes: Class sets that were trained on, sorted; empty at 0 shots.
        train_lists: Origins of the lists of training videos, sorted; empty at 0 shots.
        tests: Test sets of the row, sorted.
        untrained: Whether the weights are the initial ones of a method that trains: no result of it, and not ranked.
        order: Order of the frames of the tested views; another one than `normal` compares with its own kind alone.
        stored: What the tested videos were on the disk: `frames`, or empty for video files, which have other pixels.
    """

    protocol: str
    dataset: str
    shots: int | str
    selection: str
    train_classes: tuple[str, ...]
    train_lists: tuple[str, ...]
    tests: tuple[TestedVideos, ...]
    untrained: bool = False
    order: str = NORMAL
    stored: str = ""

    @classmethod
    def of(cls, records: Sequence[Record], shots: int | str) -> ComparisonKey:
        """The key of the records of one row.

        Args:
            records: Records of one method in one setting, at least one.
            shots: Training videos a class of the tested dataset, `all`, or 0 if none of its videos train.
        """
        identity = records[0].identity
        trained = [] if shots == 0 else [record.identity for record in records]
        return cls(
            identity.protocol,
            identity.dataset,
            shots,
            identity.selection,
            tuple(sorted({str(each.train and each.train.classes) for each in trained})),
            tuple(sorted({lineage(each.train_list) for each in trained})),
            tuple(sorted({TestedVideos.of(record) for record in records}, key=str)),
            identity.untrained,
            order_of_views(records[0]),
            stored_as(records[0]),
        )

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal characters, for display."""
        same = [self.protocol, self.dataset, self.shots, self.selection]
        same += ["untrained"] * self.untrained + ([] if self.order == NORMAL else [self.order])
        same += [self.stored] * bool(self.stored)
        text = f"({same!r}, {list(self.train_classes)!r}, {list(self.train_lists)!r}, {[*map(str, self.tests)]!r})"
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
