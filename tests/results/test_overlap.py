"""What a record says of training and test videos."""

from dataclasses import replace

import pytest

from tests.datasets.test_disjoint import Leaking, Splits
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.results.overlap import train_test_overlap

pytestmark = pytest.mark.quick

FACTS = TrainingFacts("fake", Subset(), list="official/split 1", videos=12)


def test_lists_that_share_no_video_are_named():
    assert train_test_overlap(Splits(), FACTS, trained=True) == (
        0,
        "12 videos of official/split 1 with those of official/split 1",
    )


@pytest.mark.parametrize(
    ("facts", "trained", "said"),
    [
        (None, False, "nothing was trained"),
        (FACTS, False, "nothing was trained"),
        (None, True, "not known: the weights do not name their training list"),
        (replace(FACTS, list=None), True, "not known: the weights do not name"),
        (replace(FACTS, dataset="kinetics400"), True, "nothing to compare: trained on kinetics400, tested on fake"),
        (
            replace(FACTS, videos=11),
            True,
            "not known: trained on 11 videos of official/split 1, this configuration has 12",
        ),
        (replace(FACTS, list="vifi/train1"), True, "not known: trained on 12 videos of vifi/train1"),
        (replace(FACTS, subset=Subset(split=1, shots=9)), True, "not known: the training list official/split 1 cannot"),
    ],
)
def test_what_cannot_be_compared_says_why(facts, trained, said):
    overlap = train_test_overlap(Splits(), facts, trained=trained)
    assert overlap.videos is None
    assert overlap.check.startswith(said)


def test_the_training_of_the_weights_counts_and_not_that_of_the_configuration():
    with pytest.raises(ConfigError, match="12 of the 12 training videos"):
        train_test_overlap(Splits(train=Subset(split=2), test=Subset(split=2)), FACTS, trained=True)
    with pytest.raises(DataError, match="12 of the 12 training videos"):
        train_test_overlap(Leaking(train=Subset(classes="base")), FACTS, trained=True)


def test_shots_and_held_out_videos_are_drawn_again():
    shots = replace(FACTS, subset=Subset(shots=2, seed=3), list="own/2-shot seed 3", videos=8)
    assert train_test_overlap(Splits(), shots, trained=True).videos == 0
    heldout = replace(FACTS, heldout=0.3, list="official, 0.3 held out/split 1", videos=8)
    assert train_test_overlap(Splits(), heldout, trained=True).videos == 0
    with pytest.raises(DataError, match=r"12 of the 12 training videos of official, 0\.3 held out/split 1"):
        train_test_overlap(Leaking(), heldout, trained=True)


def test_some_classes_are_compared_with_the_training_on_all_and_on_the_same(tmp_path):
    (tmp_path / "some.txt").write_text("walk\nsit\n")
    some = Splits(class_list=str(tmp_path / "some.txt"))
    name = some.list_name("test")
    assert name.startswith("official, classes of some ")
    of_all = train_test_overlap(some, FACTS, trained=True)
    assert of_all == (0, f"12 videos of official/split 1 with those of {name}")
    facts = replace(FACTS, dataset="fake/some", list=name, videos=6)
    assert train_test_overlap(some, facts, trained=True) == (0, f"6 videos of {name} with those of {name}")
    with pytest.raises(DataError, match="6 of the 12 training videos"):
        train_test_overlap(Leaking(class_list=str(tmp_path / "some.txt")), FACTS, trained=True)


def test_all_classes_are_not_compared_with_a_training_on_some():
    facts = replace(FACTS, dataset="fake/some", list="official, classes of some 01234567/split 1", videos=6)
    assert train_test_overlap(Splits(), facts, trained=True).check.startswith("not known: trained on 6 videos of")
