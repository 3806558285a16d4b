"""Universes of stored scores: what follows from them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.results.fakes import edited, record, store
from vlbench.cli.main import main
from vlbench.clips.sampling import dense_test, uniform_test
from vlbench.errors import DataError
from vlbench.evaluation.kept import KeptFacts
from vlbench.evaluation.stored_scores import StoredScores, classification_metrics, digest_of_labels
from vlbench.evaluation.universes import FUSIONS, fused, leading_shares, main_effects, right_videos, view_subsets
from vlbench.methods.parts.fusion import fused as fused_by_torch
from vlbench.results.kept_file import KeptScores, kept_path, read_kept, write_kept
from vlbench.results.leaderboard import rows
from vlbench.results.multiverse_records import multiverse
from vlbench.results.pairs import read_records, write_pair
from vlbench.results.scores_file import write_scores
from vlbench.results.stored import StoredEvaluation
from vlbench.results.verify import verify
from vlbench.settings import settings_digest

pytestmark = pytest.mark.quick

LABELS = np.arange(12) % 4
FACTS = KeptFacts(("video", "bare"), True, "probabilities", True, 100.0, False)


def kept(
    folder, name, number=0, *, method=None, facts=FACTS, labels=LABELS, lost=None, clips=2, crops=1, edge="exact",
    options=None, training=None, **changes,
):  # fmt: skip
    """A record as `vlbench test` leaves it with the scores of its views and templates; returns its path."""
    views = 1 if facts.fused or not len(labels) else clips * crops
    scores = np.random.default_rng(number).normal(size=(len(labels), len(facts.prompts), views, 4)).astype(np.float32)
    scores *= 0.05
    ids, lost = tuple(f"v{index:02}.mp4" for index in range(len(labels))), lost or {}
    path = folder / "records" / f"{name}.json"
    digest = digest_of_labels({**dict(zip(ids, labels.tolist(), strict=True)), **lost})
    changes = {"weights": f"w{number}", "test_digest": digest, **changes}
    for kind, values in (("settings", options), ("training_settings", training)):
        changes |= {} if values is None else {kind: settings_digest(values)}
    made = KeptScores(ids, labels, scores, lost, facts, changes["weights"])
    causes = {video: (label, "empty") for video, label in lost.items()}
    stored = StoredScores(ids, labels, made.own, scores[:, 0].mean(axis=1), scores[:, 0, 0, :0], causes)
    written = record(
        metrics=classification_metrics(stored), expected=stored.total, evaluated=len(ids), method=method or name,
        failures=dict.fromkeys(lost, "empty"), views=f"{clips}x{crops}", **changes,
    )  # fmt: skip
    details = replace(
        written.details, views={"clips": clips, "crops": crops, "right_edge": edge}, sampling="uniform",
        settings=options or {}, training_settings=training or {}, kept=write_kept(made, path),
    )  # fmt: skip
    written = replace(written, details=details)
    return write_pair(written, partial(write_scores, stored, written), folder, name)


def top1(path):
    return StoredEvaluation.load(str(path), path.parent).record.metrics["top1"]


def test_every_method_is_scored_in_every_universe(tmp_path):
    paths = [kept(tmp_path, name, number, lost={"lost.mp4": 1}) for number, name in enumerate(("mote", "msta", "zero"))]
    outcome = multiverse([tmp_path])
    assert outcome.methods == ("mote", "msta", "zero")
    assert outcome.accuracies.shape == (3, 2, 2, 4, 2)
    assert outcome.at_records.tolist() == [top1(path) for path in paths]
    dropped = outcome.index(missing_videos="dropped")
    for row in range(3):
        assert outcome.accuracies[(row, *dropped)] == pytest.approx(outcome.at_records[row] * 13 / 12)
        assert outcome.flat[row].min() <= outcome.at_records[row] <= outcome.flat[row].max()


def test_seeds_and_epochs_of_records_are_choices_of_what_is_trained(tmp_path):
    for number, (seed, selection) in enumerate([(0, "last"), (1, "last"), (0, "heldout"), (1, "heldout")]):
        kept(tmp_path, f"run{number}", number, method="msta", seed=seed, selection=selection)
    kept(tmp_path, "zero", 9, shots=0, weights=None, seed=5)
    outcome = multiverse([tmp_path])
    assert outcome.methods == ("msta", "zero")
    assert {choice.name: choice.options for choice in outcome.choices[:2]} == {
        "seed": ("0", "1"),
        "epoch": ("last", "heldout"),
    }
    assert outcome.accuracies[(0, *outcome.index(seed="1", epoch="heldout"))] == top1(tmp_path / "records/run3.json")
    assert (np.ptp(outcome.accuracies[1], axis=(0, 1)) == 0).all()
    (tmp_path / "records" / "run3.json").unlink()
    with pytest.raises(DataError, match=r"msta has no record of .* seed 1, epoch heldout"):
        multiverse([tmp_path])


def test_one_method_under_two_protocols_is_refused(tmp_path):
    for name in ("a", "b"):
        kept(tmp_path, name, method="msta")
    with pytest.raises(DataError, match="are the same method under two protocols"):
        multiverse([tmp_path])


def test_a_test_without_a_readable_video_is_wrong_everywhere(tmp_path):
    lost = {f"lost{index}.mp4": 1 for index in range(3)}
    kept(tmp_path, "mote", labels=LABELS[:0], lost=lost)
    outcome = multiverse([tmp_path])
    assert outcome.universes == 32
    assert (outcome.accuracies == 0).all()


@given(arrays(np.float64, (4, 6), elements=st.integers(0, 3).map(float)))
def test_shares_of_a_pair_and_ties_sum_to_one(accuracies):
    shares = leading_shares(accuracies)
    ties = np.stack([(row == accuracies).mean(axis=1) for row in accuracies])
    assert np.allclose(shares + shares.T + ties, 1)


@given(arrays(np.float64, (2, 3, 4), elements=st.integers(0, 100).map(float)))
def test_main_effects_are_parts_of_the_variance(values):
    shares, spans = main_effects(values)
    assert (shares >= 0).all()
    assert shares.sum() <= 1 + 1e-9
    assert (spans <= np.ptp(values) + 1e-9).all()


def test_a_choice_that_decides_alone_has_all_of_the_variance():
    shares, spans = main_effects(np.broadcast_to(np.array([10.0, 20.0, 40.0])[:, None], (3, 5)))
    assert shares == pytest.approx([1, 0])
    assert spans == pytest.approx([30, 0])


@pytest.mark.parametrize("how", FUSIONS)
def test_views_are_fused_as_methods_do(how):
    scores = torch.randn(50, 6, 9, generator=torch.Generator().manual_seed(0)) * 0.1
    expected = fused_by_torch(scores, 100.0, how)
    ours = fused(scores.numpy(), 100.0, how)
    assert ours.dtype == np.float32
    assert np.allclose(ours, expected.numpy(), rtol=1e-5, atol=1e-6)
    labels = np.arange(50) % 9
    views = [[0, 1, 2, 3, 4, 5], [5], [1, 3]]
    counts = right_videos(scores.numpy(), labels, 100.0, views, [how])[:, 0].tolist()
    best = [fused_by_torch(scores[:, view], 100.0, how).numpy().argmax(axis=1) for view in views]
    assert counts == [int((each == labels).sum()) for each in best]


@pytest.mark.parametrize(("sampling", "frames_of"), [("uniform", uniform_test), ("dense", dense_test)])
def test_views_of_a_subset_are_those_of_another_test(sampling, frames_of):
    for clips in range(1, 11):
        for name, views in view_subsets(clips, 1, sampling).items():
            fewer = int(name.split("x")[0])
            for length in (1, 3, 8, 17, 64, 127, 129, 301, 1000):
                every = frames_of(length, 8, clips)
                assert [every[view] for view in views] == frames_of(length, 8, fewer), (clips, fewer, length)
    assert [*view_subsets(4, 3, "uniform")] == ["1x1", "2x1", "4x1", "1x3", "2x3", "4x3"]
    assert [*view_subsets(4, 3, "uniform", "quarters")] == ["1x3", "2x3", "4x3"]
    assert [*view_subsets(3, 1, "pytorchvideo")] == ["3x1"]


# What is refused --------------------------------------------------------------------------------------------------


def test_records_without_kept_scores_say_how_to_make_them(tmp_path, capsys):
    kept(tmp_path, "mote")
    store(tmp_path, "plain", np.eye(4)[[0] * 12], LABELS, method="msta")
    assert main(["multiverse", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "1 of 2 records have no scores of single views" in said
    assert "plain.json" in said
    assert "--record.keep=[views,templates]" in said


def test_records_of_other_videos_are_refused(tmp_path):
    kept(tmp_path, "mote")
    kept(tmp_path, "msta", labels=LABELS[:8])
    said = r"msta.json and .*mote.json do not compare: the number of test videos of split 1 is 8 in the one and 12 in"
    with pytest.raises(DataError, match=said):
        multiverse([tmp_path])


TRAIN = {"classes": "base", "shots": 8, "split": 1, "seed": 0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": {"data.clip.views.order": "reversed"}}, "order of the frames is reversed in .* normal in"),
        ({"options": {"data.loading.backend": "rawframes"}}, "were stored as frames in .* video files in"),
        ({"untrained": True}, "the weights are those that a training begins with in"),
        ({"train": TRAIN}, "classes that were trained on are base in .* all in"),
        ({"train_list": "vifi/train1_few_shot_8"}, "lists of training videos are of vifi in .* own in"),
        ({"test_list": "vifi/val1"}, "test list of split 1 is vifi/val1 in .* official/split 1 in"),
        ({"lost": {"v11.mp4": 3}, "labels": LABELS[:11]}, r"videos of split 1 are 1 \(v11.mp4\) in .* 0 in"),
        ({"labels": LABELS[::-1]}, "digest of the test videos of split 1 is"),
        (
            {"classes": ["jump", "walk", "a & b", "wave_hand"]},
            r"ucf101/words of split 1 are 4 \(walk\) in .* 4 \(run <fast>\)",
        ),
        ({"classes": ["a & b", "run <fast>", "jump", "wave_hand"]}, r"are 4 \(a & b, jump\) in .* 4 \(jump, a & b\)"),
    ],
)
def test_records_that_the_leaderboard_does_not_rank_together_are_refused(tmp_path, changes, said):
    kept(tmp_path, "mote")
    kept(tmp_path, "msta", 1, **changes)
    with pytest.raises(DataError, match=f"msta.json and .*mote.json do not compare: .*{said}"):
        multiverse([tmp_path])
    assert len({row.comparison for row in rows(read_records([tmp_path]))}) == 2


def test_other_class_names_and_no_training_still_compare(tmp_path):
    """What is a choice here, or asks for no training videos."""
    for number, (name, dataset) in enumerate([("mote", "ucf101/words"), ("mote", "ucf101/raw")]):
        names = ["a", "b", "c", "d"] if dataset.endswith("raw") else None
        kept(tmp_path, f"{name}{number}", 0, method=name, dataset=dataset, train_dataset=dataset,
             **({} if names is None else {"classes": names}))  # fmt: skip
        kept(tmp_path, f"zero{number}", 2, method="zero", shots=0, weights=None, dataset=dataset,
             **({} if names is None else {"classes": names}))  # fmt: skip
    outcome = multiverse([tmp_path])
    assert outcome.choices[0].options == ("ucf101/raw", "ucf101/words")
    assert outcome.methods == ("mote", "zero")


def test_modified_code_is_refused(tmp_path):
    kept(tmp_path, "mote", git_commit="0123-dirty")
    with pytest.raises(DataError, match="--allow_dirty"):
        multiverse([tmp_path])
    assert multiverse([tmp_path], allow_dirty=True).universes == 16


def test_several_comparisons_are_named(tmp_path):
    kept(tmp_path, "mote")
    kept(tmp_path, "msta", protocol="zero_shot@1", shots=16)
    with pytest.raises(DataError, match=r"2 comparisons .*few_shot@1, ucf101, 8 shots, all.*--protocol"):
        multiverse([tmp_path])
    assert multiverse([tmp_path], protocol="few_shot@1").methods == ("mote",)
    with pytest.raises(DataError, match="0 comparisons"):
        multiverse([tmp_path], shots="3")


def test_nothing_to_choose_is_said(tmp_path):
    kept(tmp_path, "mote", facts=replace(FACTS, prompts=("video",), fused=True), clips=1)
    with pytest.raises(DataError, match="leave nothing to choose"):
        multiverse([tmp_path])


def test_templates_that_one_method_lacks_are_no_choice_and_methods_without_stay(tmp_path):
    kept(tmp_path, "mote")
    kept(tmp_path, "msta", 1, facts=replace(FACTS, prompts=("bare", "photo")))
    kept(tmp_path, "probe", 2, facts=KeptFacts(("video",), False, "cosines", False, 1.0, False))
    outcome = multiverse([tmp_path])
    (prompts,) = [choice for choice in outcome.choices if choice.name == "prompts"]
    assert prompts.options == ("each its own", "bare")
    row = outcome.methods.index("probe")
    axis = 1 + outcome.choices.index(prompts)
    assert (np.diff(outcome.accuracies, axis=axis)[row] == 0).all()
    assert any("no templates change the scores of probe" in note for note in outcome.notes)
    assert any("how views are fused is no option of probe" in note for note in outcome.notes)


def test_tampering_is_found(tmp_path):
    path = kept(tmp_path, "mote")
    evaluation = StoredEvaluation.load(str(path), tmp_path)
    source = kept_path(path, evaluation.record.details.kept)
    original = source.read_bytes()
    for content in (original[:-1] + bytes([original[-1] ^ 1]), original[:100], b""):
        source.write_bytes(content)
        (finding,) = verify([tmp_path]).findings
        assert "they are not of one run" in str(finding) or "no file of kept scores" in str(finding)
        with pytest.raises(DataError):
            multiverse([tmp_path])
    source.write_bytes(original)
    assert verify([tmp_path]).findings == ()
    edited(path, "details", "kept", value="0" * 32)
    assert any("details.kept" in str(finding) for finding in verify([tmp_path]).findings)


def test_kept_scores_of_another_record_are_refused_though_the_digest_fits(tmp_path):
    path, other = kept(tmp_path, "mote"), kept(tmp_path, "msta", 1)
    first, second = (StoredEvaluation.load(str(each), tmp_path) for each in (path, other))
    digest = second.record.details.kept
    kept_path(path, digest).write_bytes(kept_path(other, digest).read_bytes())
    forged = replace(first.record, details=replace(first.record.details, kept=digest))
    with pytest.raises(DataError, match="is of other videos, classes or weights"):
        read_kept(path, forged, first.predictions)
    same = replace(forged, identity=replace(forged.identity, weights="w1"))
    with pytest.raises(DataError, match="does not give the scores"):
        read_kept(path, same, first.predictions)


def test_videos_that_may_have_several_labels_are_refused(tmp_path):
    record(metrics={"map": 20.0}).write(tmp_path / "records")
    with pytest.raises(DataError, match="may have several labels, which have a mean average precision"):
        multiverse([tmp_path])
