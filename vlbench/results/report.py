"""One evaluation class by class, and under another list of classes; from stored scores, nothing is decoded."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from vlbench.errors import DataError
from vlbench.evaluation.stored_scores import Integers, classification_metrics, half_class_metrics
from vlbench.results.escapes import csv_text
from vlbench.results.stored import StoredEvaluation


@dataclass(frozen=True)
class ClassReport:
    """Test videos of one class, and what they were taken for.

    Attributes:
        name: Name of the class.
        videos: Number of videos of the class in the test list.
        unreadable: Number of videos of the class that could not be read; they count as wrong.
        correct: Number of videos of the class that were given to it.
        accuracy: `correct / videos`, in per cent; `None` without videos.
        predicted: Videos that the class was given to.
        precision: `correct / predicted`, in per cent; `None` if it was never given.
        confused_with: The wrong class most often given to its videos, empty if none was.
        confusions: Number of videos given to that wrong class.
    """

    name: str
    videos: int
    unreadable: int
    correct: int
    accuracy: float | None
    predicted: int
    precision: float | None
    confused_with: str
    confusions: int


def confusion_matrix(stored: StoredEvaluation) -> Integers:
    """Videos by true class, row, and given class, column; int64 `(C, C + 1)`, the last column unreadable videos."""
    labels, predictions, size = stored.labels(), stored.predictions, len(stored.classes)
    true = np.array([labels[video] for video in (*predictions.ids, *predictions.failures)], dtype=np.int64)
    given = np.concatenate([predictions.best, np.full(len(predictions.failures), size)])
    return np.bincount(true * (size + 1) + given, minlength=size * (size + 1)).reshape(size, size + 1)


def class_reports(stored: StoredEvaluation) -> list[ClassReport]:
    """Every class, in the order of the labels."""
    matrix = confusion_matrix(stored)
    correct, predicted = matrix.diagonal(), matrix[:, :-1].sum(axis=0)
    wrong = matrix[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    reports = []
    for label, name in enumerate(stored.classes):
        videos, hits, given = int(matrix[label].sum()), int(correct[label]), int(predicted[label])
        confusions = int(wrong[label].max())
        reports.append(
            ClassReport(
                name,
                videos,
                int(matrix[label, -1]),
                hits,
                100 * hits / videos if videos else None,
                given,
                100 * hits / given if given else None,
                stored.classes[int(wrong[label].argmax())] if confusions else "",
                confusions,
            )
        )
    return reports


def reports_csv(reports: Sequence[ClassReport]) -> str:
    """A line a class, with a header."""
    return csv_text([[field.name for field in fields(ClassReport)], *map(astuple, reports)])


def confusion_csv(stored: StoredEvaluation) -> str:
    """`confusion_matrix` with the names of the classes."""
    header = ["true class", *stored.classes, "unreadable"]
    matrix = confusion_matrix(stored).tolist()
    return csv_text([header, *([name, *row] for name, row in zip(stored.classes, matrix, strict=True))])


def rescore(stored: StoredEvaluation, names: Sequence[str]) -> dict[str, float]:
    """`top1`, `top5` and `mean_per_class` in per cent, had the test held only some of its classes.

    Only the videos of these classes, against these classes only, by the mean over the views of the cosines: exactly
    what `vlbench test` gives with one view; with several, methods that average probabilities come out slightly
    otherwise.

    Args:
        stored: Stored evaluation that is scored again.
        names: Names of the classes that are kept.

    Raises:
        DataError: If a class was not in the evaluation or is named twice, if no video is of one of them, or if the
            method's video features depend on which classes there are.
    """
    check_fixed_features(stored)
    position = {name: index for index, name in enumerate(stored.classes)}
    for name in names:
        if name not in position:
            near = difflib.get_close_matches(name, position, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(stored.classes[:5])}, .."
            raise DataError(f"{stored.name} was not scored against {name!r}: {hint}")
    if not 2 <= len(set(names)) == len(names):
        raise DataError(
            f"the list has {len(names)} classes, {len(set(names))} of them different; name two or more, each once"
        )
    restricted = stored.restricted([position[name] for name in names])
    if not restricted.ids and not restricted.failures:
        raise DataError(
            f"{stored.name} has no video of these {len(names)} classes; name one that has videos among them"
        )
    return classification_metrics(restricted)


def check_fixed_features(stored: StoredEvaluation) -> None:
    """Refuses an evaluation whose video features may be others with another list of classes or other prompts.

    Raises:
        DataError: If the features depend on the classes, or the record does not say whether they do.
    """
    depend, method = stored.record.details.features_depend_on_classes, stored.record.identity.method
    if depend is None:
        raise DataError(
            f"{stored.name} does not say whether the video features of {method} depend on the list of classes, as an"
            " older vlbench wrote it; run `vlbench test` again (--half works on any record)"
        )
    if depend:
        raise DataError(
            f"{stored.name}: the video features of {method} depend on the list of classes, so its scores hold for that"
            " list only; run `vlbench test` on the other list (--half is defined on the scores and works)"
        )


def rescore_halves(stored: StoredEvaluation) -> dict[str, float]:
    """`half_top1` and `half_top5` over ten random halves of the classes, with `_std`; see `half_class_accuracies`."""
    return half_class_metrics(stored.predictions)
