"""Scores of the universes that the kept scores of all compared methods allow; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlbench.errors import DataError
from vlbench.evaluation.kept import KeptFacts
from vlbench.evaluation.universes import FUSIONS, right_videos, view_subsets
from vlbench.results.kept_file import AGAIN, KeptScores, read_facts, read_kept
from vlbench.results.kept_runs import KeptRun
from vlbench.results.multiverse import Choice, Multiverse
from vlbench.results.record import Record
from vlbench.results.stored import StoredEvaluation

OWN, TESTED = "each its own", "as tested"
"""Options that leave every method what it was tested with."""

RECORDED_CHOICES = ("class names", "split", "seed", "epoch")
"""Choices that records differ in; the others are made of what a record keeps."""


@dataclass
class MethodScores:
    """Kept scores of one method at one point of the choices that records differ in.

    Attributes:
        path: File of the record.
        record: Record of the evaluation.
        run: Training whose best epoch is meant; `None` for the scores of the record.
    """

    path: Path
    record: Record
    run: KeptRun | None = None

    @cached_property
    def facts(self) -> list[KeptFacts]:
        """What the kept scores are of; more than one where the best epoch may be that of the record."""
        return [read_facts(self.path, self.record), *([] if self.run is None else [self.run.facts])]

    def read(self) -> KeptScores:
        """The kept scores, once it is sure that they are those of the record.

        Raises:
            DataError: If a file is missing, damaged or not of the evaluation.
        """
        stored = StoredEvaluation.load(str(self.path), self.path.parent)
        kept = read_kept(self.path, self.record, stored.predictions)
        return kept if self.run is None else self.run.best(kept)

    @cached_property
    def views(self) -> dict[str, list[int]]:
        """Clips and crops that another test would look at -> positions of the views."""
        details = self.record.details
        clips, crops, edge = (details.views.get(name) for name in ("clips", "crops", "right_edge"))
        if not isinstance(clips, int) or not isinstance(crops, int) or all(facts.fused for facts in self.facts):
            return {self.record.identity.views: [0]}
        return view_subsets(clips, crops, details.sampling or "", str(edge))


@dataclass
class ComparedMethod:
    """One compared method.

    Attributes:
        records: Records of the method with their files.
        scores: Names, split, seed and epoch -> kept scores; seed and epoch are empty where nothing was trained.
    """

    records: list[tuple[Path, Record]] = field(default_factory=list)
    scores: dict[tuple[str, ...], MethodScores] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether the weights come from a training, so that seeds and epochs are choices."""
        return self.records[0][1].identity.weights is not None

    def at(self, point: Sequence[str]) -> tuple[str, ...]:
        """The point that holds the scores of a point of the comparison."""
        names, split, seed, epoch = point
        return (names, split, seed, epoch) if self.trained else (names, split, "", "")

    def options(self, axis: int) -> list[str]:
        """Options of a choice that records differ in."""
        return sorted({point[axis] for point in self.scores}, key=lambda text: (len(text), text))


def scored(setting: str, methods: Mapping[str, ComparedMethod], notes: list[str]) -> Multiverse:
    """Scores every universe.

    Args:
        setting: Name of the comparison.
        methods: Compared methods by their names.
        notes: Sentences for the reader, to which those on left out options are added.

    Raises:
        DataError: If the methods have no option of a choice in common, or nothing is left to choose.
    """
    outer = [_common(axis, methods, notes) for axis in range(len(RECORDED_CHOICES))]
    _check_whole(outer, methods)
    points = list(product(*outer))
    used = {
        name: [method.scores[key] for key in dict.fromkeys(method.at(point) for point in points)]
        for name, method in methods.items()
    }
    facts = {name: [each for scores in of for each in scores.facts] for name, of in used.items()}
    prompts = _prompts(facts, notes)
    views = _views(used, notes)
    fusions = _fusions(facts, used, notes)
    missing = any(scores.record.failures for of in used.values() for scores in of)
    inner = [prompts, views, fusions, ["count as wrong", "dropped"] if missing else ["count as wrong"]]
    sizes = tuple(map(len, (*outer, *inner)))
    accuracies = np.empty((len(methods), *sizes))
    # Most of the time goes into numpy's loops, which let other threads work.
    with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
        tables = [
            {key: pool.submit(_table, method.scores[key], *inner) for key in {*map(method.at, points)}}
            for method in methods.values()
        ]
        for row, (method, table) in enumerate(zip(methods.values(), tables, strict=True)):
            for position, point in zip(np.ndindex(sizes[:4]), points, strict=True):
                accuracies[(row, *position)] = table[method.at(point)].result()
    names = (*RECORDED_CHOICES, "prompts", "views", "fusion", "missing videos")
    choices = tuple(Choice(name, tuple(values)) for name, values in zip(names, (*outer, *inner), strict=True))
    free = [axis for axis, choice in enumerate(choices) if len(choice.options) > 1]
    if not free:
        raise DataError(
            "the records leave nothing to choose: one split, one seed, one set of templates and one view; test again"
            " with --record.keep=[views,templates], with more views or seeds"
        )
    fixed = [f"{choice.name} {choice.options[0]}" for choice in choices if len(choice.options) == 1]
    notes.append(f"the same in every universe: {', '.join(fixed)}" if fixed else "no choice is fixed")
    return Multiverse(
        setting,
        tuple(methods),
        tuple(choices[axis] for axis in free),
        accuracies.reshape(len(methods), *(sizes[axis] for axis in free)),
        tuple(_recorded(choices[axis]) for axis in free),
        tuple(dict.fromkeys(notes)),
    )


def _recorded(choice: Choice) -> int:
    """The option that records have: the first, or the last of the views, which are all of them."""
    if choice.name == "epoch" and "last" in choice.options:
        return choice.options.index("last")
    return len(choice.options) - 1 if choice.name == "views" else 0


def _common(axis: int, methods: Mapping[str, ComparedMethod], notes: list[str]) -> list[str]:
    """Options of a choice that every method has which has the choice."""
    deciding = {name: method for name, method in methods.items() if method.trained or axis < 2}
    if not deciding:
        return ["none"]
    options = [method.options(axis) for method in deciding.values()]
    common = [option for option in options[0] if all(option in other for other in options)]
    if not common:
        there = "; ".join(f"{name}: {', '.join(of)}" for name, of in zip(deciding, options, strict=True))
        raise DataError(f"the methods have no {RECORDED_CHOICES[axis]} in common ({there}); test them on one")
    for name, of in zip(deciding, options, strict=True):
        left = [option for option in of if option not in common]
        if left:
            notes.append(
                f"{RECORDED_CHOICES[axis]} {', '.join(left)} is left out: {name} has it, another method does not"
            )
    return common


def _check_whole(outer: Sequence[Sequence[str]], methods: Mapping[str, ComparedMethod]) -> None:
    for name, method in methods.items():
        for point in product(*outer):
            if method.at(point) not in method.scores:
                said = ", ".join(f"{axis} {option}" for axis, option in zip(RECORDED_CHOICES, point, strict=True))
                raise DataError(f"{name} has no record of {said}; test it, or give folders without the others of these")


def _prompts(facts: Mapping[str, Sequence[KeptFacts]], notes: list[str]) -> list[str]:
    """Sets of templates that the scores of every method are kept with; first what the records have."""
    having = [each for of in facts.values() for each in of if each.prompts_option]
    without = [name for name, of in facts.items() if not any(each.prompts_option for each in of)]
    if not having:
        return [OWN]
    if without:
        notes.append(f"no templates change the scores of {', '.join(without)}")
    configured = {each.prompts[0] for each in having}
    common = [name for name in having[0].prompts if all(name in other.prompts for other in having)]
    return common if len(configured) == 1 else [OWN, *common]


def _views(used: Mapping[str, Sequence[MethodScores]], notes: list[str]) -> list[str]:
    """Views that every test would have looked at; last what the records have."""
    every = [scores for of in used.values() for scores in of]
    tested = {scores.record.identity.views for scores in every}
    common = [name for name in every[0].views if all(name in scores.views for scores in every)]
    if any(facts.fused for scores in every for facts in scores.facts) and tested != {"1x1"}:
        notes.append(f"some scores are of fused views, so that views and fusion are no choices; {AGAIN}")
        return [TESTED]
    return common if len(tested) == 1 else [*common, TESTED]


def _fusions(
    facts: Mapping[str, Sequence[KeptFacts]], used: Mapping[str, Sequence[MethodScores]], notes: list[str]
) -> list[str]:
    """Ways to fuse the views, where some method has the option and more than one view; first what the records have."""
    every = [each for of in facts.values() for each in of]
    having = [each for each in every if each.fusion_option]
    single = all(
        len(scores.views) == 1 and scores.record.identity.views == "1x1" for of in used.values() for scores in of
    )
    if single or not having or any(each.fused for each in every):
        return [OWN]
    without = [name for name, of in facts.items() if not any(each.fusion_option for each in of)]
    if without:
        notes.append(f"how views are fused is no option of {', '.join(without)}")
    configured = {each.fusion for each in having}
    return (
        [*configured, *(name for name in FUSIONS if name not in configured)]
        if len(configured) == 1
        else [OWN, *FUSIONS]
    )


def _table(
    scores: MethodScores, prompts: Sequence[str], views: Sequence[str], fusions: Sequence[str], missing: Sequence[str]
) -> NDArray[np.float64]:
    """Accuracies of one method in per cent, float64 with a dimension for each of these choices."""
    kept = scores.read()
    facts, everything = kept.facts, range(kept.scores.shape[2])
    subsets = [list(everything) if view == TESTED else scores.views[view] for view in views]
    ways = [facts.fusion if how == OWN or not facts.fusion_option else how for how in fusions]
    right = np.empty((len(prompts), len(views), len(fusions)), np.int64)
    known: dict[int, NDArray[np.int64]] = {}
    for row, name in enumerate(prompts):
        place = 0 if name == OWN or not facts.prompts_option else facts.prompts.index(name)
        if place not in known:
            of_set = kept.scores[:, place]
            if not kept.ids:  # nothing says how many views there would be
                known[place] = np.zeros((len(views), len(fusions)), np.int64)
            elif facts.fused:
                hits = int((of_set[:, 0].argmax(axis=1) == kept.labels).sum())
                known[place] = np.full((len(views), len(fusions)), hits)
            else:
                known[place] = right_videos(of_set, kept.labels, facts.scale, subsets, ways)
        right[row] = known[place]
    readable = len(kept.ids)
    totals = {"count as wrong": readable + len(kept.lost), "dropped": readable}
    return np.stack([100 * right / max(totals[how], 1) for how in missing], axis=-1)
