"""Mean average precision of videos that may have several labels, and what keeps it apart from accuracies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multilabel_average_precision

from vlbench.datasets.specs import Subset
from vlbench.errors import DataError
from vlbench.evaluation.calibration import calibration
from vlbench.evaluation.measures import Probability
from vlbench.evaluation.metrics import Predictions
from vlbench.evaluation.stored_scores import (
    StoredScores,
    bootstrap_interval,
    classification_metrics,
    half_class_metrics,
    label_array,
    mean_average_precision,
)
from vlbench.results.record import Identity, Record
from vlbench.results.scores_file import read_scores, write_scores

pytestmark = pytest.mark.quick


def stored(cosines, labels, failures=None):
    cosines = np.asarray(cosines, np.float32)
    ids = [f"v{row}" for row in range(len(cosines))]
    # The fused scores rank classes within a video: here the wrong way round, so that a metric of them would differ.
    return StoredScores(ids, np.asarray(labels, np.int64), -cosines, cosines, cosines[:, :0], failures or {})


@st.composite
def evaluations(draw):
    """Cosines with many ties, videos without a label, classes without a video, unreadable videos."""
    classes, videos = draw(st.integers(2, 9)), draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([2, 5, 10**6]))
    cosines = random.integers(-levels, levels, (videos, classes)).astype(np.float32) / levels
    labels = (random.random((videos, classes)) < draw(st.sampled_from([0.1, 0.5]))).astype(np.int64)
    lost = [tuple(np.flatnonzero(random.random(classes) < 0.3).tolist()) for _ in range(draw(st.integers(0, 3)))]
    return stored(cosines, labels, {f"bad{row}": (truth, "empty") for row, truth in enumerate(lost)})


@settings(max_examples=100, deadline=None)
@given(evaluations())
def test_it_is_that_of_torchmetrics(case):
    lost = label_array([truth for truth, _ in case.failures.values()], case.scores.shape[1], multi_label=True)
    labels = np.concatenate([case.labels, lost])
    # Ranks in [0, 1]: torchmetrics takes other values for logits and rounds their sigmoids. Unreadable videos are last.
    levels = np.unique(case.cosines, return_inverse=True)[1].reshape(case.cosines.shape) + 1
    ranks = np.concatenate([levels, np.zeros(lost.shape)]) / (levels.max() + 1)
    occurs = labels.any(axis=0)
    found = mean_average_precision(case)
    if not occurs.any():
        assert np.isnan(found)
        return
    each = multilabel_average_precision(
        torch.from_numpy(ranks), torch.from_numpy(labels), len(occurs), average="none", thresholds=None
    )
    assert found == pytest.approx(100 * each[torch.from_numpy(occurs)].mean().item(), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(evaluations(), st.randoms(use_true_random=False))
def test_the_order_of_the_videos_does_not_count(case, random):
    order = list(range(len(case.ids)))
    random.shuffle(order)
    other = StoredScores(
        [case.ids[row] for row in order], case.labels[order], case.scores[order], case.cosines[order],
        case.features[order], dict(reversed(case.failures.items())),
    )  # fmt: skip
    assert mean_average_precision(other) == pytest.approx(mean_average_precision(case), abs=1e-9, nan_ok=True)
    assert other.truths == case.truths


def test_unreadable_videos_come_last_and_together():
    labels = [[1], [0]]
    assert mean_average_precision(stored([[-1.0], [0.5]], labels)) == 50
    # Precision is 1/2 at the readable video and 2/4 at the lost ones, of which one is right.
    lost = {"a": ((0,), "empty"), "b": ((), "empty")}
    assert mean_average_precision(stored([[-1.0], [0.5]], labels, lost)) == pytest.approx(50)
    assert mean_average_precision(stored([[0.5], [-1.0]], labels, lost)) == pytest.approx(75)


def test_only_average_precision_follows_from_several_labels():
    case = stored([[0.5, 0.1], [0.1, 0.5]], [[1, 1], [0, 1]])
    assert classification_metrics(case).keys() == {"map"}
    assert bootstrap_interval(case) == {}
    with pytest.raises(DataError, match="these may have several"):
        half_class_metrics(case)
    measured = calibration(case, Probability(factor=100.0))
    assert (measured.ece, measured.source) == (None, None)
    assert "several labels" in measured.reason


def test_parts_of_processes_are_joined_also_where_none_was_readable():
    empty = Predictions.none(3, 2, multi_label=True)
    empty.failures["z"] = ((0, 2), "empty")
    assert empty.stored().multi_label
    one = Predictions.none(3, 2, multi_label=True)
    one.ids, one.labels = ["b", "a"], torch.tensor([[1, 0, 0], [0, 1, 1]])
    one.scores = one.cosines = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    one.features = torch.zeros(2, 2)
    joined = Predictions.concatenate([empty, one]).stored()
    assert joined.truths == {"a": (1, 2), "b": (0,), "z": (0, 2)}


def test_a_file_holds_several_labels(tmp_path):
    case = stored([[0.5, 0.1], [0.1, 0.5]], [[1, 1], [0, 0]], {"lost": ((1,), "empty")})
    identity = Identity("m", "b:w", None, "charades", None, None, Subset(), "1x1", 8, "custom", 0, "last")
    metrics = classification_metrics(case)
    record = Record(identity, metrics, 3, 2, {"lost": "empty"}, details=_details())
    path = tmp_path / "scores.safetensors"
    write_scores(case, record, path)
    read, _ = read_scores(path.read_bytes(), record, path)
    assert (read.truths, classification_metrics(read)) == (case.truths, metrics)
    for labels, lost, message in (
        ([[1, 2], [0, 0]], (1,), "a label is 2; allowed: 0 and 1"),
        ([[1, -1], [0, 0]], (1,), "a label is -1; allowed: 0 and 1"),
        ([[1, 1], [0, 0]], (2,), "a label is 2; allowed: 0 to 1"),
        ([[1], [0]], (1,), r"labels has the shape \(2, 1\)"),
        ([1, 0], (1,), "failures of its metadata"),
    ):
        other = stored(case.cosines, labels, {"lost": (lost, "empty")})
        write_scores(other, record, path)
        with pytest.raises(DataError, match=message):
            read_scores(path.read_bytes(), record, path)


def _details():
    from vlbench.results.details import Details

    return Details(classes=("walk", "run"))


def test_a_record_has_accuracies_or_average_precision(tmp_path):
    identity = Identity("m", "b:w", None, "charades", None, None, Subset(), "1x1", 8, "custom", 0, "last")
    accuracies = {"top1": 1.0, "top5": 2.0, "mean_per_class": 1.0}
    for number, (metrics, message) in enumerate([
        ({"map": 30.0}, None),
        (accuracies, None),
        ({"map": 30.0, **accuracies}, "metrics has map and top1; allowed: one"),
        ({"map": 130.0}, "metrics.map is 130"),
        ({"top1": 1.0}, "metrics.top5 is missing"),
    ]):  # fmt: skip
        path = Record(identity, metrics, 1, 1).write(tmp_path, str(number))
        if message is None:
            assert Record.read(path).metrics == metrics
        else:
            with pytest.raises(DataError, match=message):
                Record.read(path)
