"""Rows average over seeds and splits only, and say in which options those of one method differ."""

import csv
import io
import json
import re
import time
from dataclasses import replace

import pytest

from tests.results.fakes import half, record
from vlbench.cli.results import print_leaderboard
from vlbench.errors import DataError
from vlbench.results.html import to_html
from vlbench.results.leaderboard import check_provenance, rows
from vlbench.results.options import differing, shown
from vlbench.results.record import Record
from vlbench.results.tables import to_csv, to_markdown
from vlbench.settings import settings_digest

pytestmark = pytest.mark.quick


def made(top1=50.0, *, test=None, training=None, **changes):
    """A record with these options of the test and of the training."""
    test, training = test or {"prompts": "video"}, training or {"lr": 0.001}
    digests = {"settings": settings_digest(test), "training_settings": settings_digest(training)}
    weights = f"w{digests['training_settings']}{changes.get('seed', 0)}"
    plain = record(top1, **{"weights": weights, **digests, **changes})
    return replace(plain, details=replace(plain.details, settings=test, training_settings=training))


def labels(records):
    return {(row.method, row.options): (row.top1, row.runs) for row in rows(records)}


def test_rows_differ_with_an_option_of_the_test_and_name_it():
    records = [made(40, test={"prompts": "video", "scale": 1}), made(60, test={"prompts": "mote", "scale": 1})]
    assert labels(records) == {("msta", "prompts=video"): (40, 1), ("msta", "prompts=mote"): (60, 1)}


def test_seeds_of_two_learning_rates_are_two_rows():
    records = [made(top1 + seed, training={"lr": lr}, seed=seed)
               for lr, top1 in ((0.001, 40), (0.1, 60)) for seed in (0, 2)]  # fmt: skip
    assert labels(records) == {("msta", "lr=0.001"): (41, 2), ("msta", "lr=0.1"): (61, 2)}


def test_one_row_and_rows_of_other_methods_name_nothing():
    records = [made(40), made(50, seed=1), made(60, method="mote", test={"prompts": "mote"})]
    assert labels(records) == {("msta", ""): (45, 2), ("mote", ""): (60, 1)}


def test_an_option_that_training_and_test_have_otherwise_is_named_of_both():
    same, other = ({"frames": 8}, {"frames": 8}), ({"frames": 16}, {"frames": 8})
    records = [made(40, test=test, training=training) for test, training in (same, other)]
    assert {row.options for row in rows(records)} == {"frames=8", "frames=16, training.frames=8"}


def test_two_trainings_with_one_seed_are_not_averaged():
    records = [made(40, weights="first"), made(60, weights="second"), made(70, weights="third", seed=1)]
    assert labels(records) == {
        ("msta", "weights=first"): (40, 1), ("msta", "weights=second"): (60, 1), ("msta", ""): (70, 1),
    }  # fmt: skip


def test_halves_of_a_repeated_training_stay_together():
    records = [
        half(classes, top1, 0, settings="s", training_settings="t") for classes, top1 in (("base", 80), ("novel", 60))
    ]
    again = [replace(one, identity=replace(one.identity, weights="again")) for one in records]
    assert [(row.base, row.novel, row.hm) for row in rows([*records, *again])] == [(80, 60, 68.57)] * 2


def test_two_folders_of_one_name_are_two_rows():
    records = [made(40, shots=0, test={"data.dataset": "a"}), made(60, shots=0, test={"data.dataset": "b"})]
    assert {row.options for row in rows(records)} == {"data.dataset=a", "data.dataset=b"}
    same = [made(40, test_videos="a"), made(60, test_videos="b")]  # a list that somebody changed in place
    assert {(row.options, row.runs) for row in rows(same)} == {("test_videos=a", 1), ("test_videos=b", 1)}


def test_weights_of_unknown_training_are_averaged_with_no_others():
    records = [record(50 + 10 * seed, seed=seed, weights=f"w{seed}", training_settings=None) for seed in range(2)]
    assert sorted(row.top1 for row in rows(records)) == [50.0, 60.0]
    splits = [{"classes": "all", "shots": None, "split": split, "seed": 0} for split in (1, 2)]
    released = [record(40 + 2 * split["split"], test=split, training_settings=None) for split in splits]
    assert [(row.top1, row.runs) for row in rows(released)] == [(43.0, 2)]


def test_untrained_weights_are_no_result_of_the_method():
    records = [record(90, shots=0, untrained=True), record(50, shots=0, method="zero_shot")]
    frozen, untrained = sorted(rows(records), key=lambda row: row.method, reverse=True)
    assert (frozen.method, frozen.rank, untrained.method, untrained.rank) == ("zero_shot", 1, "msta (untrained)", None)
    assert frozen.comparison != untrained.comparison
    assert frozen.comparison.digest != untrained.comparison.digest
    assert "untrained" in records[0].name
    assert untrained.published is None


def test_every_table_shows_the_options(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    records = [made(40, test={"prompts": "video"}), made(60, test={"prompts": "mote"})]
    for one in records:
        one.write(tmp_path / "records")
    assert print_leaderboard([tmp_path], csv=tmp_path / "b.csv", html=tmp_path / "b.html") == 0
    printed = capsys.readouterr().out
    table = rows(records)
    assert {line["options"] for line in csv.DictReader(io.StringIO(to_csv(table)))} == {"prompts=video", "prompts=mote"}
    page = json.loads(re.search(r'"rows":(\[.*?\]),"published":', to_html(table))[1])
    assert {row["options"] for row in page} == {"prompts=video", "prompts=mote"}
    assert '"options"' in re.search(r"const MAIN = \[(.*?)\]", to_html(table), re.DOTALL)[1]
    for text in (printed, to_markdown(table)):
        assert "prompts=video" in text
        assert "prompts=mote" in text


def test_values_are_written_as_they_are_typed():
    assert differing([{"a": None, "b": True, "c": 1}, {"a": "x", "b": False, "c": 1.0}]) == [
        "a=null, b=true",
        "a=x, b=false",
    ]
    assert differing([None, {"a": 1}, {}]) == ["options not known", "a=1", ""]
    long, other = shown(["a video of {}"] * 20), shown(["a video of {}"] * 21)
    assert max(len(long), len(other)) < 80
    assert long != other


def test_records_that_know_no_options_are_of_an_older_schema():
    old = [record(50, settings=None)]
    with pytest.raises(DataError, match=r"1 of 2 records .* names no options.* --allow_mixed"):
        check_provenance([*old, record(60, seed=1)])
    check_provenance(old)


@pytest.mark.parametrize("version", [1, 2])
def test_a_record_of_an_older_version_knows_no_options(tmp_path, version):
    path = record().write(tmp_path)
    values = json.loads(path.read_text())
    values["schema_version"] = version
    for name in ("settings", "training_settings", "test_videos", "untrained"):
        del values["identity"][name]
    for name in ("settings", "training_settings"):
        del values["details"][name]
    path.write_text(json.dumps(values))
    old = Record.read(path)
    assert (old.identity.settings, old.identity.training_settings, old.identity.untrained) == (None, None, False)
    assert (old.details.settings, old.details.training_settings) == ({}, {})


def test_the_same_evaluation_with_and_without_halves_is_one():
    plain = {"top1": 50.0, "top5": 90.0, "mean_per_class": 50.0}
    (row,) = rows([record(metrics=plain), record(metrics={**plain, "half_top1": 60.0})])
    assert row.runs == 1


def test_many_rows_take_no_time():
    settings = {f"option{index}": index for index in range(40)}
    records = [made(seed % 90, test={**settings, "prompts": str(kind)}, training=settings, seed=seed)
               for kind in range(40) for seed in range(50)]  # fmt: skip
    began = time.process_time()
    assert len(rows(records)) == 40
    assert time.process_time() - began < 3  # a machine that is ten times slower
