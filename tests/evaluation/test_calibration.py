"""Calibration: the formulas are torchmetrics', and the probabilities those that a method is trained to give."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_auroc, multiclass_calibration_error

from vlbench.backbones import TinyCLIP
from vlbench.datasets.specs import Subset
from vlbench.errors import DataError
from vlbench.evaluation.calibration import (
    auroc,
    brier_score,
    calibration,
    calibrations,
    expected_calibration_error,
    negative_log_likelihood,
    probabilities,
)
from vlbench.evaluation.measures import Calibration, Cost, Probability
from vlbench.evaluation.stored_scores import StoredScores
from vlbench.methods import ActionCLIP, NearestNeighbours, ZeroShot

pytestmark = pytest.mark.quick

LOGITS = Probability("scores", 1.0)


def scores_of(scores, labels, cosines=None, failures=None):
    scores = np.asarray(scores, np.float32)
    cosines = scores if cosines is None else np.asarray(cosines, np.float32)
    ids = [f"v{index}.mp4" for index in range(len(labels))]
    return StoredScores(ids, np.asarray(labels, np.int64), scores, cosines, scores, failures or {})


def random_scores(seed, videos=200, classes=7, spread=2.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, videos)
    return scores_of(spread * random.normal(size=(videos, classes)) + 2 * np.eye(classes)[labels], labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 9), st.floats(0.01, 30))
def test_values_are_those_of_torchmetrics_and_torch(seed, videos, classes, spread):
    stored = random_scores(seed, videos, classes, spread)
    labels, shares = torch.from_numpy(stored.labels), torch.from_numpy(stored.scores).double().softmax(dim=1)
    measured = calibration(stored, LOGITS)
    error = multiclass_calibration_error(shares.float().double(), labels, classes, n_bins=15, norm="l1")
    saturated = bool((shares.float().amax(dim=1) == 1).any())  # has a bin of its own there, and none in the paper
    assert saturated or measured.ece == pytest.approx(error.item(), abs=1e-6)
    entropy = F.nll_loss(shares.clamp_min(torch.finfo(torch.float32).tiny).log(), labels)
    assert measured.nll == pytest.approx(entropy.item(), rel=1e-9)
    distance = F.mse_loss(shares, F.one_hot(labels, classes).double()) * classes
    assert measured.brier == pytest.approx(distance.item(), abs=1e-9)
    assert measured.videos == videos


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_the_area_is_that_of_torchmetrics_with_ties(positive, negative):
    values = torch.tensor([*positive, *negative]) / 10
    target = torch.tensor([1] * len(positive) + [0] * len(negative))
    own = auroc(np.array(positive, np.float32), np.array(negative, np.float32))
    assert own == pytest.approx(binary_auroc(values, target).item(), abs=1e-6)


def test_confidences_of_one_are_in_the_last_bin():
    shares = np.array([[1.0, 0.0], [0.95, 0.05]])
    assert expected_calibration_error(shares, np.array([1, 0])) == pytest.approx(abs(1 - 1.95) / 2)


def test_a_bin_has_its_lower_end():
    shares = np.array([[0.5, 0.5], [0.75, 0.25]])
    assert expected_calibration_error(shares, np.array([1, 0]), bins=2) == pytest.approx((0.5 - 0.25) / 2)


@pytest.mark.parametrize("fusion", ["probabilities", "logits", "cosines", "softmax_of_mean"])
def test_of_one_view_every_fusion_has_the_same_probabilities(fusion):
    method = ZeroShot(TinyCLIP())
    method.view_fusion = fusion
    cosines = torch.rand(5, 1, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    expected = (method.logit_factor * cosines[:, 0]).softmax(dim=-1)
    stored = scores_of(method.fuse_views(cosines).detach(), [0] * 5, cosines.mean(dim=1))
    np.testing.assert_allclose(probabilities(stored, method.probability), expected.detach(), rtol=2e-4)


def test_of_several_views_probabilities_are_those_that_decide():
    """But where the released fusion has no logits: those are of the mean cosines."""
    cosines = torch.rand(50, 3, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    method = ZeroShot(TinyCLIP())
    for fusion in ("probabilities", "logits", "cosines"):
        method.view_fusion = fusion
        stored = scores_of(method.fuse_views(cosines).detach(), [0] * 50, cosines.mean(dim=1))
        shares = probabilities(stored, method.probability)
        assert (shares.argmax(axis=1) == stored.best).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_a_method_that_fuses_views_itself_has_no_probabilities_unless_it_says_so():
    class Other(ZeroShot):
        def fuse_views(self, scores):
            return scores.amax(dim=1)

    rule = Other(TinyCLIP()).probability
    assert rule.source is None
    assert rule.reason == "zero_shot fuses views in a way of its own and states no probability"
    assert ActionCLIP(TinyCLIP()).probability == Probability("scores")
    votes = NearestNeighbours(TinyCLIP()).probability
    measured = calibration(random_scores(0), votes)
    assert (measured.source, measured.ece, measured.reason) == (None, None, votes.reason)


def test_unreadable_videos_have_no_probability():
    stored = random_scores(1)
    lost = scores_of(stored.scores, stored.labels, failures={"lost.mp4": (0, "empty")})
    assert calibration(lost, LOGITS) == calibration(stored, LOGITS)
    nothing = scores_of(np.zeros((0, 3)), [], failures={"lost.mp4": (0, "empty")})
    assert calibration(nothing, LOGITS) == Calibration(0, reason="no video could be read")


def test_a_right_class_of_no_probability_costs_a_finite_number():
    stored = scores_of([[1.0, 0.0]], [1])
    assert calibration(stored, Probability("scores")).nll == pytest.approx(87.336, abs=1e-3)
    assert negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([0])) == 0
    assert brier_score(np.array([[1.0, 0.0]]), np.array([1])) == 2


@pytest.mark.parametrize(
    "scores",
    [
        [[0.5, 0.6]],
        [[-0.5, 1.5]],
        [[float("nan"), 1.0]],
        [[0.2, 0.2]],
        [[0.5, 0.5], [0.5, 0.6]],
        [[0.6, 0.5], [0.5, 0.5]],
    ],
)
def test_scores_that_are_no_probabilities_are_not_taken_for_some(scores):
    measured = calibration(scores_of(scores, [0] * len(scores)), Probability("scores"))
    assert measured == Calibration(len(scores), reason="scores are not those of probabilities")


def test_logits_have_probabilities_if_they_are_finite():
    assert calibration(scores_of([[float("inf"), 1.0]], [0]), LOGITS).reason == "scores are not those of probabilities"
    measured = calibration(scores_of([[2000.0, 1000.0], [-2000.0, -1000.0]], [0, 1]), LOGITS)
    assert (measured.ece, measured.nll, measured.brier) == (0, 0, 0)


def test_a_confidence_is_of_single_precision():
    """What differs from a bound of a bin in the last bits of double precision is on one side of it everywhere."""
    shares = np.array([[0.6 - 1e-10, 0.4 + 1e-10], [0.62, 0.38]])
    assert expected_calibration_error(shares, np.array([1, 0])) == pytest.approx((0.6 - 0.38) / 2, abs=1e-6)


def test_halves_are_paired_within_their_split():
    def surely(*margins):
        return scores_of([[margin, 0.0] for margin in margins], [0] * len(margins))

    tested = [
        (Subset(classes=classes, split=split), surely(*margins), LOGITS)
        for classes, split, margins in (
            ("base", 1, (1.0, 2.0)), ("novel", 1, (3.0, 4.0)), ("base", 2, (5.0, 2.0)), ("novel", 2, (3.0, 0.5)),
        )
    ]  # fmt: skip
    assert [each.base_novel_auroc for each in calibrations(tested)] == [0, 0, 0.75, 0.75]


def test_halves_of_one_split_have_a_common_area():
    sure, unsure = scores_of([[9.0, 0.0], [8.0, 0.0]], [0, 1]), scores_of([[1.0, 0.0, 0.0]], [2])
    tested = [
        (Subset(classes="novel"), unsure, LOGITS), (Subset(classes="base"), sure, LOGITS),
        (Subset(classes="base", split=2), sure, LOGITS), (Subset(), sure, LOGITS),
    ]  # fmt: skip
    assert [each.base_novel_auroc for each in calibrations(tested)] == [1.0, 1.0, None, None]
    without = [(Subset(classes="novel"), unsure, Probability(None, reason="votes")), *tested[1:]]
    assert [each.base_novel_auroc for each in calibrations(without)] == [None] * 4


@pytest.mark.parametrize(
    ("values", "said"),
    [({"ece": 1.5}, "ece is 1.5"), ({"nll": -1.0}, "nll is -1.0"), ({"brier": 2.5}, "brier is 2.5")],
)
def test_numbers_that_no_probabilities_have_are_refused(values, said):
    with pytest.raises(DataError, match=f"details.calibration.{said}; allowed: 0 to "):
        Calibration(1, "scores", **values)
    with pytest.raises(DataError, match=r"details\.cost\.view is -1"):
        Cost(view=-1)
