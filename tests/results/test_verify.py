"""`vlbench verify`: what a record says follows from its scores, or is named."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.results.fakes import CLASSES, edited, half, record, store
from vlbench.cli.main import main
from vlbench.cli.registry import COMMANDS
from vlbench.datasets.specs import Subset
from vlbench.evaluation.calibration import calibration, calibrations
from vlbench.evaluation.measures import Probability
from vlbench.evaluation.stored_scores import (
    StoredScores,
    bootstrap_interval,
    classification_metrics,
    digest_of_labels,
    half_class_metrics,
)
from vlbench.results.pairs import digest, predictions_path, write_pair
from vlbench.results.record import Record
from vlbench.results.scores_file import read_scores, write_scores
from vlbench.results.stored import StoredEvaluation
from vlbench.results.verify import verify

pytestmark = pytest.mark.quick

LOGITS = Probability("scores", 1.0)
ROOT = Path(__file__).parents[2]


def evaluation(seed=0, names=("v38.mp4", "lost.mp4"), **changes):
    """A record of 40 videos with every metric there is, one of them unreadable, and its scores."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 39)
    scores = random.normal(size=(39, 4)).astype(np.float32) + 2 * np.eye(4, dtype=np.float32)[labels]
    last, lost = names
    ids = [*(f"v{index}.mp4" for index in range(38)), last]
    stored = StoredScores(ids, labels, scores, scores, scores, {lost: (2, "empty")})
    metrics = {**classification_metrics(stored), **bootstrap_interval(stored, 100), **half_class_metrics(stored)}
    made = record(
        metrics=metrics, expected=40, evaluated=39, failures={lost: "empty"}, bootstrap=100, seed=seed,
        calibration=vars(calibration(stored, LOGITS)),
        test_digest=digest_of_labels({**dict(zip(ids, labels.tolist(), strict=True)), lost: 2}), **changes,
    )  # fmt: skip
    return made, stored


def written(folder, name="run", *, change=lambda made: made, scores=lambda stored: stored, **changes):
    """A pair whose record was changed before it was written, as a forger with all the means would."""
    made, stored = evaluation(**changes)
    made, stored = change(made), scores(stored)
    return write_pair(made, partial(write_scores, stored, made), folder, name)


def findings(folder):
    return [str(finding) for finding in verify([folder]).findings]


def test_records_as_a_test_leaves_them_are_verified(tmp_path, capsys):
    for seed in range(3):
        written(tmp_path / "a", f"run{seed}", seed=seed)
    store(tmp_path / "b", "plain", np.eye(4), range(4), method="mote")
    assert main(["verify", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out == "4 records verified\n"


@pytest.mark.parametrize(
    "metric", ["top1", "top5", "mean_per_class", "top1_low", "top1_high", "half_top1", "half_top5_std"]
)
def test_every_metric_is_recomputed(tmp_path, metric):
    def change(made):
        return replace(made, metrics={**made.metrics, metric: made.metrics[metric] + 1e-4 - 2e-4 * (metric == "top5")})

    written(tmp_path, change=change)
    (finding,) = findings(tmp_path)
    assert f"run.json: metrics.{metric} is " in finding


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test_digest": "0" * 32}, "details.test_digest is 0000"),
        ({"settings": {"lr": 1}}, "identity.settings is 5e77, details.settings give "),
        ({"training_settings": {"lr": 1}}, "identity.training_settings is 7a1e, details.training_settings give "),
        ({"classes": ("jump", "jump", "run", "sit")}, "details.classes names 'jump' twice"),
        ({"bootstrap": 2}, "metrics.top1_"),
        ({"bootstrap": None}, "details.bootstrap is None"),
        ({"train_test_overlap": 3}, "3: so many training videos were tested"),
    ],
)
def test_details_that_do_not_fit_are_named(tmp_path, changed, said):
    written(tmp_path, change=lambda made: replace(made, details=replace(made.details, **changed)))
    assert any(said in finding for finding in findings(tmp_path))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        *(({name: 0.5}, f"details.calibration.{name} is 0.5, the scores give ") for name in ("ece", "nll", "brier")),
        ({"ece": None}, "details.calibration.ece is None, the scores give "),
        ({"factor": 2.0}, "details.calibration.nll is "),
        ({"factor": None}, "details.calibration.source is 'scores', the scores give None"),
        ({"source": None}, "details.calibration.ece is "),
        ({"videos": 40}, "details.calibration.videos is 40, the scores give 39"),
        ({"reason": "lost"}, "details.calibration.reason is 'lost', the scores give ''"),
        ({"base_novel_auroc": 0.9}, "details.calibration.base_novel_auroc is 0.9, and there is no record of the base"),
    ],
)
def test_a_calibration_that_does_not_follow_is_named(tmp_path, changed, said):
    def change(made):
        stated = replace(made.details.calibration, **changed)
        return replace(made, details=replace(made.details, calibration=stated))

    written(tmp_path, change=change)
    assert any(said in finding for finding in findings(tmp_path)), findings(tmp_path)


def test_the_area_of_base_against_novel_videos_is_recomputed_from_both_records(tmp_path):
    random = np.random.default_rng(0)
    sets = {
        classes: StoredScores([f"{classes}{k}.mp4" for k in range(20)], labels, scores, scores, scores)
        for classes, spread in (("base", 3.0), ("novel", 1.0))
        for labels, scores in [(random.integers(0, 4, 20), (spread * random.normal(size=(20, 4))).astype(np.float32))]
    }
    measured = calibrations([(Subset(classes=classes), stored, LOGITS) for classes, stored in sets.items()])
    for forged in ((), ("novel",), ("base", "novel")):
        for each, (classes, stored) in zip(measured, sets.items(), strict=True):
            stated = replace(each, base_novel_auroc=each.base_novel_auroc + 1e-4 * (classes in forged))
            digest = digest_of_labels(dict(zip(stored.ids, stored.labels.tolist(), strict=True)))
            made = half(
                classes, 0, metrics=classification_metrics(stored), expected=20, evaluated=20, test_digest=digest,
                test_videos=None, calibration=vars(stated),
            )  # fmt: skip
            write_pair(made, partial(write_scores, stored, made), tmp_path, classes)
        said = findings(tmp_path)
        assert len(said) == len(forged)
        for classes, line in zip(forged, said, strict=True):
            assert f"{classes}.json: details.calibration.base_novel_auroc is " in line
    shutil.rmtree(tmp_path / "records")
    write_pair(made, partial(write_scores, stored, made), tmp_path, classes)
    assert findings(tmp_path)[0].endswith("and there is no record of the base classes to it")


def test_another_list_of_videos_is_named(tmp_path):
    written(tmp_path, change=lambda made: replace(made, identity=replace(made.identity, test_videos="00")))
    assert findings(tmp_path)[0].split(": ")[1].startswith("identity.test_videos is 00, the scores and details.classes")


def test_a_metric_that_follows_from_nothing_is_named(tmp_path):
    written(tmp_path, change=lambda made: replace(made, metrics={**made.metrics, "top3": 99.0}))
    assert findings(tmp_path)[0].endswith("metrics.top3 is 99.0, nothing follows for it from the scores")


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("identity", "frames"), 16, "identity.frames is 16, it was 8"),
        (("identity", "seed"), 7, "identity.seed is 7, it was 0"),
        (("identity", "test", "split"), 2, "identity.test.split is 2, it was 1"),
        (("metrics", "top1"), 99.0, "metrics.top1 is 99.0, it was "),
        (("failures",), {"lost.mp4": "late"}, "failures.lost.mp4 is 'late', it was 'empty'"),
        (("details", "classes"), [*CLASSES[:3], "sit"], "details.classes is "),
        (("details", "deviations"), {"lr": 1}, "details.deviations"),
        (("details", "calibration", "ece"), 0.0, "details.calibration.ece is 0.0, it was "),
        (("details", "calibration", "ece"), 2.0, "details.calibration.ece is 2.0; allowed: 0 to 1"),
        (("details", "cost"), {"view": 10, "classes": 5}, "details.cost"),
        (("details", "cost"), {"view": -10}, "details.cost.view is -10; allowed: 0 or more"),
        (("details", "cost"), "much", "details.cost is 'much'; allowed: an object or null"),
        (("details", "moon"), "full", "details.moon is 'full', it was 'missing'"),
        (("predictions",), "0" * 32, "predictions is 0000"),
        (("expected",), 41, "39 videos evaluated and 1 unreadable, but the manifest has 41"),
    ],
)
def test_fields_that_were_edited_by_hand_are_named(tmp_path, keys, value, said):
    path = written(tmp_path)
    assert findings(tmp_path) == []
    edited(path, *keys, value=value)
    assert any(said in finding for finding in findings(tmp_path)), findings(tmp_path)


def test_every_wrong_record_is_named_in_lines_of_its_own(tmp_path, capsys):
    for seed in range(4):
        written(tmp_path, f"run{seed}", seed=seed)
    records = sorted((tmp_path / "records").iterdir())
    predictions_path(records[0]).unlink()
    predictions_path(records[1]).write_bytes(predictions_path(records[3]).read_bytes())
    records[2].write_text("{")
    assert main(["verify", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(".json")[0].split("/")[-1] for line in lines] == ["run0", "run1", "run2"]
    for line, said in zip(lines, ["cannot be read", "not of one run", "is not JSON"], strict=True):
        assert said in line


def test_two_records_of_one_evaluation_are_named(tmp_path):
    path = written(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (finding,) = findings(tmp_path)
    assert f"it is of the same evaluation as {path}" in finding
    assert findings(tmp_path / "a") == []


def test_a_video_twice_is_named(tmp_path):
    def scores(stored):
        return replace(stored, ids=[*stored.ids[:-1], stored.ids[0]])

    written(tmp_path, scores=scores)
    assert any("the video 'v0.mp4' is there twice" in finding for finding in findings(tmp_path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_named(tmp_path, value):
    def scores(stored):
        changed = stored.scores.copy()
        changed[3, 1] = value
        return replace(stored, scores=changed)

    written(tmp_path, scores=scores)
    assert any("1 of 39 videos have scores that are not finite, 'v3.mp4' is one" in each for each in findings(tmp_path))


def test_scores_of_other_labels_are_named(tmp_path):
    """A forger gives videos the labels that they were taken for, and makes every digest anew but one."""
    made, stored = evaluation()
    forged = replace(stored, labels=stored.best)
    details = replace(made.details, calibration=calibration(forged, LOGITS))
    made = replace(made, metrics=classification_metrics(forged), details=details)
    write_pair(made, partial(write_scores, forged, made), tmp_path, "run")
    (finding,) = findings(tmp_path)
    assert "details.test_digest is " in finding


def test_names_of_files_may_be_any_bytes(tmp_path):
    written(tmp_path, names=("a\nb\udcff.mp4", "\udc80\t.mp4"))
    assert findings(tmp_path) == []
    assert StoredEvaluation.load("run", tmp_path).predictions.ids[-1] == "a\nb\udcff.mp4"


def test_no_records_are_no_success(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 1
    assert "no records below" in capsys.readouterr().err


def test_scores_read_back_as_they_were(tmp_path):
    made, stored = evaluation()
    path = write_pair(made, partial(write_scores, stored, made), tmp_path, "run")
    content = predictions_path(path).read_bytes()
    read, text = read_scores(content, made, tmp_path)
    for name in ("labels", "scores", "cosines", "features"):
        np.testing.assert_array_equal(getattr(read, name), getattr(stored, name))
    assert (list(read.ids), read.failures) == (stored.ids, stored.failures)
    assert Record.parse(text.encode(), tmp_path) == made
    assert Record.read(path) == replace(made, predictions=digest(content))


def test_the_workflow_makes_a_page_only_of_what_is_verified():
    workflow = yaml.safe_load((ROOT / "docs" / "workflows" / "leaderboard.yml").read_text())
    steps = workflow["jobs"]["leaderboard"]["steps"]
    lines = [step.get("run", "") for step in steps]
    (first,) = (line for line in lines if line.startswith("vlbench verify"))
    (second,) = (line for line in lines if line.startswith("vlbench leaderboard"))
    assert lines.index(first) < lines.index(second)
    assert not any("if" in step or "continue-on-error" in step for step in steps)
    verified = COMMANDS["verify"].parser().parse_args(first.split()[2:]).folders
    assert verified == COMMANDS["leaderboard"].parser().parse_args(second.split()[2:]).folders
