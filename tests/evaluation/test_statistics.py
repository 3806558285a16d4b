"""Paired comparison against brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlbench.errors import DataError
from vlbench.evaluation.statistics import compare, mcnemar, resampled_top1, wilson_interval

pytestmark = pytest.mark.quick


def outcomes(both, only_a, only_b, neither):
    """Two evaluations with so many videos of each kind."""
    kinds = [(True, True)] * both + [(True, False)] * only_a + [(False, True)] * only_b + [(False, False)] * neither
    names = [f"v{index}" for index in range(len(kinds))]
    return ({name: kind[side] for name, kind in zip(names, kinds, strict=True)} for side in (0, 1))


@given(st.integers(0, 9), st.integers(0, 9))
def test_mcnemar_is_the_share_of_coin_tosses_at_least_as_uneven(only_a, only_b):
    total = only_a + only_b
    tosses = itertools.product((0, 1), repeat=total) if total <= 12 else None
    if tosses is not None:
        uneven = sum(abs(total - 2 * sum(toss)) >= abs(only_a - only_b) for toss in tosses)
        assert mcnemar(only_a, only_b) == pytest.approx(uneven / 2**total, rel=1e-12)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_known_value():
    assert mcnemar(1, 9) == 22 / 1024
    assert mcnemar(0, 0) == 1.0


def test_mcnemar_of_a_large_test_set_agrees_with_the_normal_approximation():
    only_a, only_b = 5100, 5400
    z = (abs(only_a - only_b) - 1) / math.sqrt(only_a + only_b)
    assert mcnemar(only_a, only_b) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert mcnemar(0, 5000) == 0.0  # below the smallest float, not an error


def test_the_counts_make_the_accuracies():
    found = compare(*outcomes(40, 10, 30, 20))
    assert (found.both, found.only_a, found.only_b, found.neither, found.videos) == (40, 10, 30, 20, 100)
    assert found.top1 == (50.0, 70.0)
    assert found.difference == 20.0
    assert found.p_value == mcnemar(10, 30)


def test_the_interval_is_that_of_resampled_videos():
    a, b = outcomes(20, 10, 18, 12)
    found = compare(a, b, draws=20_000)
    change = np.array([100 * (b[name] - a[name]) for name in a])
    drawn = change[np.random.default_rng(1).integers(0, len(change), (20_000, len(change)))].mean(axis=1)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.7)


def test_the_interval_of_an_accuracy_is_that_of_binomial_numbers():
    """Of 100 videos of which 30 are right; the central 90 % of them are 23 to 38."""
    low, high = resampled_top1(30, 100, draws=100_000)
    chances = [math.comb(100, k) * 0.3**k * 0.7 ** (100 - k) for k in range(101)]
    expected = [next(k for k in range(101) if sum(chances[: k + 1]) >= share) for share in (0.025, 0.975)]
    assert expected == [21, 39]
    assert (low, high) == tuple(expected)
    few = [resampled_top1(30, 100, 50, seed) for seed in range(5)]
    assert len(set(few)) > 1
    assert few[0] == resampled_top1(30, 100, 50)
    assert resampled_top1(37, 111) == resampled_top1(37, 111, 1000, 0)


def test_the_seed_draws_the_videos():
    a, b = map(dict, outcomes(20, 10, 18, 12))
    one, again, other = (compare(a, b, draws=30, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert (one.low, one.high) != (other.low, other.high)


@given(*[st.integers(0, 30)] * 4)
def test_swapping_the_two_mirrors_everything(both, only_a, only_b, neither):
    if both + only_a + only_b + neither == 0:
        return
    one = compare(*outcomes(both, only_a, only_b, neither), draws=2000)
    assert one == compare(*outcomes(both, only_a, only_b, neither), draws=2000)
    assert one.low <= one.difference + 1e-9
    assert one.difference - 1e-9 <= one.high or only_a + only_b < 3
    other = compare(*outcomes(both, only_b, only_a, neither), draws=2000)
    assert (other.difference, other.p_value, other.top1) == (-one.difference, one.p_value, one.top1[::-1])


def test_the_same_predictions_do_not_differ():
    found = compare(*outcomes(7, 0, 0, 3))
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("a", "b"), [({"x": True}, {"y": True}), ({"x": True}, {}), ({}, {})])
def test_other_videos_cannot_be_paired(a, b):
    with pytest.raises(DataError, match="only evaluations of one test list"):
        compare(a, b)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_ends_of_wilsons_interval_are_the_accuracies_that_the_videos_just_do_not_refute(right, wrong):
    videos = right + wrong
    if not videos:
        return
    low, high = wilson_interval(right, videos)
    assert 0 <= low <= right / videos <= high <= 1
    assert high - low > 0
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:  # 1.96 deviations of an accuracy that were the truth
            assert abs(right / videos - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / videos), rel=1e-5)
    assert (low < 1e-9) == (right == 0)
    assert (high > 1 - 1e-9) == (wrong == 0)
