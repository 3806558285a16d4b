import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.metrics import Predictions, classification_metrics


def predictions(scores, labels, failures=None):
    ids = [f"v{i:03d}" for i in range(len(labels))]
    return Predictions(ids, torch.tensor(labels, dtype=torch.int64), torch.tensor(scores), failures or {})


def test_known_values():
    scores = [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]]
    result = classification_metrics(predictions(scores, [0, 1, 1, 2]), top_k=(1, 2))
    assert result["top1"] == pytest.approx(75.0)
    assert result["top2"] == pytest.approx(100.0)
    assert result["mean_per_class"] == pytest.approx(100 * (1 + 0.5 + 1) / 3)


def test_unreadable_videos_count_as_wrong():
    scores = [[0.9, 0.1], [0.1, 0.9]]
    result = classification_metrics(predictions(scores, [0, 1], {"x": (0, "truncated"), "y": (0, "empty")}))
    assert result["top1"] == pytest.approx(50.0)
    assert result["top5"] == pytest.approx(50.0)
    assert result["mean_per_class"] == pytest.approx(100 * (1 / 3 + 1) / 2)


def test_nothing_readable_is_zero_and_nothing_at_all_is_undefined():
    failed = Predictions([], torch.empty(0, dtype=torch.int64), torch.empty(0, 4), {"x": (1, "empty")})
    assert classification_metrics(failed)["top1"] == 0.0
    empty = Predictions([], torch.empty(0, dtype=torch.int64), torch.empty(0, 4))
    assert math.isnan(classification_metrics(empty)["top1"])


def test_top5_is_clipped_to_the_number_of_classes():
    assert classification_metrics(predictions([[0.2, 0.8]], [0]))["top5"] == 100.0


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 40), classes=st.integers(2, 9), parts=st.integers(1, 5), seed=st.integers(0, 2**20))
def test_splitting_over_processes_changes_nothing(count, classes, parts, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    ids = [f"v{i:03d}" for i in range(count)]
    whole = Predictions(ids, labels, scores, {"bad": (0, "empty")})
    pieces = [
        Predictions(ids[r::parts], labels[r::parts], scores[r::parts], {"bad": (0, "empty")} if r == 0 else {})
        for r in range(parts)
    ]
    joined = Predictions.concatenate(pieces[::-1], classes)
    assert joined.ids == whole.ids
    assert torch.equal(joined.scores, whole.scores)
    assert joined.failures == whole.failures
    assert classification_metrics(joined) == classification_metrics(whole)


def test_a_video_twice_is_refused():
    part = predictions([[0.1, 0.9]], [1])
    with pytest.raises(ValueError, match="twice"):
        Predictions.concatenate([part, part], 2)
