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
