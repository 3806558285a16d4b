"""Metrics of scores, with many ties, on the path of a test and on that of stored scores."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy

from vlbench.errors import DataError
from vlbench.evaluation import metrics, stored_scores
from vlbench.evaluation.metrics import Predictions
from vlbench.evaluation.stored_scores import StoredScores, hits_at

pytestmark = pytest.mark.quick

POINTS = 1e-5
"""How far a metric in single precision may be from ours, in per cent."""


def both(scores, labels, failures):
    """The same scores as torch and as numpy has them."""
    scores, labels = np.asarray(scores, np.float32), np.asarray(labels, np.int64)
    ids = [f"v{index}" for index in range(len(labels))]
    tensors = (torch.from_numpy(scores), torch.from_numpy(labels))
    return (
        Predictions(ids, tensors[1], tensors[0], tensors[0], tensors[0], failures),
        StoredScores(ids, labels, scores, scores, scores, failures),
    )


@st.composite
def evaluations(draw, min_videos=0, min_classes=2):
    """Scores with many ties, few classes, unreadable videos, classes without videos."""
    classes, videos = draw(st.integers(min_classes, 24)), draw(st.integers(min_videos, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([2, 5, 10**6]))
    scores = random.integers(0, levels, (videos, classes)).astype(np.float32) / levels
    occurring = random.permutation(classes)[: draw(st.integers(1, classes))]
    failures = {f"bad{index}": (int(random.choice(occurring)), "empty") for index in range(draw(st.integers(0, 5)))}
    return scores, random.choice(occurring, videos), failures


def by_definition(scores, labels, failures, k):
    """Whether each video's class is among its k best, with a sort that leaves equal scores in the order of the classes;
    unreadable videos are wrong."""
    k = min(k, scores.shape[1])
    best = [sorted(range(len(row)), key=lambda index, row=row: -row[index])[:k] for row in scores]
    return [label in row for label, row in zip(labels, best, strict=True)] + [False] * len(failures)


@settings(max_examples=150, deadline=None)
@given(evaluations())
def test_ties_break_by_the_index_of_the_class_on_every_path(case):
    scores, labels, failures = case
    predictions, stored = both(*case)
    found = metrics.classification_metrics(predictions)
    assert found == pytest.approx(stored_scores.classification_metrics(stored), rel=0, abs=0, nan_ok=True)
    if stored.total:
        for k in (1, 5):
            assert found[f"top{k}"] == pytest.approx(
                100 * np.mean(by_definition(scores, labels, failures, k)), abs=1e-9
            )
    first = [max(range(len(row)), key=lambda index, row=row: row[index]) for row in scores]
    assert stored.best.tolist() == first
    try:
        halves = stored_scores.half_class_metrics(stored)
    except DataError:
        return  # a half of one class
    assert metrics.half_class_metrics(predictions) == halves
    lost = np.array([label for label, _ in failures.values()], dtype=np.int64)
    hits = []
    for seed in range(10):
        half = np.random.RandomState(seed).permutation(scores.shape[1])[: scores.shape[1] // 2]
        rows = np.isin(labels, half)
        candidates = sorted({*labels[rows].tolist(), *lost[np.isin(lost, half)].tolist()})
        targets = [candidates.index(label) for label in labels[rows]]
        right = by_definition(scores[rows][:, candidates], targets, lost[np.isin(lost, half)], 1)
        hits.append(100 * np.mean(right))
    assert halves["half_top1"] == pytest.approx(np.mean(hits), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(evaluations(min_videos=1))
def test_accuracies_are_those_of_torchmetrics(case):
    scores, labels, _ = case
    assume(len(np.unique(scores)) == scores.size)  # torchmetrics leaves ties at the fifth place to torch.topk
    _, stored = both(scores, labels, {})
    found, classes = stored_scores.classification_metrics(stored), scores.shape[1]
    given_, wanted = torch.from_numpy(scores), torch.from_numpy(labels)
    for k in (1, 5):
        value = multiclass_accuracy(given_, wanted, classes, top_k=min(k, classes), average="micro")
        assert found[f"top{k}"] == pytest.approx(100 * value.item(), abs=POINTS)
    by_class = multiclass_accuracy(given_, wanted, classes, average="none")[np.unique(labels)]
    assert found["mean_per_class"] == pytest.approx(100 * by_class.mean().item(), abs=POINTS)


def test_of_equal_scores_the_first_class_is_the_best():
    scores = np.array([[1, 1, 0], [0, 1, 1], [2, 2, 2]], np.float32)
    _, stored = both(scores, [0, 0, 0], {})
    assert stored.best.tolist() == [0, 1, 0]
    for label, hits in ((0, [True, False, True]), (1, [False, True, False]), (2, [False, False, False])):
        assert hits_at(scores, np.full(3, label), 1).tolist() == hits
    assert hits_at(scores, np.array([1, 2, 2]), 2).tolist() == [True, True, False]


def test_a_tie_at_the_fifth_place_goes_to_the_smaller_index():
    """Where `torch.topk` names another class than the first."""
    scores = np.zeros((64, 40), np.float32)
    scores[:, 20:24] = 1
    labels = np.tile([0, 1, 19, 39], 16)
    predictions, stored = both(scores, labels, {})
    for found in (metrics.classification_metrics(predictions), stored_scores.classification_metrics(stored)):
        assert (found["top1"], found["top5"]) == (0.0, 25.0)


def test_what_is_not_a_number_is_never_right():
    nan = float("nan")
    scores = np.array([[nan, 0, 0], [0, nan, 1], [nan, nan, nan]], np.float32)
    assert hits_at(scores, np.array([0, 2, 0]), 1).tolist() == [False, False, False]
    assert hits_at(scores, np.array([0, 2, 0]), 2).tolist() == [False, True, False]


def test_a_half_of_one_class_is_refused():
    _, stored = both(np.eye(4), [0, 0, 1, 1], {})
    with pytest.raises(DataError, match=r"has videos of [01] classes"):
        stored_scores.half_class_metrics(stored)
