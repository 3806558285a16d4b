"""The metrics of stored scores are those of the records, without torch."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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


def boundary_tie(scores, k=5):
    """Whether the k-th and the next place of a row are equal: `torch.topk` promises nothing then."""
    k = min(k, scores.shape[1])
    best = np.sort(scores, axis=1)[:, ::-1]
    return k < scores.shape[1] and (best[:, k - 1] == best[:, k]).any()


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


@settings(max_examples=150, deadline=None)
@given(evaluations())
def test_accuracies_are_those_of_records(case):
    predictions, stored = both(*case)
    expected, found = metrics.classification_metrics(predictions), stored_scores.classification_metrics(stored)
    assert expected.keys() == found.keys()
    if len(case[0]) and boundary_tie(case[0]):
        del expected["top5"], found["top5"]
    assert found == pytest.approx(expected, rel=0, abs=POINTS, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(evaluations(min_videos=10, min_classes=4))
def test_halves_are_those_of_records(case):
    predictions, stored = both(*case)
    try:
        found = stored_scores.half_class_metrics(stored)
    except DataError:
        assume(False)  # a half of one class: torchmetrics refuses it too
    expected = metrics.half_class_metrics(predictions)
    if boundary_tie(case[0]) or len(np.unique(case[0])) < case[0].size:
        expected = {key: value for key, value in expected.items() if "top5" not in key}
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=0, abs=POINTS)


def test_halves_of_many_videos_are_those_of_records():
    random = np.random.default_rng(0)
    labels = random.integers(0, 101, 3000)
    scores = random.normal(size=(3000, 101)) + 2 * np.eye(101)[labels]
    predictions, stored = both(scores, labels, {"bad": (3, "empty")})
    expected = metrics.half_class_metrics(predictions)
    assert stored_scores.half_class_metrics(stored) == pytest.approx(expected, rel=0, abs=POINTS)
    assert 20 < expected["half_top1"] < 90


def test_of_equal_scores_the_first_class_is_the_best():
    scores = np.array([[1, 1, 0], [0, 1, 1], [2, 2, 2]], np.float32)
    predictions, stored = both(scores, [0, 0, 0], {})
    assert stored.best.tolist() == predictions.scores.argmax(dim=1).tolist() == [0, 1, 0]
    for label, hits in ((0, [True, False, True]), (1, [False, True, False]), (2, [False, False, False])):
        assert hits_at(scores, np.full(3, label), 1).tolist() == hits
    assert hits_at(scores, np.array([1, 2, 2]), 2).tolist() == [True, True, False]


def test_what_is_not_a_number_is_never_right():
    nan = float("nan")
    scores = np.array([[nan, 0, 0], [0, nan, 1], [nan, nan, nan]], np.float32)
    assert hits_at(scores, np.array([0, 2, 0]), 1).tolist() == [False, False, False]
    assert hits_at(scores, np.array([0, 2, 0]), 2).tolist() == [False, True, False]


def test_a_half_of_one_class_is_refused():
    _, stored = both(np.eye(4), [0, 0, 1, 1], {})
    with pytest.raises(DataError, match=r"has videos of [01] classes"):
        stored_scores.half_class_metrics(stored)
