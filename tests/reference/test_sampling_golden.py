"""Frame indices against the released code's."""

import pytest
import torch

from tests.reference.golden import golden_cases
from vlbench.clips.sampling import dense_test, dense_train, segment_bounds, uniform_test, uniform_train


def sizes(key: str) -> list[int]:
    """`n3_s8_c4` -> `[3, 8, 4]`."""
    return [int(part[1:]) for part in key.split("_")]


@pytest.mark.parametrize("golden", golden_cases("sampling", "val_uniform"))
def test_uniform_validation_indices(golden):
    expected = golden.facts["val_uniform"]
    assert {key: uniform_test(*sizes(key), 1)[0] for key in expected} == expected


@pytest.mark.parametrize("golden", golden_cases("sampling", "test_uniform"))
def test_uniform_test_indices(golden):
    expected = golden.facts["test_uniform"]
    assert {key: uniform_test(*sizes(key)) for key in expected} == expected


@pytest.mark.parametrize("golden", golden_cases("sampling", "train_uniform_bounds"))
def test_uniform_train_bounds(golden):
    bounds = golden.facts["train_uniform_bounds"]
    assert {key: [list(pair) for pair in segment_bounds(*sizes(key))] for key in bounds} == bounds
    for key, pairs in bounds.items():
        drawn = uniform_train(*sizes(key), generator=torch.Generator().manual_seed(0))
        assert all(first <= index <= last for index, (first, last) in zip(drawn, pairs, strict=True))


@pytest.mark.parametrize("golden", golden_cases("sampling", "test_dense"))
def test_dense_test_indices(golden):
    expected = golden.facts["test_dense"]
    cases = {key: value for key, value in expected.items() if isinstance(value, list)}
    assert {key: dense_test(*sizes(key)) for key in cases} == cases
    refused = expected.keys() - cases.keys()  # one clip divides by zero there; here it is centred
    assert all(sizes(key)[2] == 1 and len(dense_test(*sizes(key))) == 1 for key in refused)


@pytest.mark.parametrize("golden", golden_cases("sampling", "train_dense"))
def test_dense_train_indices(golden):
    for key, case in golden.facts["train_dense"].items():
        low, high = case["start_range_inclusive"]
        allowed = [case["indices"]] if "indices" in case else [case["low"], case["high"]]
        generator = torch.Generator().manual_seed(0)
        drawn = [dense_train(*sizes(key), generator=generator) for _ in range(2000 if high < 200 else 20)]
        # Indices wrap, so a start is known from the first index only in videos longer than the span.
        if low == high:
            assert all(indices in allowed for indices in drawn)
            continue
        assert all(low <= indices[0] <= high for indices in drawn)
        ends = [indices for indices in drawn if indices[0] in (low, high)]
        assert all(indices in allowed for indices in ends)
        assert high >= 200 or {indices[0] for indices in ends} == {low, high}
