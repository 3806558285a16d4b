"""Kept scores beside a record: what is written is read, and what is of another evaluation is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import save

from tests.results.test_multiverse import FACTS, LABELS, kept
from vlbench.errors import DataError
from vlbench.evaluation.kept import KeptFacts
from vlbench.results.kept_file import KeptScores, kept_path, parse_kept, read_kept, remove_stale, write_kept
from vlbench.results.kept_runs import KeptRun, epochs_beside, read_epoch
from vlbench.results.multiverse_records import multiverse
from vlbench.results.pairs import digest, write_pair
from vlbench.results.scores_file import write_scores
from vlbench.results.stored import StoredEvaluation

pytestmark = pytest.mark.quick


@pytest.fixture
def evaluation(tmp_path):
    """A record with kept scores, its scores, and the kept scores as they are read."""
    path = kept(tmp_path, "mote", lost={"lost.mp4": 1})
    stored = StoredEvaluation.load(str(path), tmp_path)
    return path, stored.record, stored.predictions, read_kept(path, stored.record, stored.predictions)


def test_what_is_written_is_read(evaluation):
    path, _, _, scores = evaluation
    written = replace(scores, epoch=3)
    content = kept_path(path, write_kept(written, path)).read_bytes()
    again = parse_kept(content, path)
    for name in ("labels", "scores"):
        np.testing.assert_array_equal(getattr(again, name), getattr(written, name))
        assert getattr(again, name).dtype == getattr(written, name).dtype
    for name in ("ids", "lost", "facts", "weights", "epoch"):
        assert getattr(again, name) == getattr(written, name)
    assert again.lost == {"lost.mp4": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda each: replace(each, ids=each.ids[::-1]), "is of other videos, classes or weights"),
        (lambda each: replace(each, labels=(each.labels + 1) % 4), "is of other videos, classes or weights"),
        (lambda each: replace(each, lost={}), "is of other videos, classes or weights"),
        (lambda each: replace(each, lost={"lost.mp4": 2}), "is of other videos, classes or weights"),
        (lambda each: replace(each, scores=each.scores[..., :3]), "is of other videos, classes or weights"),
        (lambda each: replace(each, weights="another"), "is of other videos, classes or weights"),
        (lambda each: replace(each, weights=None), "is of other videos, classes or weights"),
        (lambda each: replace(each, scores=each.scores * np.float32(1.001)), "does not give the scores"),
        (lambda each: replace(each, facts=replace(each.facts, fusion="cosines")), "does not give the scores"),
    ],
)
def test_scores_of_another_evaluation_are_refused_though_the_digest_fits(evaluation, change, said):
    path, record, stored, scores = evaluation
    digest = write_kept(change(scores), path)
    with pytest.raises(DataError, match=said):
        read_kept(path, replace(record, details=replace(record.details, kept=digest)), stored)


@pytest.mark.parametrize(("size", "wrong", "fits"), [(1.0, 3e-6, True), (1e3, 3e-3, True), (1e-3, 3e-6, False)])
def test_a_rounded_sum_is_told_from_another_score_by_the_largest_score(evaluation, size, wrong, fits):
    path, record, stored, scores = evaluation
    facts = replace(scores.facts, fusion="cosines")
    values = np.float32(size) * scores.scores / np.abs(scores.scores).max()
    values[0, 0, :, 0] = size
    digest = write_kept(replace(scores, scores=values, facts=facts), path)
    recorded = values[:, 0].mean(axis=1)
    recorded[1, 0] += np.float32(wrong)
    changed = replace(record, details=replace(record.details, kept=digest))
    if fits:
        assert read_kept(path, changed, replace(stored, scores=recorded)).facts == facts
        return
    with pytest.raises(DataError, match="does not give the scores"):
        read_kept(path, changed, replace(stored, scores=recorded))


def content_of(scores, tensors=(), **metadata):
    """A file of kept scores with other tensors or other metadata."""
    stated = {name: getattr(scores, name) for name in ("lost", "weights", "epoch")}
    stated |= {"ids": list(scores.ids), "facts": asdict(scores.facts), **metadata}
    values = {"labels": scores.labels, "scores": scores.scores, **dict(tensors)}
    values = {name: np.ascontiguousarray(value) for name, value in values.items() if value is not None}
    return save(values, {name: json.dumps(value) for name, value in stated.items()})


def test_a_file_that_is_none_of_kept_scores_is_refused(evaluation):
    path, _, _, scores = evaluation
    values, labels = scores.scores, scores.labels
    assert parse_kept(content_of(scores), path).facts == scores.facts
    nan = values.copy()
    nan[3, 1, 0, 2] = np.nan
    tensors = [
        {"labels": labels.astype(np.int32)}, {"labels": None}, {"labels": labels[:-1]}, {"labels": labels[:, None]},
        {"scores": values.astype(np.float64)}, {"scores": None}, {"scores": nan}, {"scores": values[:-1]},
        {"scores": values[:, :1]}, {"scores": values[:, :, 0]}, {"scores": values[..., None]},
        {"scores": values[:, :, :0]}, {"scores": values[..., :0]},
    ]  # fmt: skip
    metadata = [
        {"ids": list(scores.ids[:-1])}, {"ids": None}, {"lost": {"lost.mp4": "one"}}, {"weights": 3}, {"epoch": "1"},
        {"facts": {**asdict(scores.facts), "fusion": "median"}}, {"facts": {**asdict(scores.facts), "scale": "100"}},
        {"facts": {**asdict(scores.facts), "prompts": ["video"]}},
        {"facts": {name: value for name, value in asdict(scores.facts).items() if name != "fused"}},
    ]  # fmt: skip
    contents = [content_of(scores, each) for each in tensors] + [content_of(scores, **each) for each in metadata]
    facts = {**asdict(scores.facts), "prompts": []}
    contents.append(content_of(scores, {"scores": values[:, :0]}, facts=facts))
    for content in contents:
        with pytest.raises(DataError, match="is no file of kept scores"):
            parse_kept(content, path)


def test_a_head_without_templates_is_refused_before_the_scores_are_read(evaluation):
    path, record, _, scores = evaluation
    kept_path(path, record.details.kept).write_bytes(
        content_of(scores, {"scores": scores.scores[:, :0]}, facts={**asdict(scores.facts), "prompts": []})
    )
    with pytest.raises(DataError, match=r"is no file of kept scores: facts\.prompts is empty; allowed: one set"):
        multiverse([path.parents[1]])


def test_only_files_of_earlier_evaluations_of_the_name_are_removed(evaluation):
    path, _, _, scores = evaluation
    digests = [write_kept(replace(scores, epoch=epoch), path) for epoch in (1, 2)]
    others = [path.with_name(f"{name}.json") for name in ("mote-2", "[m]ote", "mot")]
    alone = [kept_path(other, write_kept(scores, other)) for other in others]
    remove_stale(path, digests[1])
    assert {*kept_path(path, digests[0]).parent.iterdir()} == {kept_path(path, digests[1]), *alone}
    remove_stale(others[1], None)
    assert {*kept_path(path, digests[0]).parent.iterdir()} == {kept_path(path, digests[1]), alone[0], alone[2]}


# Epochs ---------------------------------------------------------------------------------------------------------------


def write_epoch(folder, scores, epoch, *, subset="all-split1", right=None, **changes):
    """Kept scores of an epoch of the videos of kept scores, of which the first `right` are right; name and digest."""
    if right is not None:
        best = np.where(np.arange(len(scores.labels)) < right, scores.labels, (scores.labels + 1) % 4)
        values = np.eye(4, dtype=np.float32)[best][:, None, None]
        scores = replace(scores, scores=np.broadcast_to(values, scores.scores.shape).copy())
    name, content = f"msta-0123/epoch-{epoch:04}-{subset}.safetensors", replace(scores, epoch=epoch, **changes)
    path = folder / "epochs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.as_bytes())
    return {name: digest(content.as_bytes())}


def name_epochs(path, stored, epochs):
    """The record again, with the names of its epochs."""
    named = replace(stored.record, details=replace(stored.record.details, epochs=epochs))
    write_pair(named, partial(write_scores, stored.predictions, named), path.parents[1], path.stem)
    return named


def test_epochs_are_in_the_order_of_their_numbers(tmp_path):
    path = kept(tmp_path, "msta")
    stored = StoredEvaluation.load(str(path), tmp_path)
    scores = read_kept(path, stored.record, stored.predictions)
    epochs = {}
    for epoch in (12, 10_000, 2, 10, 9_999, 1):
        epochs |= write_epoch(tmp_path, scores, epoch, weights=f"w{epoch}")
    run = KeptRun.of(path, name_epochs(path, stored, epochs))
    assert [read_epoch(*each).weights for each in run.epochs] == ["w1", "w2", "w10", "w12", "w9999", "w10000"]


def test_a_record_names_the_epochs_of_its_test_set_that_lie_beside_it(tmp_path):
    path = kept(tmp_path, "msta", test={"classes": "all", "shots": None, "split": 2, "seed": 0})
    stored = StoredEvaluation.load(str(path), tmp_path)
    scores = read_kept(path, stored.record, stored.predictions)
    of_test = write_epoch(tmp_path, scores, 1, subset="all-split2")
    others = write_epoch(tmp_path, scores, 1, subset="all-split1")
    elsewhere = {"msta-9999/epoch-0001-all-split2.safetensors": "0" * 32}
    assert epochs_beside(path, {**others, **of_test, **elsewhere}, stored.record.identity.test) == of_test
    assert epochs_beside(path, None, stored.record.identity.test) == {}


def test_templates_that_the_epochs_were_not_kept_with_are_no_choice(tmp_path):
    path = kept(tmp_path, "msta", facts=replace(FACTS, prompts=("video", "bare", "photo")))
    stored = StoredEvaluation.load(str(path), tmp_path)
    scores = read_kept(path, stored.record, stored.predictions)
    fewer = replace(scores, scores=scores.scores[:, :2], facts=replace(scores.facts, prompts=("video", "bare")))
    epochs = write_epoch(tmp_path, fewer, 1, right=12, weights="e1") | write_epoch(tmp_path, fewer, 2)
    name_epochs(path, stored, epochs)
    outcome = multiverse([tmp_path])
    assert {choice.name: choice.options for choice in outcome.choices}["prompts"] == ("video", "bare")
    assert outcome.accuracies[(0, *outcome.index(epoch="best_on_test", prompts="bare"))] == 100


def test_a_record_of_the_best_epoch_comes_before_the_kept_epochs(tmp_path):
    path = kept(tmp_path, "msta")
    best = kept(tmp_path, "best", 5, method="msta", selection="best_on_test")
    stored, of_best = (StoredEvaluation.load(str(each), tmp_path) for each in (path, best))
    scores = read_kept(path, stored.record, stored.predictions)
    name_epochs(
        path, stored, write_epoch(tmp_path, scores, 1, right=12, weights="e1") | write_epoch(tmp_path, scores, 2)
    )
    outcome = multiverse([tmp_path])
    assert outcome.accuracies[(0, *outcome.index(epoch="best_on_test"))] == of_best.record.metrics["top1"]


def test_scores_of_fused_views_are_those_of_the_first_templates():
    scores = np.zeros((2, 2, 1, 3), np.float32)
    scores[0, 0, 0, 1] = scores[1, 0, 0, 2] = 1
    facts = KeptFacts(("video", "bare"), True, "logits", True, 100.0, True)
    np.testing.assert_array_equal(KeptScores(("a", "b"), LABELS[:2], scores, {}, facts).own, scores[:, 0, 0])
