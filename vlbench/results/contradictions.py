"""Whether a record says what follows from its scores."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlbench.datasets.specs import Truth, content_digest
from vlbench.errors import DataError
from vlbench.evaluation.calibration import calibration, rule_of
from vlbench.evaluation.stored_scores import (
    StoredScores,
    bootstrap_interval,
    classification_metrics,
    digest_of_labels,
    half_class_metrics,
)
from vlbench.results.fields import shown
from vlbench.results.record import ACCURACIES, MAP, Record
from vlbench.settings import settings_digest

TOLERANCE = 1e-6
"""How far a metric may be from the recomputed one, in points: what another numpy may round otherwise."""

_RUN_LATER = ("predictions",)
"""Fields of a record that its file of scores cannot hold a copy of."""


def contradictions(record: Record, stored: StoredScores, written: str | None) -> Iterator[str]:
    """What a record says and its scores do not, a line each; what costs little to find out.

    Args:
        record: Record of an evaluation.
        stored: Scores that lie beside the record.
        written: Text of the record as the file of scores holds it; `None` if it holds none.
    """
    if len({*stored.ids, *stored.failures}) < stored.total:
        both = sorted({*stored.ids} & stored.failures.keys())
        twice = both or sorted(video for video, count in Counter(stored.ids).items() if count > 1)
        yield f"the video {shown(twice[0])} is there twice"
    rows = stored.not_finite()
    if len(rows):
        video = shown(stored.ids[rows[0]])
        yield f"{len(rows)} of {len(stored.ids)} videos have scores that are not finite, {video} is one"
    yield from _altered(record, written)
    yield from _differing(record.metrics, classification_metrics(stored))
    yield from _other_digests(record, stored.truths)


def contradictions_in_draws(record: Record, stored: StoredScores) -> Iterator[str]:
    """What a record says of resampled test sets and of halves of the classes, and its scores do not, a line each.

    Args:
        record: Record of an evaluation.
        stored: Scores that lie beside the record.
    """
    expected: dict[str, float] = {}
    if any(name.startswith("top1_") for name in record.metrics):
        draws = record.details.bootstrap
        if draws is None or not 0 < draws <= 1_000_000:
            yield f"details.bootstrap is {draws}; the interval of top-1 needs a number of draws, 1 to 1,000,000"
            return
        expected |= bootstrap_interval(stored, draws)
    if any(name.startswith("half_") for name in record.metrics):
        try:
            expected |= half_class_metrics(stored)
        except DataError as error:
            yield str(error)
            return
    always = (MAP,) if stored.multi_label else ACCURACIES
    for name in sorted(record.metrics.keys() - {*always, *expected}):
        yield f"metrics.{name} is {record.metrics[name]}, nothing follows for it from the scores"
    yield from _differing(record.metrics, expected)


def contradictions_in_calibration(record: Record, stored: StoredScores) -> Iterator[str]:
    """What a record says of the probabilities of its videos, and its scores do not, a line each.

    The AUROC of base against novel videos is of two records, see `verify`.

    Args:
        record: Record of an evaluation.
        stored: Scores that lie beside the record.
    """
    stated = record.details.calibration
    if stated is None:
        return
    expected = calibration(stored, rule_of(stated))
    for name in ("videos", "source", "reason"):
        said, given = getattr(stated, name), getattr(expected, name)
        if said != given:
            yield f"details.calibration.{name} is {shown(said)}, the scores give {shown(given)}"
    for name in ("ece", "nll", "brier"):
        yield from differing_value(f"details.calibration.{name}", getattr(stated, name), getattr(expected, name))


def differing_value(name: str, stated: float | None, expected: float | None) -> Iterator[str]:
    """A line if a stated number is not the one that follows.

    Args:
        name: Name of the number's field.
        stated: Number that a record states, or none.
        expected: Number that follows from the scores, or none.
    """
    if stated is None or expected is None:
        if stated is not expected:
            yield f"{name} is {shown(stated)}, the scores give {shown(expected)}"
    elif not abs(stated - expected) <= TOLERANCE:
        yield f"{name} is {stated:.9g}, the scores give {expected:.9g}"


def _differing(metrics: Mapping[str, float], expected: Mapping[str, float]) -> Iterator[str]:
    for name, value in expected.items():
        if name not in metrics:
            yield f"metrics.{name} is missing, the scores give {value:.6g}"
        elif not abs(metrics[name] - value) <= TOLERANCE:
            yield f"metrics.{name} is {metrics[name]:.9g}, the scores give {value:.9g}"


def _other_digests(record: Record, labels: Mapping[str, Truth]) -> Iterator[str]:
    """Digests that are not those of what they stand for."""
    identity, details = record.identity, record.details
    expected = [("details.test_digest", details.test_digest, digest_of_labels(labels), "the scores")]
    if identity.test_videos is not None:
        videos = content_digest([*details.classes, *sorted(map(str, labels.items()))])
        expected.append(("identity.test_videos", identity.test_videos, videos, "the scores and details.classes"))
    for name, digest, options in (
        ("settings", identity.settings, details.settings),
        ("training_settings", identity.training_settings, details.training_settings),
    ):
        if options:
            expected.append((f"identity.{name}", digest, settings_digest(options), f"details.{name}"))
    for name, stated, digest, source in expected:
        if stated != digest:
            yield f"{name} is {stated}, {source} give {digest}"


def _altered(record: Record, written: str | None) -> Iterator[str]:
    """Fields that were edited after the scores were written, which hold a copy of the record."""
    if written is None:
        yield "the scores hold no copy of the record"
        return
    try:
        # Both as records of this version, whichever wrote them.
        copy = Record.parse(written.encode(), Path("the copy that the scores hold"))
    except DataError as error:
        yield str(error)
        return
    original, current = (_flat(json.loads(each.as_json())) for each in (copy, record))
    for name in sorted(original.keys() | current.keys()):
        before, after = (values.get(name, "missing") for values in (original, current))
        if name not in _RUN_LATER and (type(before) is not type(after) or before != after):
            yield f"{name} is {shown(after)}, it was {shown(before)} when the scores were written"


def _flat(value: object, name: str = "") -> dict[str, object]:
    """The plain values of a JSON object by the paths of their names."""
    if not isinstance(value, Mapping) or (name and not value):
        return {name: value}
    return {
        path: inner
        for key, entry in value.items()
        for path, inner in _flat(entry, f"{name}.{key}" if name else str(key)).items()
    }
