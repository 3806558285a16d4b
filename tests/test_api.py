"""vlbench in Python: what `import vlbench` costs, and what its names give; `tests/inference` has the model."""

import csv
import io
import subprocess
import sys

import pytest
import torch
import yaml

import vlbench
from tests.fakes import dump_frames, moving_frames, write_video
from tests.results.fakes import record
from vlbench.clips.datamodules import FolderVideosDataModule
from vlbench.datasets import FolderVideos
from vlbench.errors import ConfigError
from vlbench.results.leaderboard import rows
from vlbench.results.tables import to_csv


def test_the_import_loads_nothing_but_the_package_itself():
    """A time would depend on the machine; what takes time is modules."""
    code = "import sys; before = {*sys.modules}; import vlbench; print(*sorted({*sys.modules} - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name for name in result.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names]
    assert loaded == ["vlbench"]


def test_names_are_known_before_they_are_asked_for():
    assert {"load", "evaluate", "leaderboard", "Model"} <= {*dir(vlbench)}
    assert vlbench.load.__module__ == "vlbench.api"
    assert {name: getattr(vlbench, name) for name in vlbench.__all__}
    with pytest.raises(AttributeError, match="module 'vlbench' has no attribute 'laod'"):
        _ = vlbench.laod


@pytest.mark.parametrize("options", [{}, {"checkpoint": "a.ckpt", "record": "a.json"}, {"configs": "a", "record": "b"}])
def test_a_model_comes_from_one_place(options):
    with pytest.raises(ConfigError, match=r"give (one of the two|either it or them)"):
        vlbench.load(**options)


def test_a_dataset_may_be_named_by_configurations(tmp_path):
    for part in ("train", "test"):
        for seed, name in enumerate(("jumping", "running")):
            (tmp_path / "mine" / part / name).mkdir(parents=True)
            write_video(tmp_path / "mine" / part / name / "0.mp4", moving_frames(8, seed=seed))
    data = {"class_path": "FolderVideosDataModule", "init_args": {"root": str(tmp_path / "mine"), "frames": 2}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"data": data}))
    (tmp_path / "root.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"root": str(tmp_path / "mine")}}}))
    model = vlbench.load(configs=["zero_shot.yaml", "backbone/tiny.yaml"], device="cpu")
    (given,) = vlbench.evaluate(model, FolderVideos(str(tmp_path / "mine")))
    assert given.predictions.ids == ["test/jumping/0.mp4", "test/running/0.mp4"]
    # The clips are the model's; those of a configuration are those of its DataModule.
    for name in (str(tmp_path / "mine.yaml"), ["data/folder.yaml", str(tmp_path / "root.yaml")]):
        (named,) = vlbench.evaluate(model, name)
        assert named.metrics == given.metrics
        assert named.predictions.ids == given.predictions.ids
        assert torch.equal(named.predictions.scores, given.predictions.scores)
    (of_module,) = vlbench.evaluate(model, FolderVideosDataModule(str(tmp_path / "mine"), frames=2, num_workers=0))
    assert not torch.equal(of_module.predictions.scores, given.predictions.scores)
    with pytest.raises(ConfigError, match=r"backbone/tiny\.yaml configure no dataset; give one such as data/ucf101"):
        vlbench.evaluate(model, "backbone/tiny.yaml")


def test_videos_that_are_kept_as_frames_are_read_as_such(tmp_path):
    root = tmp_path / "mine"
    for seed, name in enumerate(("jumping", "running")):
        video = write_video(tmp_path / f"{name}.mp4", moving_frames(8, seed=seed))
        (root / "test" / name).mkdir(parents=True)
        dump_frames(video, root / "test" / name / "0")
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({"data": {"init_args": {"root": str(root), "loading": {"backend": "rawframes"}}}})
    )
    model = vlbench.load(configs=["zero_shot.yaml", "backbone/tiny.yaml"], device="cpu")
    (evaluation,) = vlbench.evaluate(model, ["data/folder.yaml", str(tmp_path / "mine.yaml")])
    assert evaluation.predictions.failures == {}
    assert evaluation.predictions.ids == ["test/jumping/0", "test/running/0"]


def test_a_table_has_the_columns_and_the_order_of_its_csv_file(tmp_path):
    made = [record(top1=60.0), record(top1=40.0, method="mote")]
    for each in made:
        each.write(tmp_path / "results" / "records")
    table = vlbench.leaderboard(tmp_path / "results", allow_dirty=True)
    assert vlbench.leaderboard([str(tmp_path / "results")], allow_dirty=True) == table
    written = [*csv.DictReader(io.StringIO(to_csv(rows(made))))]
    assert [list(row) for row in table] == [list(row) for row in written]
    assert [row["top1"] for row in table] == [float(row["top1"]) for row in written]
