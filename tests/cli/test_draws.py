"""`vlbench compare draws` on records that never were."""

from __future__ import annotations

from itertools import count

import pytest

from tests.results.fakes import record
from vlbench.cli.main import main

pytestmark = pytest.mark.quick

NUMBERS = count()


def train(seed):
    return {"classes": "all", "shots": 8, "split": 1, "seed": seed}


@pytest.fixture
def write(tmp_path):
    """Writes a record of a method with a seed."""

    def written(method, seed, top1, **changes):
        changes = {"weights": f"w{next(NUMBERS)}", "train": train(seed), **changes}
        record(top1, method=method, seed=seed, **changes).write(tmp_path / "records")

    return written


def compared(folder, capsys, code=0):
    assert main(["compare", "draws", "mote", "msta", "--folder", str(folder)]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_draws_are_paired(tmp_path, write, capsys):
    for seed, (a, b) in enumerate([(50.0, 53.0), (40.0, 42.0), (45.0, 49.0)]):
        write("mote", seed, a)
        write("msta", seed, b)
    said = compared(tmp_path, capsys)
    assert [each in said for each in ("45.00", "48.00", "+3.00", "0.25", "[+2")] == [True] * 5
    assert "left out" not in said


def test_one_draw_has_no_spread(tmp_path, write, capsys):
    write("mote", 0, 50.0)
    write("msta", 0, 53.0)
    said = compared(tmp_path, capsys)
    assert "+3.00" in said
    assert "[" not in said
    assert "0.00 " not in said.split("+3.00")[1]


def test_records_of_videos_with_several_labels_are_left_out_and_counted(tmp_path, write, capsys):
    for method, top1 in (("mote", 50.0), ("msta", 53.0)):
        write(method, 0, top1)
        write(method, 0, 0.0, dataset="charades", metrics={"map": 20.5})
    said = compared(tmp_path, capsys)
    assert "+3.00" in said
    assert "note: 2 records are left out, which have a mean average precision and no top-1 accuracy" in said
    assert "charades" not in said


def test_a_method_with_a_mean_average_precision_alone_is_named(tmp_path, write, capsys):
    write("mote", 0, 50.0)
    write("msta", 0, 0.0, dataset="charades", metrics={"map": 20.5})
    said = compared(tmp_path, capsys, code=1)
    assert "no records of trainings of 'msta' with a top-1 accuracy; its methods: mote, msta" in said


@pytest.mark.parametrize("changes", [{"settings": "0ther"}, {"training_settings": "0ther"}, {"backbone": "ViT-L-14:x"}])
def test_variants_of_a_method_are_not_averaged(tmp_path, write, capsys, changes):
    for seed in (0, 1):
        write("mote", seed, 50.0)
        write("msta", seed, 53.0, **(changes if seed else {}))
    assert "msta has results of several variants at 8 shots" in compared(tmp_path, capsys, code=1)


def test_two_results_on_one_draw_are_refused(tmp_path, write, capsys):
    for top1 in (50.0, 60.0):
        write("mote", 0, top1)
    write("msta", 0, 53.0)
    assert "mote has two results at 8 shots with seed 0" in compared(tmp_path, capsys, code=1)


def test_initial_weights_are_no_result_of_a_draw(tmp_path, write, capsys):
    write("mote", 0, 50.0)
    write("msta", 0, 53.0, untrained=True)
    assert "has no records of trainings of 'msta'" in compared(tmp_path, capsys, code=1)


def test_draws_of_other_lists_are_no_pairs(tmp_path, write, capsys):
    """Of one seed of the training, on other videos."""
    for seed in (0, 1):
        write("mote", seed, 50.0 + 2 * seed)
        write("msta", 0, 53.0 + 5 * seed, train=train(seed))
    said = compared(tmp_path, capsys)
    assert "+3.00" in said
    assert "+5.50" not in said


def test_the_seed_and_the_number_of_resamples_are_those_of_the_command(tmp_path, write, capsys):
    for seed in range(12):
        write("mote", seed, 50.0 + seed % 5)
        write("msta", seed, 51.0 + seed % 7)
    said = []
    for options in ([], ["--seed=0"], ["--seed=1", "--resamples=30"], ["--resamples=30"]):
        assert main(["compare", "draws", "mote", "msta", "--folder", str(tmp_path), *options]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert len(set(said)) == 3
