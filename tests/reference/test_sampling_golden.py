from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vlbench.clips.sampling import dense_test, dense_train, segment_bounds, uniform_test, uniform_train, uniform_val


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((golden / "sampling.json").read_text())
    return loaded


def sizes(key: str) -> list[int]:
    """`n3_s8_c4` -> `[3, 8, 4]`."""
    return [int(part[1:]) for part in key.split("_")]


def test_uniform_indices(expected: dict[str, Any]) -> None:
    assert {key: uniform_val(*sizes(key)) for key in expected["val_uniform"]} == expected["val_uniform"]
    assert {key: uniform_test(*sizes(key)) for key in expected["test_uniform"]} == expected["test_uniform"]


def test_uniform_train_bounds(expected: dict[str, Any]) -> None:
    bounds = expected["train_uniform_bounds"]
    assert {key: [list(pair) for pair in segment_bounds(*sizes(key))] for key in bounds} == bounds
    for key, pairs in bounds.items():
        drawn = uniform_train(*sizes(key), generator=torch.Generator().manual_seed(0))
        assert all(first <= index <= last for index, (first, last) in zip(drawn, pairs, strict=True))


def test_dense_test_indices(expected: dict[str, Any]) -> None:
    cases = {key: value for key, value in expected["test_dense"].items() if isinstance(value, list)}
    assert {key: dense_test(*sizes(key)) for key in cases} == cases
    refused = expected["test_dense"].keys() - cases.keys()  # one clip divides by zero there; here it is centred
    assert refused
    assert all(sizes(key)[2] == 1 and len(dense_test(*sizes(key))) == 1 for key in refused)


def test_dense_train_indices(expected: dict[str, Any]) -> None:
    for key, case in expected["train_dense"].items():
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
