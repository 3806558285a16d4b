"""Audits from outcomes made by hand: numbers, subsets, and names that no format executes."""

import csv
import io
import json
from functools import partial

import numpy as np
import pytest

from tests.results.fakes import CLASSES, edited, record, store
from vlbench.cli.main import main
from vlbench.errors import DataError
from vlbench.evaluation.statistics import compare, resampled_top1
from vlbench.evaluation.stored_scores import StoredScores, classification_metrics, digest_of_labels
from vlbench.results.audit import audit_csv, audit_json, audit_of, said_of
from vlbench.results.audit_page import audit_html
from vlbench.results.audits import audit_path
from vlbench.results.pairs import write_pair
from vlbench.results.scores_file import write_scores
from vlbench.results.stored import StoredEvaluation
from vlbench.results.verify import verify

pytestmark = pytest.mark.quick


@pytest.fixture
def stored(tmp_path):
    labels = [0, 0, 1, 1, 2, 2]
    return StoredEvaluation.load(
        str(store(tmp_path, "mine", np.eye(4)[labels], labels, failures={"lost": 1})), tmp_path
    )


def outcomes(stored):
    """The normal order is right but for the lost video, shuffled of every second video, the middle frame of none, the
    reversed order where the normal one is not."""
    normal = stored.correct()
    shuffled = {video: right and place % 2 == 0 for place, (video, right) in enumerate(normal.items())}
    flipped = {video: not right for video, right in normal.items()}
    return {"normal": normal, "shuffled": shuffled, "middle": dict.fromkeys(normal, False), "reversed": flipped}


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
            assert (view.low, view.high) == resampled_top1(sum(here.values()), len(here), 500, 3)
            assert (view.only_normal, view.only_here, view.p_value) == (paired.only_b, paired.only_a, paired.p_value)
    assert everything.time_score.loss == pytest.approx(100 * 6 / 7)
    assert sum(each.videos * each.order_score for each in audit.classes) / 7 == pytest.approx(
        everything.order_score.loss
    )
    assert json.loads(audit_json(audit))["order_score"] == everything.order_score.loss


def test_classes_are_in_the_order_of_their_labels_and_lose_what_each_loses(tmp_path):
    labels = [2, 0, 1, 1, 2, 0]
    stored = StoredEvaluation.load(str(store(tmp_path, "mine", np.eye(4)[labels], labels)), tmp_path)
    normal = stored.correct()
    correct = {
        "normal": normal,
        "shuffled": {video: number != 0 for number, video in enumerate(normal)},
        "middle": {video: number == 5 for number, video in enumerate(normal)},
    }
    audit = audit_of(stored, correct, {"two": CLASSES[1:]}, draws=50, seed=0)
    named = [(each.name, each.videos, each.order_score, each.time_score) for each in audit.classes]
    assert named == [(CLASSES[0], 2, 0, 50), (CLASSES[1], 2, 0, 100), (CLASSES[2], 2, 50, 100)]
    assert audit.sections[1].classes == 2
    rows = [row for row in csv.DictReader(io.StringIO(audit_csv(audit))) if row["part"] == "class"]
    assert [float(row["loss"]) for row in rows] == [0, 0, 50, 0, 0, 100, 0, 50, 100]
    order, time = said_of(audit.sections[0], audit.draws)
    view = audit.sections[0].order_score
    assert f"order score (normal - shuffled) = +{100 / 6:.2f} points, 95 % of 50 resampled test sets in" in order
    assert f"[{view.loss_low:+.2f}, {view.loss_high:+.2f}], McNemar's exact test p = {view.p_value:.3g}" in order
    assert time.startswith(f"time score (normal - one frame) = +{500 / 6:.2f} points")


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


# Verified --------------------------------------------------------------------------------------------------------


def audited(stored, folder, subsets=None):
    """The file of an audit of a record, as `vlbench audit` leaves it beside the record."""
    audit = audit_of(stored, outcomes(stored), subsets or {"some": CLASSES[:2]}, draws=500, seed=3)
    path = audit_path(folder / "records" / "mine.json")
    path.parent.mkdir()
    path.write_text(audit_json(audit))
    return path


def findings(folder):
    return [str(finding) for finding in verify([folder]).findings]


def test_an_audit_is_verified_with_its_record(stored, tmp_path, capsys):
    audited(stored, tmp_path)
    assert findings(tmp_path) == []
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 records and 1 audits verified\n"


ALL, SOME = ("sections", 0), ("sections", 1)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("order_score",), 1.0, "order_score is 1, the scores give 42.8"),
        (("time_score",), 1.0, "time_score is 1, the scores give 85.7"),
        (("record",), "other", "record is 'other', the record of its name is 'mine'"),
        (("identity",), "0" * 12, "it is of other weights, options or scores than the record"),
        (("predictions",), "0" * 32, "it is of other weights, options or scores than the record"),
        (("unreadable",), 0, "unreadable is 0, the scores give 1"),
        (("draws",), 0, "draws is 0; allowed: 1 to 1,000,000"),
        (("draws",), 10**9, "draws is 1000000000; allowed: 1 to 1,000,000"),
        (("seed",), -1, "seed is -1; allowed"),
        (("seed",), 2**32, "seed is 4294967296; allowed"),
        (("schema_version",), 9, "schema_version is 9; this vlbench reads 1"),
        (("more",), 9, "more is no field"),
        (("sections",), [], "sections or classes is empty"),
        ((*ALL, "videos"), 8, "all: videos is 8, the scores give 7"),
        ((*ALL, "classes"), 4, "all: classes is 4, the scores give 3"),
        ((*ALL, "views", 0, "top1"), 99.0, "all, normal: top1 is 99, the scores give 85.7"),
        ((*ALL, "views", 0, "low"), 99.0, "all, normal: low is 99, the scores give"),
        ((*ALL, "views", 0, "only_here"), 1, "all, normal: only_normal and only_here are 0 and 1; allowed: 0"),
        ((*ALL, "views", 0, "loss_low"), -1.0, "all, normal: loss_low is -1, resampled videos give 0"),
        ((*ALL, "views", 1, "top1"), 50.0, "all, shuffled: top1 is 50, the classes give 42.8"),
        ((*ALL, "views", 1, "order"), "stripes", "has no order shuffled"),
        ((*ALL, "views", 1, "high"), 99.0, "all, shuffled: high is 99, the scores give"),
        ((*ALL, "views", 1, "loss"), 1.0, "all, shuffled: loss is 1, the scores give 42.8"),
        ((*ALL, "views", 1, "loss_high"), 1000.0, "all, shuffled: loss_high is 1000, resampled videos give"),
        ((*ALL, "views", 1, "only_normal"), 2, "all, shuffled: top1 is 42.8571429, the scores give 57.1"),
        ((*ALL, "views", 1, "only_normal"), 7, "all, shuffled: only_normal is 7 and only_here 0; 6 of 7 videos are"),
        ((*ALL, "views", 1, "only_here"), 2, "all, shuffled: only_normal is 3 and only_here 2; 6 of 7 videos are"),
        ((*ALL, "views", 1, "only_here"), -1, "all, shuffled: only_normal is 3 and only_here -1"),
        ((*ALL, "views", 2, "p_value"), 0.5, "all, middle: p_value is 0.5, the scores give 0.03"),
        ((*SOME, "names"), ["jump"], "some: classes is 2, the scores give 1"),
        ((*SOME, "names"), ["jump", "a & b"], "some: videos is 5, the scores give 4"),
        (
            (*SOME, "names"),
            ["run <fast>", "jump"],
            "some: names are not some classes that have videos",
        ),
        (
            (*SOME, "names"),
            ["jump", "wave_hand"],
            "some: names are not some classes that have videos",
        ),
        (
            (*SOME, "names"),
            ["jump", "jump"],
            "some: names are not some classes that have videos",
        ),
        ((*SOME, "names"), [], "some: names is empty, as an older vlbench left it"),
        ((*SOME, "classes"), 3, "some: classes is 3, the scores give 2"),
        ((*SOME, "videos"), 4, "some: videos is 4, the scores give 5"),
        ((*ALL, "names"), ["jump"], "all: names are not all classes that have videos"),
        ((*SOME, "views", 1, "loss"), 1.0, "some, shuffled: loss is 1, the scores give"),
        ((*SOME, "views", 0, "order"), "stripes", "sections some has the orders stripes"),
        (("classes", 0, "videos"), 3, "classes are others than those of the scores: 'jump' has 3 videos"),
        (("classes", 0, "name"), "leap", "classes are others than those of the scores"),
        (("classes", 0, "top1", "normal"), 50.0, "jump: top1 is 50, the scores give 100"),
        (("classes", 0, "top1", "middle"), 50.0, "all, middle: top1 is 0, the classes give 14.2"),
        (("classes", 0, "top1", "middle"), 10.0, "jump: top1 of middle is 10, which is of no number out of 2 videos"),
        (("classes", 0, "top1", "middle"), 150.0, "jump: top1 of middle is 150, which is of no number out of 2 videos"),
        (("classes", 0, "order_score"), 1.0, "jump: order_score is 1, the scores give 50"),
        (("classes", 0, "time_score"), None, "jump: time_score is None, the scores give 100"),
        (("classes", 0, "top1"), {"normal": 100.0}, "classes jump has the orders normal; allowed: normal, shuffled"),
    ],
)
def test_a_number_of_an_audit_that_does_not_follow_is_named(stored, tmp_path, capsys, keys, value, said):
    path = audited(stored, tmp_path)
    edited(path, *keys, value=value)
    said_of = findings(tmp_path)
    assert any(line.startswith(f"{path}: ") and said in line for line in said_of), said_of
    assert main(["verify", str(tmp_path)]) == 1
    assert "1 of 1 records and 1 audits do not fit" in capsys.readouterr().err


def test_a_subset_follows_from_the_scores_of_its_classes(stored, tmp_path):
    """Numbers that fit each other and are those of other classes than the audit names."""
    path = audited(stored, tmp_path)
    other = json.loads(audit_json(audit_of(stored, outcomes(stored), {"some": CLASSES[::2]}, draws=500, seed=3)))
    values = json.loads(path.read_text())
    assert [section["names"] for section in values["sections"]] == [list(CLASSES[:3]), list(CLASSES[:2])]
    values["sections"][1] = {**other["sections"][1], "names": values["sections"][1]["names"]}
    path.write_text(json.dumps(values))
    (line,) = findings(tmp_path)
    assert "some: videos is 4, the scores give 5" in line


def test_an_order_of_a_subset_follows_from_the_classes(stored, tmp_path):
    correct = outcomes(stored)
    audit = audit_of(stored, correct, {"some": CLASSES[:2]}, draws=500, seed=3)
    swapped = audit_of(stored, {**correct, "shuffled": correct["middle"]}, {"some": CLASSES[:2]}, draws=500, seed=3)
    path = audited(stored, tmp_path)
    values = json.loads(audit_json(audit))
    values["sections"][1]["views"] = json.loads(audit_json(swapped))["sections"][1]["views"]
    path.write_text(json.dumps(values))
    (line,) = findings(tmp_path)
    assert "some, shuffled: top1 is 0, the classes give" in line


def test_an_audit_of_an_older_vlbench_without_subsets_is_verified(stored, tmp_path):
    path = audited(stored, tmp_path)
    values = json.loads(path.read_text())
    del values["sections"][1], values["sections"][0]["names"]
    path.write_text(json.dumps(values))
    assert findings(tmp_path) == []


@pytest.mark.parametrize(("content", "said"), [(b"", "it is not JSON"), (b"[]", "it is []"), (b"{}", "schema")])
def test_a_file_that_is_no_audit_is_named(stored, tmp_path, content, said):
    path = audited(stored, tmp_path)
    path.write_bytes(content)
    (line,) = findings(tmp_path)
    assert line.startswith(f"{path}: it is not an audit of vlbench: {said}")


def test_an_audit_without_a_record_is_named(stored, tmp_path):
    path = audited(stored, tmp_path)
    path.rename(path.with_name("other.json"))
    path.with_name(".hidden.json").write_text("still being written")
    (line,) = findings(tmp_path)
    assert line.startswith(f"{path.with_name('other.json')}: there is no record of its name")


def test_the_normal_order_comes_first(stored, tmp_path):
    path = audited(stored, tmp_path)
    values = json.loads(path.read_text())
    for section in values["sections"]:
        section["views"].reverse()
    for each in values["classes"]:
        each["top1"] = dict(reversed(each["top1"].items()))
    path.write_text(json.dumps(values))
    (line,) = findings(tmp_path)
    assert "sections all has the orders reversed, middle, shuffled, normal; allowed" in line
    assert "normal first" in line


def test_an_audit_of_videos_with_several_labels_is_named(tmp_path):
    labels, scores = np.eye(4, dtype=np.int64)[[0, 1]], np.eye(4, dtype=np.float32)[[0, 1]]
    several = StoredScores(["a.mp4", "b.mp4"], labels, scores, scores, scores)
    digest = digest_of_labels({"a.mp4": (0,), "b.mp4": (1,)})
    made = record(metrics=classification_metrics(several), expected=2, evaluated=2, test_digest=digest)
    write_pair(made, partial(write_scores, several, made), tmp_path, "mine")
    path = audit_path(tmp_path / "records" / "mine.json")
    path.parent.mkdir()
    path.write_text("{}")
    assert any(
        line.startswith(f"{path}: ") and "several labels, which have no audit" in line for line in findings(tmp_path)
    )
