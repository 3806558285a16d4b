"""Small copies of official releases through the command line."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_trainer import QUICK, command
from tests.official import OFFICIAL
from vlbench.cli.main import main
from vlbench.datasets import DATASETS
from vlbench.results.record import Record
from vlbench.results.verify import verify

ON_CPU = ["backbone/tiny.yaml", "trainer/cpu.yaml"]
BY_FOLDER = {cls.folder: cls for cls in DATASETS.values()}


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


@pytest.mark.parametrize("folder", OFFICIAL)
def test_zero_shot_scores_every_listed_video_against_every_class(folder, workplace, monkeypatch):
    monkeypatch.setenv("VLBENCH_DATA", str(workplace))
    OFFICIAL[folder](workplace / folder)
    options = ["--data.num_workers=0", "--data.frames=4"]
    assert main(command("test", "zero_shot.yaml", f"data/{folder}.yaml", *ON_CPU, options=options)) == 0
    (path,) = Path("results/records").iterdir()
    record, dataset = Record.read(path), BY_FOLDER[folder]()
    assert record.details.classes == dataset.spec.class_names
    videos = dataset.videos("test")
    assert record.expected == len(videos)
    assert record.failures.keys() == {video.id for video in videos if not video.path.exists()}
    assert record.identity.dataset == dataset.label
    assert verify([Path("results")]).findings == ()


@pytest.mark.parametrize("folder", ["kinetics700", "moments", "diving48", "charades"])
def test_a_run_without_the_file_of_the_classes_says_which_and_whence(folder, workplace, monkeypatch, capsys):
    monkeypatch.setenv("VLBENCH_DATA", str(workplace))
    assert main(command("test", "zero_shot.yaml", f"data/{folder}.yaml", *ON_CPU)) == 1
    error, facts = capsys.readouterr().err, BY_FOLDER[folder]().facts
    assert f"{facts.names_file}, which names the classes, does not exist" in error
    assert facts.source in error
    assert "Traceback" not in error


def test_a_training_and_a_test_on_some_of_the_classes(workplace, monkeypatch):
    monkeypatch.setenv("VLBENCH_DATA", str(workplace))
    OFFICIAL["breakfast"](workplace / "breakfast")
    Path("eggs.txt").write_text("Fried egg\n")
    Path("all_videos.yaml").write_text("data: {init_args: {train: {shots: null}}}")
    data = ["--data.class_list=eggs.txt", "--data.frames=4", "--data.batch_size=2", "--data.num_workers=0"]
    data += ["--data.loading.effective_batch=2"]
    configs = ["mote_fewshot.yaml", "data/breakfast.yaml", "all_videos.yaml", *ON_CPU]
    quick = [*QUICK, "--trainer.max_steps=2", "--data.loading.epoch_size=4"]
    quick += ["--checkpoint.dirpath=checkpoints"]
    assert main(command("fit", *configs, options=[*quick, *data])) == 0
    tested = ["--ckpt_path=checkpoints/last.ckpt", *data]
    assert main(command("test", *configs, options=tested)) == 0
    (path,) = Path("results/records").iterdir()
    record = Record.read(path)
    assert record.details.classes == ("fried egg",)
    assert record.identity.dataset == record.identity.train_dataset == "breakfast/eggs"
    assert record.identity.train_list == record.identity.test_list
    assert record.identity.train_list.startswith("official, classes of eggs ")
    assert (record.expected, record.details.train_test_overlap) == (1, 0)
    assert record.details.published_as == ()
    assert "eggs.txt" not in json.dumps(record.details.settings)
    # The same weights on all classes are another evaluation, of another dataset.
    all_classes = [option for option in tested if "class_list" not in option]
    assert main(command("test", *configs, options=all_classes)) == 0
    datasets = {Record.read(path).identity.dataset for path in Path("results/records").iterdir()}
    assert datasets == {"breakfast", "breakfast/eggs"}
    assert verify([Path("results")]).findings == ()
    assert main(["leaderboard", "results", "--csv", "board.csv", "--allow_dirty"]) == 0
    assert Path("board.csv").read_text().count("\n") == 3


def test_several_labels_a_video_are_tested_by_average_precision_and_by_nothing_else(workplace, monkeypatch, capsys):
    monkeypatch.setenv("VLBENCH_DATA", str(workplace))
    OFFICIAL["charades"](workplace / "charades")
    options = ["--data.num_workers=0", "--data.frames=4"]
    configs = ["zero_shot.yaml", "data/charades.yaml", *ON_CPU]
    assert main(command("test", *configs, options=options)) == 0
    (path,) = Path("results/records").iterdir()
    record = Record.read(path)
    assert record.metrics.keys() == {"map"}
    assert 0 < record.metrics["map"] <= 100
    assert (record.expected, record.evaluated) == (4, 3)
    assert "several labels" in record.details.calibration.reason
    assert verify([Path("results")]).findings == ()

    changed = replace(record, metrics={"map": record.metrics["map"] / 2})
    path.write_text(changed.as_json())
    assert any("metrics.map is" in finding.text for finding in verify([Path("results")]).findings)
    path.write_text(record.as_json())

    assert main(["leaderboard", "results", "--csv", "board.csv", "--allow_dirty"]) == 0
    (row,) = csv.DictReader(Path("board.csv").read_text().splitlines())
    assert float(row["map"]) == round(record.metrics["map"], 2)
    assert (row["rank"], row["top1"], row["top5"], row["upper_bound"], row["coverage"]) == ("1", "", "", "", "0.75")
    capsys.readouterr()
    for words in (["report", str(path)], ["rescore", str(path), "--prompts", "a {}"], ["audit", str(path)]):
        assert main(words) == 1
        assert "may have several labels" in capsys.readouterr().err
    for option in ("--record.half_classes=true", "--record.keep=[views]"):
        assert main(command("test", *configs, options=[*options, option])) == 2
        assert "may have several labels" in capsys.readouterr().err
    for words in (
        command("fit", "mote_fewshot.yaml", *configs[1:], options=[*QUICK, *options]),
        ["features", "--config", "data/charades.yaml", "backbone/tiny.yaml", "--out", "banks"],
        ["data", "subset", "few", "--config", "data/charades.yaml"],
    ):
        assert main(words) == 2
        assert "several labels" in capsys.readouterr().err
