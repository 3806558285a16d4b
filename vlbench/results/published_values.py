"""Results of the literature, each with its source; where sources contradict each other, all values are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from csv import DictReader
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vlbench.datasets.specs import collection
from vlbench.results.row import Setting

_ASSETS = Path(__file__).parent / "assets"
_ROUNDING = 0.0501  # of sources with one decimal
_BACKBONE = re.compile(r"(?P<family>ViT|ViCLIP)-(?P<size>[BL])-(?P<patch>\d+)(-quickgelu)?")


@dataclass(frozen=True)
class PublishedResult:
    """One number of one source. What the source does not say is `None` or empty.

    Attributes:
        protocol: `zero_shot`, `few_shot`, `base_to_novel` or `fully_supervised`.
        dataset: Name of the dataset in vlbench; test sets that go by one name and are not one have names of their own.
        shots: Training videos a class.
        method: Method as the literature calls it.
        backbone: Backbone as the literature calls it, such as `CLIP ViT-B/16`.
        frames: Frames of a view.
        views: Views of a video, `clips x crops`.
        selection: Which checkpoint: `last` or `best_on_test`.
        over: What it is the mean of, `3 splits` or `3 seeds`, or the single split or seed.
        metric: `top1`, `top5`, `base`, `novel`, `hm` or `map`.
        value: Published value in per cent.
        std: Standard deviation of the mean, in points.
        params_m: Trainable parameters in millions.
        origin: `reported` by those who ran it, `rerun` by others than the method's authors, or `quoted` from elsewhere.
        source: Key of the source in `sources()`.
        note: What else is particular about it.
    """

    protocol: str
    dataset: str
    shots: int | None
    method: str
    backbone: str
    frames: int | None
    views: str
    selection: str
    over: str
    metric: str
    value: float
    std: float | None
    params_m: float | None
    origin: str
    source: str
    note: str

    @property
    def subject(self) -> tuple[object, ...]:
        """What it is about, without what sources often leave out."""
        return self.protocol, self.dataset, self.shots, self.method, self.backbone, self.over, self.metric

    def contradicts(self, other: PublishedResult) -> bool:
        """Whether both state the same result, as far as they say, with values that differ by more than rounding."""
        stated = ("frames", "views", "selection")
        return (
            abs(self.value - other.value) > _ROUNDING
            and self.subject == other.subject
            and all(_agree(getattr(self, key), getattr(other, key)) for key in stated)
        )


def _optional(convert: Callable[[str], object]) -> Callable[[str], object]:
    return lambda text: convert(text) if text else None


_CONVERTERS = dict.fromkeys((field.name for field in fields(PublishedResult)), str) | {
    "shots": _optional(int),
    "frames": _optional(int),
    "value": float,
    "std": _optional(float),
    "params_m": _optional(float),
}


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """All of them, in the order of the file."""
    with (_ASSETS / "published.csv").open(newline="") as file:
        return tuple(
            PublishedResult(
                **{key: convert(row[key]) for key, convert in _CONVERTERS.items()},  # type: ignore[arg-type]
            )
            for row in DictReader(file)
        )


@cache
def sources() -> dict[str, tuple[str, str]]:
    """Key -> title and address, which may be empty."""
    with (_ASSETS / "sources.csv").open(newline="") as file:
        return {row["key"]: (row["title"], row["url"]) for row in DictReader(file)}


@cache
def practices() -> dict[str, str]:
    """Method as the literature calls it -> what is known to differ between the practice behind its values and ours."""
    with (_ASSETS / "practices.csv").open(newline="") as file:
        return {row["method"]: row["practice"] for row in DictReader(file)}


def contradictions(result: PublishedResult) -> list[PublishedResult]:
    """The results that contradict a result; see `PublishedResult.contradicts`."""
    return [other for other in _by_subject()[result.subject] if result.contradicts(other)]


@cache
def _by_subject() -> dict[tuple[object, ...], list[PublishedResult]]:
    by_subject: dict[tuple[object, ...], list[PublishedResult]] = {}
    for result in published_results():
        by_subject.setdefault(result.subject, []).append(result)
    return by_subject


def published_for(setting: Setting, names: Sequence[str], metric: str) -> list[PublishedResult]:
    """What the literature says about an evaluation of vlbench; those who ran it first, best described first.

    Frames, views and selection agree where a source states them. Lists and class names are not compared: sources do not
    state them.

    Args:
        setting: Setting of the evaluation.
        names: Names that published tables have for the method.
        metric: Metric of the published results, `top1` or `hm`.
    """
    name = collection(setting.dataset)
    where = (
        setting.protocol.partition("@")[0],
        {"k600": "kinetics600"}.get(name, name),
        setting.shots if isinstance(setting.shots, int) and setting.shots > 0 else None,
    )
    backbone = _literature_name(setting.backbone, setting.weights)
    stated = {"frames": setting.frames, "views": setting.views, "selection": setting.selection}
    results = [
        result
        for method in names
        for result in _by_key().get((*where, method, backbone, metric), ())
        if all(_agree(getattr(result, field), value) for field, value in stated.items())
    ]
    ranks = ("reported", "rerun", "quoted")
    return sorted(
        results, key=lambda result: (ranks.index(result.origin), sum(not getattr(result, field) for field in stated))
    )


@cache
def _by_key() -> dict[tuple[object, ...], list[PublishedResult]]:
    """Results by what `published_for` looks up; a single seed's stands for no mean."""
    results: dict[tuple[object, ...], list[PublishedResult]] = {}
    for each in published_results():
        if not each.over.startswith("seed"):
            key = (each.protocol, each.dataset, each.shots, each.method, each.backbone, each.metric)
            results.setdefault(key, []).append(each)
    return results


class PublishedColumns(NamedTuple):
    """Columns of a row: the published value of its score, whose it is with every value that contradicts it, and in what
    the practice behind it is known to differ."""

    published: float | None
    published_source: str
    published_practice: str
    difference: float | None


def published_beside(setting: Setting, names: Sequence[str], top1: float | None, hm: float | None) -> PublishedColumns:
    """What stands beside the score of a row.

    Args:
        setting: Setting of the row.
        names: Names that published tables have for the method.
        top1: Top-1 of the row, in per cent.
        hm: Harmonic mean of the row, in per cent; it is the score where there is one.
    """
    score, metric = (top1, "top1") if hm is None else (hm, "hm")
    if " " in setting.views:  # a counterfactual order of the frames, which is nobody's protocol
        return PublishedColumns(None, "", "", None)
    results = published_for(setting, names, metric)
    if not results or score is None:
        return PublishedColumns(None, "", "", None)
    best = results[0]
    others = {(other.value, other.source, other.origin) for other in (*results[1:], *contradictions(best))}
    notes = [f"{value} in {source} ({origin})" for value, source, origin in sorted(others) if value != best.value]
    source = "; ".join([f"{best.source} ({best.origin})", *notes])
    practice = [practices().get(best.method, ""), "here the videos are read as frames" if setting.stored else ""]
    return PublishedColumns(best.value, source, "; ".join(filter(None, practice)), round(score - best.value, 2))


def _agree(left: object, right: object) -> bool:
    """Equal, or one of them is not stated."""
    return not left or not right or left == right


def _literature_name(backbone: str, weights: str) -> str | None:
    match = _BACKBONE.fullmatch(backbone)
    if match is None or (match["family"] == "ViT" and weights.partition("+")[0] != "openai"):
        return None
    return f"{'CLIP ViT' if match['family'] == 'ViT' else 'ViCLIP'}-{match['size']}/{match['patch']}"
