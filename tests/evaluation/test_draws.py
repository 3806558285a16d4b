"""Two methods on the same draws of training videos."""

from itertools import product

import numpy as np
import pytest

from vlbench.errors import DataError
from vlbench.evaluation.draws import compare_draws

pytestmark = pytest.mark.quick


def results(values):
    return dict(enumerate(values))


def test_few_draws_are_tested_exactly():
    a, b = [50.0, 40.0, 45.0, 60.0], [53.0, 39.0, 49.0, 66.0]
    differences = np.subtract(b, a)
    signs = [np.dot(each, differences) for each in product([-1, 1], repeat=4)]
    expected = np.mean([abs(value) >= abs(differences.sum()) for value in signs])
    outcome = compare_draws(results(a), results(b))
    assert outcome.p_value == pytest.approx(expected)
    assert outcome.difference == pytest.approx(differences.mean())
    assert outcome.deviation == pytest.approx(differences.std(ddof=1))
    assert outcome.low <= outcome.difference <= outcome.high


def test_draws_are_paired_by_their_names():
    """A difference that is small beside the spread of the draws is found, as each draw is its own control."""
    rng = np.random.default_rng(0)
    hard = rng.normal(50, 5, 60)
    better = hard + 0.5 + rng.normal(0, 0.4, 60)
    a = results(hard)
    b = {seed: better[seed] for seed in rng.permutation(60)}
    assert compare_draws(a, b).p_value < 0.001
    unpaired = {seed: better[(seed + 7) % 60] for seed in range(60)}
    assert compare_draws(a, unpaired).p_value > 0.05


def test_the_test_holds_its_level():
    rng = np.random.default_rng(1)
    p_values = [
        compare_draws(results(rng.normal(0, 1, 30)), results(rng.normal(0, 1, 30)), resamples=200, seed=k).p_value
        for k in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p_values) <= 0.05) <= 0.1


def test_only_common_draws_count():
    outcome = compare_draws({0: 1.0, 1: 2.0}, {1: 3.0, 2: 9.0})
    assert (outcome.draws, outcome.difference, outcome.p_value) == (1, 1.0, 1.0)
    assert np.isnan([outcome.deviation, outcome.low, outcome.high]).all()  # one draw says nothing of a spread
    with pytest.raises(DataError, match="2 and 1 draws, and none in common"):
        compare_draws({0: 1.0, 1: 2.0}, {5: 3.0})


def test_the_interval_is_that_of_the_means_of_resampled_draws():
    """Of three draws a mean of three times the smallest has 1 of 27 chances: more than 2.5 %, and less than 5 %."""
    outcome = compare_draws(results([0.0, 0.0, 0.0]), results([1.0, 2.0, 4.0]))
    assert (outcome.low, outcome.high) == (1.0, 4.0)
    values = np.array([1.0, 2.0, 4.0, 5.0, 7.0])
    means = np.sort([np.mean(each) for each in product(values, repeat=5)])
    expected = np.quantile(means, [0.025, 0.975]).tolist()
    outcome = compare_draws(results(0 * values), results(values), resamples=100_000)
    assert (outcome.low, outcome.high) == pytest.approx(expected, abs=0.1)


def test_all_signs_are_taken_where_they_are_no_more_than_the_resamples():
    a, b = results([0.0] * 3), results([1.0, 2.0, 3.0])
    assert compare_draws(a, b, resamples=8).p_value == 2 / 8
    assert compare_draws(a, b, resamples=7).p_value != 2 / 8  # seven random ones and the given signs


def test_the_signs_that_were_drawn_are_one_of_the_random_ones():
    """No number of resamples says that something cannot be."""
    a, b = results([0.0] * 40), results([1.0] * 40)
    assert compare_draws(a, b, resamples=99).p_value == 1 / 100


def test_signs_are_as_far_where_sums_differ_in_their_last_bits_alone():
    values = [8.2, 7.9, 8.7, 5.0]  # one sum of them in another order is smaller by one bit
    for given in (values, values[::-1], [-value for value in values]):
        assert compare_draws(results([0.0] * 4), results(given)).p_value == 2 / 16
    assert compare_draws(results([0.0, 0.0]), results([0.03, 0.01])).p_value == 2 / 4


def test_the_seed_draws_the_resamples():
    rng = np.random.default_rng(0)
    a, b = results(rng.normal(size=40)), results(rng.normal(size=40))
    first, again, other = (compare_draws(a, b, resamples=200, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.p_value != other.p_value
