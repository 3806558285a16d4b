"""Probabilities and confidences of stored scores."""

from dataclasses import replace

import numpy as np
import pytest

from tests.results.fakes import store
from vlbench.evaluation.measures import Calibration
from vlbench.evaluation.statistics import wilson_interval
from vlbench.results.confidence import class_probabilities, confidence_bins
from vlbench.results.stored import StoredEvaluation

pytestmark = pytest.mark.quick


def evaluation(folder, scores, labels, fusion=None):
    store(folder, "run", scores, labels, failures={"lost.mp4": 0})
    loaded = StoredEvaluation.load("run", folder)
    details = replace(loaded.record.details, settings={} if fusion is None else {"view_fusion": fusion})
    return replace(loaded, record=replace(loaded.record, details=details))


def random_logits(videos=50):
    random = np.random.default_rng(0)
    return 4 * random.normal(size=(videos, 4)), random.integers(0, 4, videos)


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("fusion", [None, "probabilities"])
def test_scores_that_are_probabilities_are_taken_as_they_are(tmp_path, fusion):
    logits, labels = random_logits()
    given, reason = class_probabilities(evaluation(tmp_path, softmax(logits), labels, fusion))
    assert given == pytest.approx(softmax(logits), abs=1e-6)
    assert reason == ""


def test_logits_become_probabilities_however_large_they_are(tmp_path):
    logits, labels = random_logits()
    given, _ = class_probabilities(evaluation(tmp_path, logits + 2000, labels, "logits"))
    assert given == pytest.approx(softmax(logits), abs=1e-3)


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        ("cosines", "which factor makes them logits (view_fusion cosines)"),
        (None, "which factor makes them logits"),
        ("softmax_of_mean", "softmax of softmaxed cosines"),
    ],
)
def test_what_gives_no_probabilities_says_why(tmp_path, fusion, words):
    logits, labels = random_logits()
    scores = softmax(softmax(logits)) if fusion == "softmax_of_mean" else logits / 50
    given, reason = class_probabilities(evaluation(tmp_path, scores, labels, fusion))
    assert given is None
    assert words in reason


def test_videos_are_counted_by_the_probability_of_their_best_class(tmp_path):
    scores = [[0.96, 0.04, 0, 0], [0.94, 0.06, 0, 0], [1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.1, 0.3, 0.3, 0.3]]
    loaded = evaluation(tmp_path, scores, [0, 1, 0, 0, 2])
    probabilities, _ = class_probabilities(loaded)
    bins = confidence_bins(probabilities, loaded, 10)
    assert [(each.videos, each.correct) for each in bins] == [
        (0, 0), (0, 0), (1, 1), (1, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (3, 2),
    ]  # fmt: skip
    assert sum(each.videos for each in bins) == 5  # the unreadable video has no confidence
    assert bins[9].confidence == pytest.approx((0.96 + 0.94 + 1) / 3)
    assert bins[9].interval[0] < 2 / 3 < bins[9].interval[1]
    assert (bins[0].confidence, bins[0].interval) == (None, None)


def test_a_bin_has_its_lower_end_and_the_interval_of_its_own_accuracy(tmp_path):
    scores = [[0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0], [0.5, 0.25, 0.125, 0.125], [0.59, 0.41, 0, 0], [1, 0, 0, 0]]
    loaded = evaluation(tmp_path, scores, [0, 0, 0, 1, 0])
    bins = confidence_bins(np.array(scores), loaded, 10)
    assert [each.videos for each in bins] == [0, 0, 0, 0, 0, 4, 0, 0, 0, 1]
    assert (bins[5].low, bins[5].high, bins[5].correct) == (0.5, 0.6, 3)
    assert bins[5].interval == wilson_interval(3, 4)
    assert bins[9].interval == wilson_interval(1, 1)


def test_a_confidence_is_the_probability_of_the_class_that_was_named(tmp_path):
    """Scores decide, of which a fusion of views may have another best class than the probabilities."""
    loaded = evaluation(tmp_path, [[0.3, 0.25, 0.25, 0.2]], [0])
    (low, high) = confidence_bins(np.array([[0.4, 0.6, 0, 0]]), loaded, 2)
    assert (low.videos, low.correct, low.confidence, high.videos) == (1, 1, 0.4, 0)


@pytest.mark.parametrize("fusion", ["cosines", "softmax_of_mean", "logits"])
def test_the_rule_that_a_record_states_goes_before_its_options(tmp_path, fusion):
    logits, labels = random_logits()
    scores = softmax(softmax(logits)) if fusion == "softmax_of_mean" else logits / 50
    source = "cosines" if fusion == "softmax_of_mean" else "scores"
    stated = {"videos": 50, "source": source, "factor": 50.0}
    store(tmp_path, "run", scores, labels, cosines=logits / 50, calibration=stated)
    loaded = StoredEvaluation.load("run", tmp_path)
    options = replace(loaded.record.details, settings={"view_fusion": fusion})
    loaded = replace(loaded, record=replace(loaded.record, details=options))
    assert class_probabilities(loaded)[0] == pytest.approx(softmax(logits), abs=1e-5)
    votes = replace(loaded.record.details, calibration=Calibration(50, reason="shares of votes"))
    without = replace(loaded, record=replace(loaded.record, details=votes))
    assert class_probabilities(without) == (None, "shares of votes")
