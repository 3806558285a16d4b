import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tolerance import assert_same_bits
from vlbench.evaluation.metrics import (
    Predictions,
    bootstrap_interval,
    classification_metrics,
    half_class_metrics,
)
from vlbench.evaluation.stored_scores import half_class_accuracies

pytestmark = pytest.mark.quick


def predictions(scores, labels, failures=None):
    ids = [f"v{i:03d}" for i in range(len(labels))]
    scores = torch.as_tensor(scores)
    return Predictions(ids, torch.as_tensor(labels, dtype=torch.int64), scores, scores, scores, failures or {})


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
    failed = Predictions.none(num_classes=4, dim=2)
    failed.failures = {"x": (1, "empty")}
    assert classification_metrics(failed)["top1"] == 0.0
    assert math.isnan(classification_metrics(Predictions.none(num_classes=4, dim=2))["top1"])


def test_top5_is_clipped_to_the_number_of_classes():
    assert classification_metrics(predictions([[0.2, 0.8]], [0]))["top5"] == 100.0


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 40), classes=st.integers(2, 9), parts=st.integers(1, 5), seed=st.integers(0, 2**20))
def test_splitting_over_processes_changes_nothing(count, classes, parts, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    ids = [f"v{i:03d}" for i in range(count)]
    whole = Predictions(ids, labels, scores, -scores, 2 * scores, {"bad": (0, "empty")})
    pieces = [
        Predictions(
            ids[r::parts],
            labels[r::parts],
            scores[r::parts],
            -scores[r::parts],
            2 * scores[r::parts],
            {"bad": (0, "empty")} if r == 0 else {},
        )
        for r in range(parts)
    ]
    joined = Predictions.concatenate([Predictions.none(classes, classes), *pieces[::-1]])
    assert joined.ids == whole.ids
    assert_same_bits(joined.scores, whole.scores)
    assert_same_bits(joined.cosines, whole.cosines)
    assert_same_bits(joined.features, whole.features)
    assert joined.failures == whole.failures
    assert classification_metrics(joined) == classification_metrics(whole)


def test_a_video_twice_is_refused():
    part = predictions([[0.1, 0.9]], [1])
    with pytest.raises(ValueError, match="twice"):
        Predictions.concatenate([part, part])


def test_the_interval_covers_what_the_binomial_says():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (500,), generator=generator)
    right = torch.rand(500, generator=generator) < 0.7
    scores = torch.nn.functional.one_hot(torch.where(right, labels, 1 - labels), 2).float()
    found = predictions(scores, labels)
    interval = bootstrap_interval(found)
    half_width = 196 * (0.7 * 0.3 / 500) ** 0.5
    top1 = classification_metrics(found)["top1"]
    assert interval["top1_low"] == pytest.approx(top1 - half_width, abs=0.6)
    assert interval["top1_high"] == pytest.approx(top1 + half_width, abs=0.6)
    assert interval == bootstrap_interval(found)
    before = torch.random.get_rng_state()
    bootstrap_interval(found)
    assert torch.equal(before, torch.random.get_rng_state())
    assert bootstrap_interval(predictions(torch.zeros(0, 2), [])) == {}


def test_unreadable_videos_are_wrong_in_the_halves_and_the_interval():
    labels = [label for label in range(6) for _ in range(4)]
    scores = torch.nn.functional.one_hot(torch.tensor(labels), 6).float()
    perfect = predictions(scores, labels)
    assert half_class_metrics(perfect) == {"half_top1": 100, "half_top5": 100, "half_top1_std": 0, "half_top5_std": 0}
    assert half_class_accuracies(scores.numpy(), np.array(labels)).shape == (10, 2)
    # A quarter of every class cannot be read: every half loses as much.
    failures = {f"bad{label}": (label, "empty") for label in range(6)}
    kept = [row for row in range(24) if row % 4]
    broken = predictions(scores[kept], torch.tensor(labels)[kept], failures)
    assert half_class_metrics(broken)["half_top1"] == pytest.approx(75)
    assert half_class_metrics(broken)["half_top1_std"] == pytest.approx(0)
    assert bootstrap_interval(broken)["top1_high"] < 100
