"""Whether an audit says what follows from the scores of its record and from the numbers of videos that it states."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from vlbench.clips.options import NORMAL
from vlbench.errors import DataError
from vlbench.names import one_line
from vlbench.results.audit import Audit, Section, ViewResult, audit_json, view_result
from vlbench.results.audits import AuditScores, audit_values, audited_record
from vlbench.results.contradictions import TOLERANCE, differing_value
from vlbench.results.fields import checked, checked_fields, shown
from vlbench.results.stored import StoredEvaluation

_RESAMPLED = ("loss_low", "loss_high")
"""Fields whose random numbers another numpy may draw otherwise."""
_MOST_DRAWS = 1_000_000


def contradictions_in_audit(path: Path, stored: StoredEvaluation) -> Iterator[str]:
    """What an audit says and what does not follow from the scores beside its record, a line each.

    The normal order follows from the scores. Of another order the file has the numbers of videos that only one of the
    two gets right, from which everything else follows, and the accuracy of each class, which has to give their sum, on
    all videos as on those of each subset of the classes.

    Args:
        path: File of the audit.
        stored: Record of the audit with its scores.
    """
    try:
        values = audit_values(path.read_bytes())
        audit = _parsed(values)
    except OSError as error:
        yield f"it cannot be read: {error.strerror}"
        return
    except DataError as error:
        yield f"it is not an audit of vlbench: {one_line(str(error))}; delete it and run `vlbench audit` again"
        return
    of_record = audited_record(stored.record)
    if (audit.identity, audit.predictions) != of_record:
        yield (
            "it is of other weights, options or scores than the record of its name; delete it or run `vlbench audit`"
            " again"
        )
        return
    if audit.record != stored.name:
        yield f"record is {shown(audit.record)}, the record of its name is {shown(stored.name)}"
    if audit.unreadable != len(stored.predictions.failures):
        yield f"unreadable is {audit.unreadable}, the scores give {len(stored.predictions.failures)}"
    right = _right_videos(stored)
    stated, counts = {of.name: of.videos for of in audit.classes}, {name: videos for name, (videos, _) in right.items()}
    if [*stated.items()] != [*counts.items()]:
        odd = next((name for name in {**stated, **counts} if stated.get(name) != counts.get(name)), "their order")
        yield f"classes are others than those of the scores: {shown(odd)} has {stated.get(odd)} videos in the audit"
        return
    yield from _in_classes(audit, right)
    for section in audit.sections:
        of_all = section is audit.sections[0]
        names = section.names or (tuple(right) if of_all else ())
        if not names:
            yield (
                f"{section.name}: names is empty, as an older vlbench left it, so that nothing says which classes the"
                " numbers are of; run `vlbench audit` again"
            )
        elif names != tuple(name for name in right if of_all or name in names):
            which = "all" if of_all else "some"
            yield f"{section.name}: names are not {which} classes that have videos, in the order of their labels"
        else:
            yield from _in_section(section, {name: right[name] for name in names}, audit)
    yield from _in_scores(values, audit)


def _parsed(values: Mapping[str, object]) -> Audit:
    """The audit in the values of its file.

    Raises:
        DataError: Naming the field that no audit has.
    """
    classes = checked(values.get("classes"), tuple[dict[str, object], ...], "classes")
    plain = [{name: value for name, value in each.items() if name not in AuditScores._fields} for each in classes]
    derived = {"schema_version", "vlbench", *AuditScores._fields}
    rest = {name: value for name, value in values.items() if name not in derived}
    audit = Audit(**checked_fields({**rest, "classes": plain}, Audit, ""))
    _check_shape(audit)
    return audit


def _in_scores(values: Mapping[str, Any], audit: Audit) -> Iterator[str]:
    """Order and time scores in the file of an audit that are not those of its accuracies."""
    expected = json.loads(audit_json(audit))
    pairs = [("", values, expected)]
    pairs += [
        (f"{each['name']}: ", stated, each) for stated, each in zip(values["classes"], expected["classes"], strict=True)
    ]
    for beginning, stated, each in pairs:
        for name in AuditScores._fields:
            yield from differing_value(f"{beginning}{name}", checked(stated.get(name), float | None, name), each[name])


def _check_shape(audit: Audit) -> None:
    """Refuses an audit without what is asked of every audit.

    Raises:
        DataError: Naming what is missing.
    """
    if not 1 <= audit.draws <= _MOST_DRAWS:
        raise DataError(f"draws is {audit.draws}; allowed: 1 to {_MOST_DRAWS:,}")
    if not 0 <= audit.seed < 2**32:
        raise DataError(f"seed is {audit.seed}; allowed: 0 to 2^32 - 1")
    if not audit.sections or not audit.classes:
        raise DataError("sections or classes is empty; allowed: one or more of each")
    orders = [view.order for view in audit.sections[0].views]
    for needed in (NORMAL, "shuffled", "middle"):
        if needed not in orders:
            raise DataError(f"sections[0].views has no order {needed}")
    for name, each in (
        *((f"sections {section.name}", [view.order for view in section.views]) for section in audit.sections),
        *((f"classes {of_class.name}", [*of_class.top1]) for of_class in audit.classes),
    ):
        if each != orders or each[0] != NORMAL:
            raise DataError(f"{name} has the orders {', '.join(each)}; allowed: {', '.join(orders)}, {NORMAL} first")


def _right_videos(stored: StoredEvaluation) -> dict[str, tuple[int, int]]:
    """Classes with videos, in the order of the labels -> number of videos and of those that are right."""
    correct, right = stored.correct(), {}
    of_class: dict[int, list[bool]] = {}
    for video, label in stored.labels().items():
        of_class.setdefault(label, []).append(correct[video])
    for label, hits in sorted(of_class.items()):
        right[stored.classes[label]] = (len(hits), sum(hits))
    return right


def _in_classes(audit: Audit, right: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Accuracies of classes that do not follow from the scores, or are of no number of videos."""
    for of_class in audit.classes:
        videos, hits = right[of_class.name]
        yield from differing_value(f"{of_class.name}: top1", of_class.top1[NORMAL], 100 * hits / videos)
        for order, top1 in of_class.top1.items():
            share = top1 * videos / 100
            if not -TOLERANCE <= share <= videos + TOLERANCE or abs(share - round(share)) > TOLERANCE:
                yield f"{of_class.name}: top1 of {order} is {top1:.9g}, which is of no number out of {videos} videos"


def _in_section(section: Section, of_names: Mapping[str, tuple[int, int]], audit: Audit) -> Iterator[str]:
    """Numbers of a section that do not follow from those of its videos.

    Args:
        section: Results on the videos of some classes.
        of_names: Names of these classes -> number of videos and of those that are right in the normal order.
        audit: Audit that the section is of.
    """
    total, right = (sum(counts) for counts in zip(*of_names.values(), strict=True))
    for name, count in (("classes", len(of_names)), ("videos", total)):
        if getattr(section, name) != count:
            yield f"{section.name}: {name} is {getattr(section, name)}, the scores give {count}"
            return
    of_classes = [of_class for of_class in audit.classes if of_class.name in of_names]
    for view in section.views:
        given = sum(of_class.top1[view.order] * of_class.videos for of_class in of_classes) / total
        if abs(given - view.top1) > TOLERANCE:
            yield f"{section.name}, {view.order}: top1 is {view.top1:.9g}, the classes give {given:.9g}"
    for view in section.views:
        here, lost, videos = view.only_here, view.only_normal, section.videos
        if not (0 <= here <= videos - right and 0 <= lost <= right and videos > 0):
            yield (
                f"{section.name}, {view.order}: only_normal is {lost} and only_here {here}; {right} of {videos} videos"
                f" are right in the order {NORMAL}"
            )
            continue
        if view.order == NORMAL and (here or lost):
            yield f"{section.name}, {NORMAL}: only_normal and only_here are {lost} and {here}; allowed: 0"
        expected = view_result(view.order, videos, right, lost, here, draws=audit.draws, seed=audit.seed)
        # Six deviations of such a quantile of so many draws, twice, and a video to either side.
        deviation = (100 / videos) * (here + lost) ** 0.5
        slack = 20 * deviation / audit.draws**0.5 + 200 / videos if deviation else TOLERANCE
        for field in fields(ViewResult)[1:]:
            said, given = (getattr(each, field.name) for each in (view, expected))
            if field.name not in _RESAMPLED:
                yield from differing_value(f"{section.name}, {view.order}: {field.name}", said, given)
            elif not abs(said - given) <= slack:
                yield f"{section.name}, {view.order}: {field.name} is {said:.4g}, resampled videos give {given:.4g}"
