"""Choices of a comparison whose records differ, and what follows from a table of accuracies made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.results.test_multiverse import FACTS, kept, top1
from vlbench.errors import DataError
from vlbench.evaluation.kept import KeptFacts
from vlbench.evaluation.universes import main_effects, view_subsets
from vlbench.results.multiverse import Choice, Multiverse
from vlbench.results.multiverse_records import multiverse

pytestmark = pytest.mark.quick


def options_of(outcome):
    return {choice.name: choice.options for choice in outcome.choices}


def test_records_of_other_views_have_the_views_that_both_have_and_their_own(tmp_path):
    paths = [kept(tmp_path, "mote", 0, clips=4), kept(tmp_path, "msta", 1, clips=2)]
    outcome = multiverse([tmp_path])
    assert options_of(outcome)["views"] == ("1x1", "2x1", "as tested")
    assert outcome.at_records.tolist() == [top1(path) for path in paths]
    for row, own in enumerate(("as tested", "2x1")):
        assert outcome.accuracies[(row, *outcome.index(views=own))] == top1(paths[row])


def test_fused_views_of_one_method_leave_no_choice_of_views_and_fusion(tmp_path):
    paths = [kept(tmp_path, "mote", facts=replace(FACTS, fused=True)), kept(tmp_path, "msta", 1)]
    outcome = multiverse([tmp_path])
    assert [*options_of(outcome)] == ["prompts"]
    assert any("some scores are of fused views" in note for note in outcome.notes)
    assert outcome.at_records.tolist() == [top1(path) for path in paths]


@pytest.mark.parametrize(("edge", "views"), [("exact", ("1x1", "1x3")), ("quarters", None)])
def test_squares_that_are_no_centre_are_no_view_of_one_crop(tmp_path, edge, views):
    kept(tmp_path, "mote", clips=1, crops=3, edge=edge)
    assert options_of(multiverse([tmp_path])).get("views") == views


def test_the_records_option_of_the_seeds_is_the_smallest(tmp_path):
    paths = {seed: kept(tmp_path, f"s{seed}", seed, method="msta", seed=seed) for seed in (10, 2, 3)}
    outcome = multiverse([tmp_path])
    assert options_of(outcome)["seed"] == ("2", "3", "10")
    assert outcome.at_records.tolist() == [top1(paths[2])]


def test_a_split_that_one_method_lacks_is_left_out_and_one_with_lost_videos_gives_a_choice(tmp_path):
    def of_split(name, split, number, **changes):
        test = {"classes": "all", "shots": None, "split": split, "seed": 0}
        return kept(tmp_path, f"{name}{split}", number, method=name, test=test, **changes)

    lost = {"lost.mp4": 1}
    paths = [of_split("msta", split, split, lost=lost if split == 2 else None) for split in (1, 2, 3)]
    for split in (1, 2):
        of_split("zero", split, 5, shots=0, weights=None, lost=lost if split == 2 else None)
    outcome = multiverse([tmp_path])
    assert options_of(outcome)["split"] == ("1", "2")
    assert "split 3 is left out: msta has it, another method does not" in outcome.notes
    dropped = [outcome.accuracies[(0, *outcome.index(split=s, missing_videos="dropped"))] for s in ("1", "2")]
    assert dropped == [pytest.approx(top1(paths[0])), pytest.approx(top1(paths[1]) * 13 / 12)]


@pytest.mark.parametrize("option", [False, True])
def test_a_method_without_the_option_has_its_own_fusion_in_every_universe(tmp_path, option):
    kept(tmp_path, "mote")
    path = kept(tmp_path, "probe", 2, facts=KeptFacts(("video",), False, "cosines", option, 1000.0, False))
    outcome = multiverse([tmp_path])
    row = outcome.methods.index("probe")
    assert outcome.at_records[row] == top1(path)
    axis = [*options_of(outcome)].index("fusion")
    assert (np.ptp(outcome.accuracies[row], axis=axis) > 0).any() == option


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "ViT-L-14:openai"},
        {"frames": 16},
        {"train_list": "own/8-shot seed 0", "train_dataset": "kinetics400/words"},
        {"options": {"consistency": 0.5}},
        {"training": {"lr": 1e-3}},
        {"training": {"data.clip.sampling": "dense"}},
    ],
)
def test_what_is_no_choice_of_a_protocol_makes_another_method(tmp_path, changes):
    kept(tmp_path, "a", 0, method="msta")
    path = kept(tmp_path, "b", 1, method="msta", **changes)
    outcome = multiverse([tmp_path])
    assert len(outcome.methods) == 2
    assert outcome.at_records.tolist() == [top1(tmp_path / "records/a.json"), top1(path)]


def test_shots_of_another_dataset_make_another_method(tmp_path):
    """Not another seed of one method."""
    for number, (shots, seed) in enumerate([(8, 0), (16, 1)]):
        kept(tmp_path, f"s{shots}", number, method="msta", train_dataset="kinetics400/words", shots=shots, seed=seed)
    with pytest.raises(
        DataError, match=r"the methods have no seed in common \(.*train_shots=16.*: 1; .*train_shots=8.*: 0\)"
    ):
        multiverse([tmp_path])
    path = kept(tmp_path, "again", 2, method="msta", train_dataset="kinetics400/words", shots=8, seed=1)
    outcome = multiverse([tmp_path])
    of_shots = dict(zip(outcome.methods, outcome.at_records.tolist(), strict=True))
    assert of_shots == {"msta, train_shots=16": top1(tmp_path / "records/s16.json"), "msta, train_shots=8": top1(path)}


def test_what_chose_the_epoch_makes_no_other_method(tmp_path):
    kept(tmp_path, "last", 0, method="msta")
    kept(tmp_path, "best", 1, method="msta", selection="heldout", training={"validation.data.heldout": 0.1})
    outcome = multiverse([tmp_path])
    assert (outcome.methods, options_of(outcome)["epoch"]) == (("msta",), ("last", "heldout"))


def test_records_that_do_not_say_which_videos_they_are_of_do_not_compare(tmp_path):
    for number, name in enumerate(("mote", "msta")):
        kept(tmp_path, name, number, test_digest=None)
    with pytest.raises(DataError, match="the digest of the test videos of split 1 is None in the one and None in"):
        multiverse([tmp_path])


# A table made by hand -------------------------------------------------------------------------------------------------

CHOICES = (
    Choice("prompts", ("a", "b")),
    Choice("epoch", ("last", "heldout", "best_on_test")),
    Choice("views", ("1x1",)),
)
TABLE = np.array([
    [[50, 60, 61], [40, 55, 58]],
    [[52, 53, 54], [50, 50, 50]],
    [[50, 50, 50], [30, 31, 32]],
], float)[..., None]  # fmt: skip


def made(recorded=(1, 0, 0)):
    return Multiverse("a setting", ("x", "y", "z"), CHOICES, TABLE, recorded)


def test_ranks_shares_and_pairs_of_a_table():
    outcome = made()
    assert outcome.universes == 6
    assert outcome.at_records.tolist() == [40, 50, 30]
    assert outcome.ranks.tolist() == [[2, 1, 1, 2, 1, 1], [1, 2, 2, 1, 2, 2], [2, 3, 3, 3, 3, 3]]
    assert outcome.leading * 6 == pytest.approx(np.array([[0, 4, 5], [2, 0, 6], [0, 0, 0]]))
    assert [*outcome.pairs()] == [(0, 1), (0, 2), (1, 2)]
    turned = replace(outcome, accuracies=TABLE[[0, 2, 1]], methods=("x", "z", "y"))
    assert [*turned.pairs()] == [(0, 2), (0, 1), (1, 2)]
    assert [(options, values.tolist()) for options, values in outcome.each()][4] == (
        ("b", "heldout", "1x1"),
        [55, 50, 31],
    )
    assert outcome.index() == (1, 0, 0)
    assert outcome.index(prompts="a", epoch="best_on_test") == (0, 2, 0)


def test_what_the_best_epoch_on_test_adds_to_a_table():
    mean, recorded = made().best_on_test
    assert mean.tolist() == [14.5, 1, 1]
    assert recorded.tolist() == [18, 0, 2]
    assert made((0, 1, 0)).best_on_test[1].tolist() == [11, 2, 0]
    without = Multiverse("a setting", ("x", "y", "z"), CHOICES[:1], TABLE[:, :, 0, 0], (0,))
    assert without.best_on_test is None


def test_the_means_of_the_options_make_the_effects_of_a_table():
    shares, spans = made().effects
    assert spans[0] == pytest.approx([57 - 51, 59.5 - 45, 0])
    values = TABLE[0, :, :, 0]
    assert shares[0] == pytest.approx(
        [values.mean(axis=1).var() / values.var(), values.mean(axis=0).var() / values.var(), 0]
    )


@pytest.mark.parametrize("value", [0.1, 0.7, 12.3, 99.9])
def test_nothing_moves_what_does_not_vary(value):
    """Though a mean of equal numbers is not one of them, in its last bits."""
    shares, _ = main_effects(np.full((2, 3), value))
    assert shares.tolist() == [0, 0]


def test_views_are_counted_crop_by_crop_and_the_centre_is_the_last_crop():
    assert view_subsets(3, 3, "uniform") == {
        "1x1": [6], "2x1": [6, 8], "3x1": [6, 7, 8], "1x3": [0, 3, 6], "2x3": [0, 2, 3, 5, 6, 8], "3x3": [*range(9)],
    }  # fmt: skip
    assert view_subsets(2, 1, "dense") == {"2x1": [0, 1]}
