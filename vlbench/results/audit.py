"""What a record's method loses on counterfactual views of the same videos, from the scores in each order of frames."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import vlbench
from vlbench.clips.options import NORMAL
from vlbench.datasets.lists.class_names import read_class_names
from vlbench.errors import ConfigError, DataError
from vlbench.evaluation.statistics import compare_counts, resampled_top1
from vlbench.names import one_line
from vlbench.results.audits import AUDIT_VERSION, audited_record
from vlbench.results.escapes import csv_text
from vlbench.results.stored import StoredEvaluation


@dataclass(frozen=True)
class ViewResult:
    """Accuracy in one order of the frames, and what is lost against the normal one on the same videos.

    Attributes:
        order: Order of the frames, such as `reversed`.
        top1: Top-1 accuracy, in per cent.
        low: Lower end of the central 95 % of top-1 over resampled videos.
        high: Upper end of the same interval.
        loss: Top-1 of the normal order less this one, in points.
        loss_low: Lower end of the central 95 % of the loss over resampled videos, paired.
        loss_high: Upper end of the same interval.
        only_normal: Videos that are right in the normal order alone.
        only_here: Videos that are right in this order alone.
        p_value: Two-sided p-value of McNemar's exact test of the loss.
    """

    order: str
    top1: float
    low: float
    high: float
    loss: float
    loss_low: float
    loss_high: float
    only_normal: int
    only_here: int
    p_value: float


@dataclass(frozen=True)
class Section:
    """Results on the videos of some classes, which are scored against all classes of the record.

    Attributes:
        name: Name of the subset of the classes, such as `temporal`, or `all`.
        classes: Number of classes of the subset that have videos.
        videos: Number of videos of these classes.
        views: Results in each order of the frames, the normal one first.
        names: Names of these classes, in label order; empty in a file of an older vlbench.
    """

    name: str
    classes: int
    videos: int
    views: tuple[ViewResult, ...]
    names: tuple[str, ...] = ()

    def view(self, order: str) -> ViewResult:
        """The result in an order of the frames."""
        return next(view for view in self.views if view.order == order)

    @property
    def order_score(self) -> ViewResult:
        """The result on shuffled frames, whose loss is the order score."""
        return self.view("shuffled")

    @property
    def time_score(self) -> ViewResult:
        """The result on the middle frame, whose loss is the time score."""
        return self.view("middle")


@dataclass(frozen=True)
class ClassResult:
    """Accuracies of one class in each order of the frames.

    Attributes:
        name: Name of the class.
        videos: Number of videos of the class.
        top1: Order of the frames -> top-1 accuracy, in per cent.
    """

    name: str
    videos: int
    top1: Mapping[str, float]

    @property
    def order_score(self) -> float:
        """Top-1 less that on shuffled frames, in points."""
        return self.top1[NORMAL] - self.top1["shuffled"]

    @property
    def time_score(self) -> float:
        """Top-1 less that on the middle frame, in points."""
        return self.top1[NORMAL] - self.top1["middle"]


@dataclass(frozen=True)
class Audit:
    """An audited record.

    Attributes:
        record: Name of the record.
        identity: Digest of the identity of the record.
        predictions: Digest of the file of scores of the record.
        draws: Number of resampled sets of videos behind the intervals.
        seed: Seed of the resampling.
        unreadable: Number of videos that could not be read, which count as wrong in every order.
        sections: Results on all videos, then on those of each subset of the classes.
        classes: Results on each class that has videos, in the order of the labels.
    """

    record: str
    identity: str
    predictions: str | None
    draws: int
    seed: int
    unreadable: int
    sections: tuple[Section, ...]
    classes: tuple[ClassResult, ...]


def audit_of(
    stored: StoredEvaluation,
    correct: Mapping[str, Mapping[str, bool]],
    subsets: Mapping[str, Collection[str]],
    *,
    draws: int,
    seed: int,
) -> Audit:
    """The audit of a record.

    Args:
        stored: Record with its scores.
        correct: Order of the frames -> video -> whether it was right; the normal order is the first.
        subsets: Names of subsets of the classes -> names of their classes.
        draws: Number of resampled sets of videos.
        seed: Seed of the resampling.
    """
    labels = stored.labels()
    of_class: dict[int, list[str]] = {}
    for video, label in labels.items():
        of_class.setdefault(label, []).append(video)

    def section(name: str, names: Collection[str]) -> Section:
        kept = [label for label in of_class if stored.classes[label] in names]
        videos = [video for label in kept for video in of_class[label]]
        views = tuple(_result(order, correct, videos, draws, seed) for order in correct)
        return Section(name, len(kept), len(videos), views, tuple(stored.classes[label] for label in kept))

    for name, names in subsets.items():
        if not any(stored.classes[label] in names for label in of_class):
            raise DataError(f"no video of {stored.name} is of a class of the subset {name}; leave the subset out")
    classes = tuple(
        ClassResult(
            stored.classes[label],
            len(videos),
            {
                order: 100 * sum(of_order[video] for video in videos) / len(videos)
                for order, of_order in correct.items()
            },
        )
        for label, videos in sorted(of_class.items())
    )
    return Audit(
        stored.name,
        *audited_record(stored.record),
        draws,
        seed,
        len(stored.predictions.failures),
        tuple(section(name, names) for name, names in {"all": set(stored.classes), **subsets}.items()),
        classes,
    )


def _result(
    order: str, correct: Mapping[str, Mapping[str, bool]], videos: Sequence[str], draws: int, seed: int
) -> ViewResult:
    pairs = Counter((correct[NORMAL][video], correct[order][video]) for video in videos)
    lost, here = pairs[True, False], pairs[False, True]
    return view_result(order, len(videos), pairs[True, True] + lost, lost, here, draws=draws, seed=seed)


def view_result(
    order: str, videos: int, right: int, only_normal: int, only_here: int, *, draws: int, seed: int
) -> ViewResult:
    """The result in an order of the frames, which follows from numbers of videos.

    Args:
        order: Name of the order.
        videos: Number of videos, at least 1.
        right: Number of videos that are right in the normal order.
        only_normal: Number of videos that are right in the normal order alone.
        only_here: Number of videos that are right in this order alone.
        draws: Number of resampled sets of videos.
        seed: Seed of the resampling.
    """
    both, here = right - only_normal, right - only_normal + only_here
    neither = videos - right - only_here
    paired = compare_counts(both, only_here, only_normal, neither, draws=draws, seed=seed)
    low, high = resampled_top1(here, videos, draws, seed)
    return ViewResult(
        order, 100 * here / videos, low, high, paired.difference, paired.low, paired.high, only_normal, only_here,
        paired.p_value,
    )  # fmt: skip


def read_subset(option: str, classes: Sequence[str]) -> tuple[str, list[str]]:
    """A subset of the classes by the option that names it.

    Args:
        option: Name of the subset and its file, such as `temporal=temporal32.csv`: the name of a class a line, or a CSV
            file with a header and one column `name`, `class` or `class_name`.
        classes: Names of the classes of the record.

    Returns:
        Name of the subset and names of its classes.

    Raises:
        ConfigError: If the option has no name or no file, or the file names a class that the record does not have.
    """
    name, equals, file = option.partition("=")
    if not (name and equals and file) or name == "all":
        raise ConfigError(
            f"--subset has {option!r}; allowed: a name that is not all, =, and a file, such as temporal=a.csv"
        )
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"--subset {name} names {path}, which is not a file; give one with a name of a class a line")
    return name, read_class_names(path, classes, "the record")


def audit_json(audit: Audit) -> str:
    """The audit as the text of its file, with the two scores on all videos where the leaderboard reads them."""
    everything = audit.sections[0]
    values = {
        "schema_version": AUDIT_VERSION,
        "vlbench": vlbench.__version__,
        "order_score": everything.order_score.loss,
        "time_score": everything.time_score.loss,
        **asdict(audit),
        "classes": [
            {**asdict(each), "order_score": each.order_score, "time_score": each.time_score} for each in audit.classes
        ],
    }
    return json.dumps(values, indent=2) + "\n"


def audit_csv(audit: Audit) -> str:
    """A line for each order of the frames on all videos, on each subset and on each class; intervals not of classes."""
    columns = (
        "part", "name", "videos", "order", "top1", "low", "high", "loss", "loss_low", "loss_high", "only_normal",
        "only_here", "p_value",
    )  # fmt: skip
    rows: list[Sequence[object]] = [columns]
    for section in audit.sections:
        part = "all" if section is audit.sections[0] else "subset"
        rows += [(part, section.name, section.videos, *asdict(view).values()) for view in section.views]
    for each in audit.classes:
        for order, top1 in each.top1.items():
            loss = each.top1[NORMAL] - top1
            rows.append(("class", each.name, each.videos, order, top1, "", "", loss, *[""] * 5))
    return csv_text(rows)


def said_of(section: Section, draws: int) -> list[str]:
    """Sentences on the two scores of a section.

    Args:
        section: Results on the videos of some classes.
        draws: Number of resampled sets of videos.
    """
    lines = []
    for name, other, view in (
        ("order score", "shuffled", section.order_score),
        ("time score", "one frame", section.time_score),
    ):
        lines.append(
            f"{name} (normal - {other}) = {view.loss:+.2f} points, 95 % of {draws:,} resampled test sets in"
            f" [{view.loss_low:+.2f}, {view.loss_high:+.2f}], McNemar's exact test p = {view.p_value:.3g}"
        )
    return [one_line(line) for line in lines]
