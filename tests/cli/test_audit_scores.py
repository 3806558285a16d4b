"""Whether an audit gives the scores of its record again, but for what rounding moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.results.fakes import store
from vlbench.cli.counterfactual import _check_scores, _correct
from vlbench.errors import DataError
from vlbench.evaluation.stored_scores import StoredScores
from vlbench.results.stored import StoredEvaluation

pytestmark = pytest.mark.quick

PATH = Path("results/records/mine.json")
LABELS = [0, 1, 2, 3, 0]


@pytest.fixture
def stored(tmp_path):
    scores = np.random.default_rng(0).normal(size=(5, 4)) * 0.01
    return StoredEvaluation.load(str(store(tmp_path, "mine", scores, LABELS, failures={"lost.mp4": 1})), tmp_path)


def again(stored, *, order=slice(None), scores=None):
    """Scores of the same videos, which may come in another order or be others."""
    before = stored.predictions
    values = before.scores if scores is None else scores
    ids = np.array(before.ids)[order].tolist()
    return StoredScores(ids, before.labels[order], values[order], values[order], values[order], before.failures)


def test_a_video_that_cannot_be_read_is_wrong_and_the_others_are_asked_for_their_best_class(stored):
    scores = np.eye(4, dtype=np.float32)[[0, 1, 2, 0, 1]]
    right = {"v0.mp4": True, "v1.mp4": True, "v2.mp4": True, "v3.mp4": False, "v4.mp4": False, "lost.mp4": False}
    assert _correct(again(stored, scores=scores), "shuffled") == right
    scores[3, 2] = np.nan
    with pytest.raises(
        DataError, match=r"in the order shuffled 1 of 5 videos have scores that are not finite, v3\.mp4 is"
    ):
        _correct(again(stored, scores=scores), "shuffled")


def test_scores_are_compared_video_by_video(stored):
    _check_scores(stored, again(stored, order=[3, 1, 4, 0, 2]), PATH)
    with pytest.raises(DataError, match=r"v4\.mp4 can be read there alone"):
        _check_scores(stored, again(stored, order=[0, 1, 2, 3]), PATH)
    turned = stored.predictions.scores[::-1].copy()
    with pytest.raises(DataError, match="by other code than this, or on another device"):
        _check_scores(stored, again(stored, scores=turned), PATH)


@pytest.mark.parametrize(
    ("precision", "off", "fits"),
    [
        ("32-true", 8e-4, True), ("32-true", 2e-3, False), ("16-mixed", 0.02, True), ("bf16-mixed", 0.02, True),
        ("16-mixed", 0.05, False), (None, 8e-4, True), (None, 2e-3, False), ("32-true", float("nan"), False),
    ],
)  # fmt: skip
def test_what_rounding_moves_is_a_part_of_the_range_of_the_scores(stored, precision, off, fits):
    stored = replace(stored, record=replace(stored.record, details=replace(stored.record.details, precision=precision)))
    for sign in (1, -1):
        scores = stored.predictions.scores.copy()
        scores[2, 1] += sign * off * np.ptp(scores)
        if fits:
            _check_scores(stored, again(stored, scores=scores), PATH)
            continue
        with pytest.raises(DataError, match=r"the scores of v2\.mp4 are off by"):
            _check_scores(stored, again(stored, scores=scores), PATH)
