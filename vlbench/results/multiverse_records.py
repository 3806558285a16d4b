"""The records of one comparison, method by method, for its multiverse; imports no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlbench.datasets.specs import collection
from vlbench.errors import DataError
from vlbench.results.comparison import ComparisonKey
from vlbench.results.kept_file import AGAIN
from vlbench.results.kept_runs import KeptRun, unnamed_epochs
from vlbench.results.leaderboard import check_provenance
from vlbench.results.multiverse import Multiverse
from vlbench.results.multiverse_scores import ComparedMethod, MethodScores, scored
from vlbench.results.options import differing, settings_of
from vlbench.results.pairs import read_records, record_paths
from vlbench.results.record import MAP, Record, lineage

_OF_TEST = frozenset({"prompts", "view_fusion", "data.dataset", *(f"data.clip.views.{n}" for n in ("clips", "crops"))})
"""Settings of a test that the choices of a protocol change."""


def multiverse(
    folders: Sequence[Path],
    *,
    protocol: str | None = None,
    dataset: str | None = None,
    shots: str | None = None,
    classes: str | None = None,
    allow_dirty: bool = False,
) -> Multiverse:
    """Scores every protocol that the records below some folders allow.

    Args:
        folders: Results folders, searched for records.
        protocol: Protocol of the comparison, where there are records of several.
        dataset: Dataset of the comparison without a variant, where there are records of several.
        shots: Training videos a class, a number or `all`, where there are records of several.
        classes: Class set, `all`, `base` or `novel`, where there are records of several.
        allow_dirty: Take records of code that differed from its commit.

    Raises:
        DataError: If records do not compare, keep no scores, do not fit them, or leave nothing to choose.
    """
    pairs = list(dict(zip(record_paths(folders), read_records(folders), strict=True)).items())
    setting, compared = _compared(pairs, (protocol, dataset, shots, classes), folders)
    check_provenance([record for _, record in compared], allow_dirty=allow_dirty)
    _check_kept(compared)
    _check_comparable(compared)
    notes: list[str] = []
    methods = _methods(compared, folders, notes)
    return scored(setting, methods, notes)


def _shots(record: Record) -> str:
    """Training videos a class of the tested dataset as the command line names them; empty if none of them train."""
    return str(record.identity.shots or "")


def _compared(
    pairs: Sequence[tuple[Path, Record]], wanted: tuple[str | None, ...], folders: Sequence[Path]
) -> tuple[str, list[tuple[Path, Record]]]:
    """The records of one comparison; those without a training on the dataset compare with every number of shots."""
    settings: dict[tuple[str, str, str], list[tuple[Path, Record]]] = {}
    shots = wanted[2]
    for path, record in pairs:
        identity = record.identity
        key = (identity.protocol, identity.collection, identity.test.classes)
        if all(want in (None, has) for want, has in zip((wanted[0], wanted[1], wanted[3]), key, strict=True)):
            settings.setdefault(key, []).append((path, record))
    groups: dict[tuple[str, str, str, str], list[tuple[Path, Record]]] = {}
    for (name, data, classes), members in settings.items():
        numbers = {_shots(record) for _, record in members} - {""} or {""}
        for number in sorted(numbers if shots is None else numbers & {shots}):
            groups[name, data, number, classes] = [pair for pair in members if _shots(pair[1]) in ("", number)]
    if len(groups) != 1:
        there = "; ".join(f"{name}, {data}, {number or 0} shots, {kind}" for name, data, number, kind in groups)
        raise DataError(
            f"{', '.join(map(str, folders))} hold records of {len(groups)} comparisons"
            + (f" ({there}); choose one by --protocol, --dataset, --shots and --classes" if groups else
               "; give folders of records, and a protocol, dataset, shots and classes that they have")
        )  # fmt: skip
    (((name, data, number, kind), members),) = groups.items()
    return f"{name}, {data}, {number + ' shots, ' if number else ''}{kind} classes", members


def _check_comparable(compared: Sequence[tuple[Path, Record]]) -> None:
    """Refuses records that the leaderboard does not rank together, but for what is a choice of the protocol here."""
    first: dict[str, tuple[Path, object]] = {}
    for path, record in compared:
        for name, value in _alike(record):
            other, before = first.setdefault(name, (path, value))
            if value is None or value != before:
                raise DataError(
                    f"{path} and {other} do not compare: {name} {_shown(value, before)} in the one and"
                    f" {_shown(before, value)} in the other; test both alike, or leave one out"
                )


def _alike(record: Record) -> Iterator[tuple[str, object]]:
    """What records have in common that compare; the names and values of a record, the beginning of a sentence each."""
    identity = record.identity
    key = ComparisonKey.of([record], identity.shots)
    yield "the order of the frames is", key.order
    yield "the videos were stored as", key.stored or "video files"
    yield "the weights are", "those that a training begins with" if key.untrained else "those of a method"
    if identity.shots:
        yield "the classes that were trained on are", ", ".join(key.train_classes)
        yield "the lists of training videos are of", ", ".join(key.train_lists)
    (tested,) = key.tests
    of_split = f"of split {tested.split}"
    yield f"the test list {of_split} is", tested.list_name or "not known"
    yield f"the number of test videos {of_split} is", tested.expected
    yield f"the digest of the test videos {of_split} is", tested.digest
    yield f"the unreadable videos {of_split} are", tested.unreadable
    # The classes have other names in another variant of the dataset, which is a choice.
    yield f"the names of the classes of {identity.dataset} {of_split} are", tested.class_names


def _shown(value: object, other: object) -> str:
    """A value of a message beside another one; of names their number and those in which the two differ."""
    if not isinstance(value, tuple) or not isinstance(other, tuple):
        return str(value)
    alone = [each for each in value if each not in other] or [a for a, b in zip(value, other, strict=False) if a != b]
    more = ", .." if len(alone) > 5 else ""
    return f"{len(value)}" + (f" ({', '.join(map(str, alone[:5]))}{more})" if alone else "")


def _check_kept(compared: Sequence[tuple[Path, Record]]) -> None:
    several = [path for path, record in compared if MAP in record.metrics]
    if several:
        raise DataError(
            f"{several[0]} is of videos that may have several labels, which have a mean average precision and no other"
            " protocol is scored of; leave it out"
        )
    without = [path for path, record in compared if record.details.kept is None]
    if without:
        raise DataError(
            f"{len(without)} of {len(compared)} records have no scores of single views and templates beside them, such"
            f" as {without[0]}; {AGAIN}, or a suite by an overlay `record: {{keep: [views, templates]}}`"
        )


def _methods(
    compared: Sequence[tuple[Path, Record]], folders: Sequence[Path], notes: list[str]
) -> dict[str, ComparedMethod]:
    """The compared methods by their names."""
    groups: dict[str, ComparedMethod] = {}
    for path, record in compared:
        method = groups.setdefault(_method_key(record), ComparedMethod())
        method.records.append((path, record))
    counted = Counter(method.records[0][1].identity.method for method in groups.values())
    named: dict[str, ComparedMethod] = {}
    for name, count in counted.items():
        same = [method for method in groups.values() if method.records[0][1].identity.method == name]
        options = differing([{**(settings_of(m.records[0][1]) or {}), **_more(m.records[0][1])} for m in same])
        for method, text in zip(same, options, strict=True):
            untrained = " (untrained)" if method.records[0][1].identity.untrained else ""
            title = f"{name}{untrained}" if count == 1 else f"{name}{untrained}, {text}"
            named[title if title not in named else f"{title} ({len(named) + 1})"] = method
    for name, method in named.items():
        for path, record in method.records:
            identity = record.identity
            trained = (str(identity.seed), identity.selection) if method.trained else ("", "")
            point = (identity.dataset, str(identity.test.split), *trained)
            if point in method.scores:
                raise DataError(
                    f"{path} and {method.scores[point].path} are the same method under two protocols, which the kept"
                    " scores of one of them hold; give only one"
                )
            method.scores[point] = MethodScores(path, record)
        _add_epochs(name, method, folders, notes)
    return named


def _add_epochs(name: str, method: ComparedMethod, folders: Sequence[Path], notes: list[str]) -> None:
    """Adds the epoch that is the best on the test videos where the epochs of the training were kept."""
    for point, scores in list(method.scores.items()):
        if point[3] != "last" or (*point[:3], "best_on_test") in method.scores:
            continue
        if not scores.record.details.epochs:
            there = unnamed_epochs(folders, scores.record)
            if there is not None:
                notes.append(
                    f"the epochs of {name} are left out: {scores.path} does not name those in {there} by their digests;"
                    " train and test again, with one record.folder"
                )
            continue
        run = KeptRun.of(scores.path, scores.record)
        if run.agrees(scores.read()):
            method.scores[*point[:3], "best_on_test"] = MethodScores(scores.path, scores.record, run)
        else:
            notes.append(
                f"the epochs of {name} are left out: the last one in {run.epochs[-1][0].parent} is of other weights,"
                f" videos, views or options than {scores.path}"
            )


def _more(record: Record) -> dict[str, object]:
    identity = record.identity
    train = {} if identity.train is None else {"classes": identity.train.classes, "shots": identity.train.shots}
    return {
        "backbone": identity.backbone,
        "frames": identity.frames,
        "train": str(identity.train_dataset),
        "train_list": lineage(identity.train_list),
        **{f"train_{name}": value for name, value in train.items()},
    }


def _method_key(record: Record) -> str:
    """What tells two methods apart: all but what a choice of the protocol changes."""
    identity, details = record.identity, record.details
    test = {name: value for name, value in details.settings.items() if name not in _OF_TEST}
    training = {
        name: value
        for name, value in details.training_settings.items()
        if name != "data.dataset" and not name.startswith("validation.")
    }
    train = None if identity.train is None else (identity.train.classes, identity.train.shots)
    lists = (collection(identity.train_dataset or ""), lineage(identity.train_list), train)
    key = [identity.method, identity.backbone, identity.frames, identity.untrained, lists, test, training]
    return json.dumps(key, sort_keys=True)
