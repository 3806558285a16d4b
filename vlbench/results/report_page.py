"""One evaluation as one HTML file that loads nothing: what is confused with what, and how sure the model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

import vlbench
from vlbench.evaluation.statistics import wilson_interval
from vlbench.evaluation.stored_scores import Integers
from vlbench.names import one_line
from vlbench.pages import picture, text
from vlbench.results.class_order import order_by_similarity
from vlbench.results.confidence import class_probabilities, confidence_bins
from vlbench.results.confidence_charts import histogram, numbers, reliability
from vlbench.results.confusion_map import cells, frame, widths
from vlbench.results.page_parts import asset, colours, filled_in, script_data
from vlbench.results.report import ClassReport, class_reports, confusion_matrix
from vlbench.results.stored import StoredEvaluation

_PAIRS = 25
"""Most confused pairs that the page lists."""
_PICTURED, _VIDEOS = 10, 2
"""Number of pairs with pictures, and of videos of each."""
_BINS = 10
"""Ranges of confidence."""
_LOST = 500
"""Unreadable videos that the page names."""


class ConfusedPair(NamedTuple):
    """A class and a wrong one that some of its videos were given to.

    Attributes:
        true: Label of the class.
        predicted: Label of the wrong class.
        videos: Number of videos of the class that were given to the wrong one.
        of: Number of videos of the class.
        examples: Ids of the videos with the highest scores for the wrong class, at most two.
    """

    true: int
    predicted: int
    videos: int
    of: int
    examples: tuple[str, ...]


def confused_pairs(stored: StoredEvaluation) -> list[ConfusedPair]:
    """The most confused pairs of classes, at most 25: by number of videos, then by their share of the class."""
    matrix, predictions = confusion_matrix(stored), stored.predictions
    of = matrix.sum(axis=1)
    wrong = matrix[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    pairs = sorted(
        ((int(true), int(given)) for true, given in np.argwhere(wrong)),
        key=lambda pair: (-wrong[pair], -wrong[pair] / of[pair[0]], pair),
    )
    best = predictions.best
    made = []
    for true, given in pairs[:_PAIRS]:
        rows = np.flatnonzero((predictions.labels == true) & (best == given))
        surest = rows[np.argsort(-predictions.scores[rows, given], kind="stable")][:_VIDEOS]
        examples = tuple(predictions.ids[row] for row in surest)
        made.append(ConfusedPair(true, given, int(wrong[true, given]), int(of[true]), examples))
    return made


def pictured_videos(pairs: Sequence[ConfusedPair]) -> list[str]:
    """Ids of the videos that the page has pictures of, where somebody makes them: two of each of ten pairs."""
    return list(dict.fromkeys(video for pair in pairs[:_PICTURED] for video in pair.examples))


def to_html(stored: StoredEvaluation, pictures: Mapping[str, bytes | str] | None = None) -> str:
    """A page of one evaluation, light and dark, that works with the keyboard and, but for its cursor, without script.

    Args:
        stored: Evaluation that the page shows.
        pictures: Id -> JPEG picture, or why there is none, of the videos of `pictured_videos`; `None` leaves out what
            they look like.
    """
    matrix = confusion_matrix(stored)
    order = order_by_similarity(stored.predictions)
    place = np.argsort(order)
    ordered = np.hstack([matrix[np.ix_(order, order)], matrix[order, -1:]])
    names = [stored.classes[label] for label in order]
    pairs = confused_pairs(stored)
    data = {"classes": [*map(one_line, names)], "rows": cells(ordered), "cells": widths(len(names))}
    parts = {
        "style": colours() + asset("report.css"),
        "script": asset("report.js"),
        "data": script_data(data),
        "name": text(stored.name),
        "facts": _facts(stored),
        "map": frame(ordered, names),
        "pairs": _pairs(pairs, stored, place),
        "pictures": "" if pictures is None else _pictures(pairs[:_PICTURED], stored, pictures),
        "classes": _classes(class_reports(stored), place),
        "confidence": _confidence(stored),
        "unreadable": _unreadable(stored),
        "version": text(vlbench.__version__),
    }
    return filled_in(asset("report.html"), parts)


def _facts(stored: StoredEvaluation) -> str:
    record, identity = stored.record, stored.record.identity
    metrics = record.metrics
    top1 = f"{metrics['top1']:.2f} %" if "top1" in metrics else ""
    if "top1_low" in metrics and "top1_high" in metrics:
        top1 += f" (95 % of resampled test sets: {metrics['top1_low']:.2f} to {metrics['top1_high']:.2f})"
    shots = None if identity.train is None else identity.train.shots
    trained = "no videos" if identity.train is None else f"{'all videos' if shots is None else f'{shots} shots'}"
    facts = {
        "top-1": top1,
        "top-5": f"{metrics['top5']:.2f} %" if "top5" in metrics else "",
        "mean per class": f"{metrics['mean_per_class']:.2f} %" if "mean_per_class" in metrics else "",
        "videos": f"{record.expected:,} of {len(stored.classes):,} classes, {len(record.failures):,} unreadable",
        "method": identity.method,
        "backbone": identity.backbone,
        "dataset": f"{identity.dataset}, {identity.test_list}" if identity.test_list else identity.dataset,
        "trained on": f"{trained} of {identity.train_dataset}" if identity.train_dataset else trained,
        "protocol": identity.protocol or "",
        "frames and views": f"{identity.frames}, {identity.views}",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{text(str(said))}</dd></div>" for name, said in facts.items() if said)


def _pairs(pairs: Sequence[ConfusedPair], stored: StoredEvaluation, place: Integers) -> str:
    if not pairs:
        return "<p>No readable video was given to a wrong class.</p>"
    rows = []
    for pair in pairs:
        true, given = (stored.classes[label] for label in (pair.true, pair.predicted))
        said = f"{text(true)} taken for {text(given)}"
        rows.append(
            f"<tr><th scope=row>{text(true)}</th><td class=words>{text(given)}</td><td class=number>{pair.videos}</td>"
            f"<td class=number>{pair.of}</td><td class=number>{100 * pair.videos / pair.of:.1f}</td>"
            f'<td class="scripted" hidden><button type="button" data-row="{place[pair.true]}"'
            f' data-column="{place[pair.predicted]}" aria-label="Show in the matrix: {said}">show</button></td></tr>'
        )
    heads = '<th scope=col class="scripted" hidden>in the matrix</th>'
    return _table("Most confused pairs", ("class", "taken for", "#videos", "#of", "#%"), rows, heads)


def _pictures(pairs: Sequence[ConfusedPair], stored: StoredEvaluation, pictures: Mapping[str, bytes | str]) -> str:
    parts = [
        "<h3>What they look like</h3>\n"
        '<p class="muted">The middle frame of the videos with the highest scores for the wrong class.</p>'
        '<div class="cards">'
    ]
    for pair in pairs:
        true, given = (text(stored.classes[label]) for label in (pair.true, pair.predicted))
        parts.append(f'<section class="card"><h4>{true} <span>taken for</span> {given}</h4><div class="frames">')
        for video in pair.examples:
            frame = pictures.get(video, "it was not looked for")
            shown = (
                picture(frame, f"Middle frame of {video}")
                if isinstance(frame, bytes)
                else f'<div class="none">no frame: {text(frame)}</div>'
            )
            parts.append(f"<figure>{shown}<figcaption>{text(video)}</figcaption></figure>")
        parts.append("</div></section>")
    return "".join([*parts, "</div>" if pairs else "</div><p>There are none.</p>"])


def _classes(reports: Sequence[ClassReport], place: Integers) -> str:
    rows = []
    keyed = sorted(enumerate(reports), key=lambda each: (each[1].accuracy is None, each[1].accuracy or 0.0, each[0]))
    for label, entry in keyed:
        if entry.accuracy is None:
            accuracy = '<td class=number></td><td class="muted">no videos</td>'
        else:
            low, high = (100 * end for end in wilson_interval(entry.correct, entry.videos))
            bar = f"--low:{low:.1f}%;--high:{high:.1f}%;--at:{entry.accuracy:.1f}%"
            accuracy = (
                f"<td class=number>{entry.accuracy:.1f}</td>"
                f'<td class="range"><i class="bar" style="{bar}"></i>{low:.1f} to {high:.1f}</td>'
            )
        precision = "" if entry.precision is None else f"{entry.precision:.1f}"
        taken = f"{text(entry.confused_with)} ({entry.confusions})" if entry.confusions else ""
        rows.append(
            f"<tr><td class=number>{place[label] + 1}</td><th scope=row>{text(entry.name)}</th>"
            f"<td class=number>{entry.videos}</td><td class=number>{entry.correct}</td>{accuracy}"
            f"<td class=number>{precision}</td><td class=number>{entry.unreadable or ''}</td>"
            f"<td class=words>{taken}</td></tr>"
        )
    heads = (
        "#no.", "class", "#videos", "#right", "#accuracy %", "95 % interval", "#precision %", "#unreadable",
        "mostly taken for",
    )  # fmt: skip
    return _table("Classes by accuracy", heads, rows, identifier="classes")


def _confidence(stored: StoredEvaluation) -> str:
    probabilities, reason = class_probabilities(stored)
    if probabilities is None:
        return f"<p>Histogram and reliability diagram are left out: {text(reason)}.</p>"
    bins = confidence_bins(probabilities, stored, _BINS)
    return (
        '<div class="charts"><figure class="chart"><figcaption>Videos by confidence:'
        ' <i class="key right"></i> right, <i class="key wrong"></i> wrong</figcaption>'
        f'{histogram(bins)}</figure><figure class="chart"><figcaption>Reliability: accuracy with 95 % intervals;'
        f" below the dashed line a model is less often right than it says</figcaption>{reliability(bins)}</figure>"
        f"</div>{numbers(bins)}"
    )


def _unreadable(stored: StoredEvaluation) -> str:
    failures = stored.predictions.failures
    if not failures:
        return "<p>Every video could be read.</p>"
    labels = stored.labels()
    rows = [
        f"<tr><th scope=row>{text(video)}</th><td class=words>{text(stored.classes[labels[video]])}</td>"
        f"<td class=words>{text(cause)}</td></tr>"
        for video, (_, cause) in sorted(failures.items())[:_LOST]
    ]
    more = len(failures) - len(rows)
    said = f"<p>{len(failures):,} of {stored.predictions.total:,} videos; each counts as wrong.</p>"
    rest = f"<p>{more:,} more are named in the record.</p>" if more else ""
    return said + _table("Videos that could not be read", ("video", "class", "cause"), rows) + rest


def _table(label: str, heads: Sequence[str], rows: Sequence[str], more_heads: str = "", *, identifier: str = "") -> str:
    """A table in a box of its own that scrolls, also with the keyboard; `#` begins the head of a column of numbers."""
    cells_ = "".join(
        f"<th scope=col class=number>{head[1:]}</th>" if head.startswith("#") else f"<th scope=col>{head}</th>"
        for head in heads
    )
    named = f' id="{identifier}"' if identifier else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table{named}><thead><tr>{cells_}'
        f"{more_heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
