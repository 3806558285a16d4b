"""Evaluating stored scores again."""

import csv
import io

import pytest
import torch

from tests.results.fakes import CLASSES, store
from vlbench.errors import DataError
from vlbench.evaluation import metrics
from vlbench.evaluation.metrics import Predictions
from vlbench.results.report import (
    class_reports,
    confusion_csv,
    confusion_matrix,
    reports_csv,
    rescore,
    rescore_halves,
)
from vlbench.results.stored import StoredEvaluation, find_record

pytestmark = pytest.mark.quick

LABELS = [0, 0, 0, 1, 1, 3]
GIVEN = [0, 1, 1, 1, 0, 3]
LOST = {"a.mp4": 3, "b.mp4": 0}


@pytest.fixture
def stored(tmp_path):
    store(tmp_path, "run", torch.eye(4)[GIVEN], LABELS, failures=LOST)
    return StoredEvaluation.load("run", tmp_path)


def random_scores(videos=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(videos, 4, generator=generator), torch.randint(4, (videos,), generator=generator)


def as_evaluated(found):
    """The stored scores as the evaluation had them."""
    stored = found.predictions
    arrays = (stored.labels, stored.scores, stored.cosines, stored.features)
    return Predictions(list(stored.ids), *map(torch.from_numpy, arrays), stored.failures)


def test_confusions_are_counted(stored):
    assert confusion_matrix(stored).tolist() == [[1, 2, 0, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]


def test_classes(stored):
    first, second, third, fourth = class_reports(stored)
    assert (first.videos, first.correct, first.unreadable, first.accuracy) == (4, 1, 1, 25.0)
    assert (first.predicted, first.precision) == (2, 50.0)
    assert (first.confused_with, first.confusions) == ("run <fast>", 2)
    assert (second.videos, second.correct, second.accuracy) == (2, 1, 50.0)
    assert (third.videos, third.accuracy, third.precision, third.confused_with) == (0, None, None, "")
    assert (fourth.videos, fourth.correct, fourth.unreadable) == (2, 1, 1)


def test_the_report_agrees_with_the_metrics(tmp_path):
    scores, labels = random_scores()
    store(tmp_path, "run", scores, labels, failures={"a.mp4": 0, "b.mp4": 2})
    found = StoredEvaluation.load("run", tmp_path)
    reports = class_reports(found)
    expected = metrics.classification_metrics(as_evaluated(found))
    assert 100 * sum(r.correct for r in reports) / sum(r.videos for r in reports) == pytest.approx(expected["top1"])
    assert sum(r.accuracy for r in reports) / 4 == pytest.approx(expected["mean_per_class"])
    assert sum(found.correct().values()) / 62 == pytest.approx(expected["top1"] / 100)


def test_csv_files_read_back(stored):
    lines = list(csv.DictReader(io.StringIO(reports_csv(class_reports(stored)))))
    assert [line["name"] for line in lines] == list(CLASSES)
    assert [int(line["videos"]) for line in lines] == [4, 2, 0, 2]
    header, *matrix = csv.reader(io.StringIO(confusion_csv(stored)))
    assert header == ["true class", *CLASSES, "unreadable"]
    assert [[int(value) for value in row[1:]] for row in matrix] == confusion_matrix(stored).tolist()


def test_a_shorter_list_is_scored_as_if_it_were_the_test(tmp_path):
    scores, labels = random_scores()
    store(tmp_path, "run", scores, labels, failures={"a.mp4": 2, "b.mp4": 0}, method="zero_shot")
    found = StoredEvaluation.load("run", tmp_path)
    kept = torch.isin(labels, torch.tensor([1, 2]))
    alone = Predictions(
        [f"v{index}" for index in kept.nonzero().flatten().tolist()],
        labels[kept] - 1,
        scores[kept][:, 1:3],
        scores[kept][:, 1:3],
        scores[kept],
        {"a.mp4": (1, "empty")},
    )
    expected = metrics.classification_metrics(alone)
    assert rescore(found, [CLASSES[1], CLASSES[2]]) == pytest.approx(expected)
    assert rescore(found, [CLASSES[2], CLASSES[1]]) == pytest.approx(expected)  # in any order
    whole = rescore(found, CLASSES)
    assert whole == pytest.approx(metrics.classification_metrics(as_evaluated(found)))
    assert expected["top1"] > whole["top1"]


def test_views_are_not_scored_by_probabilities_of_other_classes(tmp_path):
    """Averaged probabilities prefer class 1, the cosines class 0."""
    store(tmp_path, "run", [[0.3, 0.4, 0.3, 0.0]], [0], cosines=[[0.9, 0.8, 0.1, 0.0]], method="zero_shot")
    assert rescore(StoredEvaluation.load("run", tmp_path), CLASSES[:2])["top1"] == 100.0


def test_halves_are_drawn_as_in_the_protocol(tmp_path):
    scores, labels = random_scores()
    store(tmp_path, "run", scores, labels, method="mote")
    found = StoredEvaluation.load("run", tmp_path)
    assert rescore_halves(found) == pytest.approx(metrics.half_class_metrics(as_evaluated(found)), abs=1e-5)


@pytest.mark.parametrize("method", ["mote", "somebody_elses"])
def test_features_that_depend_on_the_classes_hold_for_their_own_list_only(tmp_path, method):
    scores, labels = random_scores()
    for depend in (True, False, None):
        store(tmp_path, str(depend), scores, labels, method=method, features_depend_on_classes=depend)
    with pytest.raises(DataError, match=f"features of {method} depend on the list of classes") as refused:
        rescore(StoredEvaluation.load("True", tmp_path), CLASSES[:2])
    assert method == "mote" or "mote" not in str(refused.value).lower()
    assert rescore(StoredEvaluation.load("False", tmp_path), CLASSES[:2])["top1"] > 0
    with pytest.raises(DataError, match="does not say whether"):
        rescore(StoredEvaluation.load("None", tmp_path), CLASSES[:2])
    assert rescore_halves(StoredEvaluation.load("True", tmp_path))["half_top1"] > 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["jumps"], "did you mean jump"),
        (["jump", "jump"], "2 classes, 1 of them different"),
        (["jump"], "name two or more"),
        ([], "0 classes"),
    ],
)
def test_lists_that_cannot_be_scored(stored, names, message):
    with pytest.raises(DataError, match=message):
        rescore(stored, names)


def test_records_are_found_by_path_or_name(tmp_path):
    path = store(tmp_path / "one", "run", torch.eye(4), range(4))
    assert find_record(str(path), tmp_path / "nowhere") == path
    assert find_record("run", tmp_path) == path
    with pytest.raises(DataError, match="did you mean run"):
        find_record("runn", tmp_path)
    store(tmp_path / "two", "run", torch.eye(4), range(4))
    with pytest.raises(DataError, match="give the path of one"):
        find_record("run", tmp_path)
