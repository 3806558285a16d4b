"""Scores that a training kept after each epoch: the best of them, and files that are not those of the record."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import save

from tests.results.fakes import edited
from tests.results.test_multiverse import FACTS, LABELS, kept, top1
from vlbench.cli.main import main
from vlbench.errors import DataError
from vlbench.results import kept_runs as kept_runs_module
from vlbench.results.kept_file import KeptScores, parse_kept, read_kept
from vlbench.results.kept_runs import KeptRun
from vlbench.results.multiverse_records import multiverse
from vlbench.results.pairs import digest, write_pair
from vlbench.results.scores_file import write_scores
from vlbench.results.stored import StoredEvaluation
from vlbench.results.verify import verify

pytestmark = pytest.mark.quick


def epochs(folder, accuracies, weights="w"):
    """Kept epochs of a training with these numbers of right videos, the weights `w1`, `w2`, ...; the training."""
    files = []
    for epoch, right in enumerate(accuracies, start=1):
        best = np.where(np.arange(len(LABELS)) < right, LABELS, (LABELS + 1) % 4)
        scores = np.eye(4, dtype=np.float32)[best][:, None, None].repeat(2, axis=1)
        ids = tuple(f"v{index:02}.mp4" for index in range(len(LABELS)))
        of_epoch = KeptScores(ids, LABELS, scores, {}, replace(FACTS, fused=True), f"{weights}{epoch}", epoch)
        path = folder / "epochs" / "msta-0123" / f"epoch-{epoch:04}-all-split1.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(of_epoch.as_bytes())
        files.append((path, digest(of_epoch.as_bytes())))
    return KeptRun(tuple(files), replace(FACTS, fused=True))


def test_the_same_scores_are_the_same_bytes_and_an_older_layout_is_read(tmp_path):
    scores = np.zeros((12, 2, 1, 4), np.float32)
    kept = KeptScores(tuple(map(str, range(12))), LABELS, scores, {"lost": 1}, replace(FACTS, fused=True), "w", 3)
    assert len({kept.as_bytes() for _ in range(5)}) == 1
    values = {"ids": kept.ids, "lost": kept.lost, "facts": vars(kept.facts), "weights": "w", "epoch": 3}
    older = save({"labels": LABELS, "scores": scores}, {name: json.dumps(value) for name, value in values.items()})
    for content in (kept.as_bytes(), older):
        read = parse_kept(content, tmp_path)
        assert (read.ids, read.lost, read.facts, read.weights, read.epoch) == (
            kept.ids, kept.lost, kept.facts, kept.weights, kept.epoch,
        )  # fmt: skip


def test_the_first_of_the_best_epochs_counts_and_one_is_in_memory_at_a_time(tmp_path, monkeypatch):
    run = epochs(tmp_path, [3, 8, 8, 5])
    alive, most = [], 0
    original = kept_runs_module.parse_kept

    def parsed(content, path):
        nonlocal most
        each = original(content, path)
        alive.append(weakref.ref(each))
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
        return each

    monkeypatch.setattr(kept_runs_module, "parse_kept", parsed)
    last = run.epochs[3][0]
    tested = replace(original(last.read_bytes(), last), epoch=None)
    best = run.best(tested)
    assert (best.weights, best.epoch) == ("w2", 2)
    assert most == 1
    same = replace(tested, weights="w2")
    assert run.best(same) is same


def with_epochs(folder, change=lambda kept: kept, *, named=True, **changes):
    """A record and the epochs of its training: the first one is right everywhere, the tenth has its weights."""
    path = kept(folder, "msta", **changes)
    evaluation = StoredEvaluation.load(str(path), folder)
    tested = read_kept(path, evaluation.record, evaluation.predictions)
    right = np.broadcast_to(np.eye(4, dtype=np.float32)[LABELS][:, None, None], tested.scores.shape)
    digests = {}
    for epoch, scores in ((1, replace(tested, scores=right, weights="e1")), (10, change(tested))):
        name, content = f"msta-0123/epoch-{epoch:04}-all-split1.safetensors", replace(scores, epoch=epoch).as_bytes()
        file = folder / "epochs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        digests[name] = digest(content)
    if not named:
        return path
    details = replace(evaluation.record.details, epochs=digests)
    written = replace(evaluation.record, details=details)
    return write_pair(written, partial(write_scores, evaluation.predictions, written), folder, path.stem)


def test_the_best_of_the_kept_epochs_is_an_option(tmp_path):
    path = with_epochs(tmp_path)
    outcome = multiverse([tmp_path])
    assert outcome.choices[0].options == ("last", "best_on_test")
    assert outcome.at_records.tolist() == [top1(path)]
    assert (outcome.accuracies[0][1] == 100).all()
    mean, recorded = outcome.best_on_test
    assert recorded[0] == 100 - top1(path)
    assert mean[0] == pytest.approx(100 - outcome.accuracies[0][0].mean())


@pytest.mark.parametrize(
    ("changes", "change", "noted"),
    [
        ({"selection": "heldout"}, lambda each: each, False),
        ({}, lambda each: replace(each, weights="of another training"), True),
        ({}, lambda each: replace(each, scores=each.scores + 0.01), True),
        ({}, lambda each: replace(each, scores=each.scores[:, :, :1]), True),
        ({}, lambda each: replace(each, ids=tuple(f"other{name}" for name in each.ids)), True),
    ],
)
def test_epochs_that_are_not_those_of_the_record_are_left_out(tmp_path, changes, change, noted):
    with_epochs(tmp_path, change, **changes)
    outcome = multiverse([tmp_path])
    assert "epoch" not in [choice.name for choice in outcome.choices]
    assert any("the epochs of msta are left out" in note for note in outcome.notes) == noted


def spoilt(file):
    file.write_bytes(file.read_bytes()[:-1] + b"x")


SPOILT = {
    "another epoch": lambda first, last: first.write_bytes(last.read_bytes()),
    "the last is another one": lambda first, last: last.write_bytes(first.read_bytes()),
    "changed": lambda first, last: spoilt(first),
    "the last is changed": lambda first, last: spoilt(last),
    "gone": lambda first, last: first.unlink(),
    "the last is gone": lambda first, last: last.unlink(),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_an_epoch_that_is_not_the_one_of_the_record_is_refused(tmp_path, spoil, capsys):
    path = with_epochs(tmp_path)
    assert verify([tmp_path]).findings == ()
    spoil(*sorted((tmp_path / "epochs").rglob("*.safetensors")))
    (finding,) = map(str, verify([tmp_path]).findings)
    assert finding.startswith(f"{path}: ")
    assert "epoch-00" in finding
    assert main(["multiverse", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "epoch-00" in said
    assert "run `vlbench fit` and `vlbench test` again" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "epoch-0001-all-split1.safetensors", "../records/msta.json", "a/b/epoch-0001-x.safetensors", "/dev/zero",
        "../epoch-0001-all-split1.safetensors", "a\0/epoch-0001-all-split1.safetensors",
    ],
)  # fmt: skip
def test_a_record_names_nothing_but_epochs(tmp_path, name):
    """Nothing else is read, wherever the name leads."""
    path = with_epochs(tmp_path)
    record = StoredEvaluation.load(str(path), tmp_path).record
    edited(path, "details", "epochs", value={name: "0" * 32})
    refused = f"details.epochs names {name!r}, which is no file of an epoch"
    assert any(refused in str(finding) for finding in verify([tmp_path]).findings)
    with pytest.raises(DataError) as error:
        KeptRun.of(path, replace(record, details=replace(record.details, epochs={name: "0" * 32})))
    assert refused in str(error.value)


def test_epochs_that_the_record_does_not_name_are_left_out_with_a_note(tmp_path):
    """As those of an older vlbench, and those of a training that had another results folder than its test."""
    with_epochs(tmp_path / "training", named=False)
    kept(tmp_path / "test", "msta", 0)
    (tmp_path / "training" / "records" / "msta.json").unlink()
    outcome = multiverse([tmp_path])
    assert "epoch" not in [choice.name for choice in outcome.choices]
    assert any("msta.json does not name those in" in note for note in outcome.notes)
