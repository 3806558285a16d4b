"""Small copies of official releases through the command line."""

import json
import sys
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


@pytest.mark.parametrize("folder", ["kinetics700", "moments", "diving48"])
def test_a_run_without_the_file_of_the_classes_says_which_and_whence(folder, workplace, monkeypatch, capsys):
    monkeypatch.setenv("VLBENCH_DATA", str(workplace))
    for action in ("test", "fit"):
        assert main(command(action, "zero_shot.yaml" if action == "test" else "msta_fewshot.yaml",
                            f"data/{folder}.yaml", *ON_CPU)) == 2  # fmt: skip
        error = capsys.readouterr().err
        facts = BY_FOLDER[folder]().facts
        assert f"{facts.names_file}, which names the classes, does not exist" in error
        assert facts.source in error
        assert "Traceback" not in error


def test_a_training_and_a_test_on_some_of_the_classes(workplace, monkeypatch):
    monkeypatch.setenv("VLBENCH_DATA", str(workplace))
    OFFICIAL["breakfast"](workplace / "breakfast")
    Path("eggs.txt").write_text("Fried egg\n")
    data = ["--data.class_list=eggs.txt", "--data.frames=4", "--data.batch_size=2", "--data.num_workers=0"]
    configs = ["mote_fewshot.yaml", "data/breakfast.yaml", *ON_CPU]
    quick = [*QUICK, "--data.train.shots=null", "--data.loading.epoch_size=null", "--checkpoint.dirpath=checkpoints"]
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
