"""Audits from outcomes made by hand: numbers, subsets, and names that no format executes."""

import csv
import io
import json

import numpy as np
import pytest

from tests.results.fakes import CLASSES, store
from vlbench.errors import DataError
from vlbench.evaluation.statistics import compare
from vlbench.results.audit import audit_csv, audit_json, audit_of
from vlbench.results.audit_page import audit_html
from vlbench.results.stored import StoredEvaluation

pytestmark = pytest.mark.quick


@pytest.fixture
def stored(tmp_path):
    labels = [0, 0, 1, 1, 2, 2]
    return StoredEvaluation.load(
        str(store(tmp_path, "mine", np.eye(4)[labels], labels, failures={"lost": 1})), tmp_path
    )


def outcomes(stored):
    """The normal order is right but for the lost video, shuffled of every second video, the middle frame of none."""
    normal = stored.correct()
    shuffled = {video: right and place % 2 == 0 for place, (video, right) in enumerate(normal.items())}
    return {"normal": normal, "shuffled": shuffled, "middle": dict.fromkeys(normal, False)}


def test_losses_are_paired_on_all_videos_and_on_those_of_some_classes(stored):
    correct = outcomes(stored)
    audit = audit_of(stored, correct, {"some": CLASSES[:2]}, draws=500, seed=3)
    everything, some = audit.sections
    assert (everything.videos, everything.classes, audit.unreadable) == (7, 3, 1)
    assert (some.videos, some.classes) == (5, 2)
    labels = stored.labels()
    for section, kept in ((everything, {0, 1, 2}), (some, {0, 1})):
        videos = [video for video, label in labels.items() if label in kept]
        for view in section.views:
            here, normal = ({video: correct[name][video] for video in videos} for name in (view.order, "normal"))
            paired = compare(here, normal, draws=500, seed=3)
            assert view.top1 == pytest.approx(paired.top1[0])
            assert (view.loss, view.loss_low, view.loss_high) == (paired.difference, paired.low, paired.high)
            assert (view.only_normal, view.only_here, view.p_value) == (paired.only_b, paired.only_a, paired.p_value)
    assert everything.time_score.loss == pytest.approx(100 * 6 / 7)
    assert sum(each.videos * each.order_score for each in audit.classes) / 7 == pytest.approx(
        everything.order_score.loss
    )
    assert json.loads(audit_json(audit))["order_score"] == everything.order_score.loss


def test_a_subset_without_videos_is_refused(stored):
    with pytest.raises(DataError, match="no video of mine is of a class of the subset none"):
        audit_of(stored, outcomes(stored), {"none": [CLASSES[3]]}, draws=10, seed=0)


def test_names_are_text_in_every_format(stored):
    audit = audit_of(stored, outcomes(stored), {"=1+1<b>": CLASSES}, draws=10, seed=0)
    page = audit_html(audit)
    assert "run &lt;fast&gt;" in page
    assert "a &amp; b" in page
    assert "<fast>" not in page
    assert "<b>" not in page
    rows = list(csv.DictReader(io.StringIO(audit_csv(audit))))
    assert {row["name"] for row in rows if row["part"] == "subset"} == {"'=1+1<b>"}
    assert [row["loss"] for row in rows if row["part"] == "class" and row["order"] == "normal"] == ["0.0"] * 3
