"""Many draws in one process: the records are those of one stage each, and a killed sweep goes on."""

import csv
import json
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.results.test_svg import points
from vlbench.cli import sweep as sweeping
from vlbench.cli.configs import find_config
from vlbench.cli.main import main
from vlbench.datasets import base
from vlbench.errors import ConfigError
from vlbench.protocols.plans import plan
from vlbench.protocols.suites import MethodConfig, ProtocolConfig, Suite
from vlbench.results.callback import RecordWriter
from vlbench.results.kept_file import kept_path, parse_kept
from vlbench.results.record import Record

OF_RECORDS = [
    "--record.keep=[views,templates]", "--record.keep_prompts=[video,bare]", "--record.bootstrap=50",
    "--record.protocol=mine@1",
]  # fmt: skip
"""Options of the records, which a sweep has to heed as a test does."""


@pytest.fixture
def at_home(kitchen_bank, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    Path("bank.yaml").write_text(
        yaml.safe_dump({"data": {"class_path": "FeatureBankDataModule", "init_args": {"root": str(kitchen_bank)}}})
    )


def words(action, name, *options):
    configs = (f"head_only/{name}.yaml", "bank.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml")
    return [action, *(part for config in configs for part in ("--config", config)), *options]


def records(folder="results"):
    return {path.stem: Record.read(path) for path in sorted((Path(folder) / "records").iterdir())}


def comparable(record):
    """What of a record does not depend on when and by which command it was made."""
    details = record.details.as_dict()
    for name in ("seconds", "videos_per_second", "peak_memory_bytes", "config_digest", "command", "kept"):
        details.pop(name)
    details["training"].pop("seconds", None)
    return json.loads(json.dumps([record.identity.as_dict(), record.metrics, record.failures, details]))


def kept_scores(folder, stem, record):
    """What is kept beside a record."""
    path = kept_path(Path(folder) / "records" / f"{stem}.json", record.details.kept)
    return parse_kept(path.read_bytes(), path)


@pytest.mark.parametrize("name", ["tip_adapter_f", "logistic_probe"])
def test_a_sweep_leaves_the_records_of_single_runs(at_home, monkeypatch, name):
    draws, drawn = ((1, 0), (2, 1)), []
    draw = base.draw_shots
    with monkeypatch.context() as patch:
        patch.setattr(
            base, "draw_shots", lambda items, *subset, **known: drawn.append(subset) or draw(items, *subset, **known)
        )
        options = [f"--draws={json.dumps(draws)}", "--record.folder=together"]
        assert main(words("sweep", name, *options, *OF_RECORDS)) == 0
    assert drawn == [*draws]  # a list of thousands of videos is ranked once a draw
    for shots, seed in draws:
        options = [f"--data.train.shots={shots}", f"--data.train.seed={seed}", f"--seed_everything={seed}"]
        assert main(words("fit", name, *options, "--checkpoint.dirpath=c")) == 0
        assert main(words("test", name, *options, "--ckpt_path=c/last.ckpt", "--record.folder=alone", *OF_RECORDS)) == 0
    together, alone = records("together"), records("alone")
    assert together.keys() == alone.keys()
    assert len(together) == 2
    for stem, record in together.items():
        assert comparable(record) == comparable(alone[stem])
        one, other = (
            kept_scores(folder, stem, each) for folder, each in (("together", record), ("alone", alone[stem]))
        )
        assert (one.ids, one.facts, one.weights, one.lost) == (other.ids, other.facts, other.weights, other.lost)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    assert main(["verify", "together"]) == 0


def test_every_option_of_a_record_is_that_of_each_draw():
    """An option that is new, too: the writer of a draw has what the one of the sweep was made with."""
    options = {
        "folder": "out", "name": "mine", "stage": "0123", "protocol": "mine@1", "half_classes": True, "bootstrap": 7,
        "keep": ("views", "templates"), "keep_prompts": ("video", "bare"),
    }  # fmt: skip
    assert options.keys() == signature(RecordWriter).parameters.keys() - {"selection"}  # a sweep has the last epochs
    given = RecordWriter(**options)
    assert all(getattr(RecordWriter(), name) != getattr(given, name) for name in options)
    of_draw = sweeping._writer(given, 2, 3)
    assert of_draw.name == "mine-2shot-seed3-test"
    for name in options.keys() - {"name"}:
        assert getattr(of_draw, name) == getattr(given, name)
    assert sweeping._writer(RecordWriter(folder=None), 2, 3).folder is None


def suite(folder, seeds, methods=("nearest_mean", "tip_adapter"), shots=(1, 2)):
    content = {
        "methods": {name: {"configs": [f"head_only/{name}.yaml"]} for name in methods},
        "overlays": ["backbone/tiny.yaml", "trainer/cpu.yaml"],
        "protocols": [
            {"protocol": "few_shot@1", "datasets": ["bank.yaml"], "shots": list(shots), "seeds": seeds, "sweep": True}
        ],
    }
    path = Path(folder) / "suite.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_suite_plans_one_stage_a_method(at_home, capsys):
    assert main(["run", "--suite", suite(".", 3), "--out", "out", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert said.count("vlbench sweep") == 2
    assert "0 of 2 stages done" in said
    entry = ProtocolConfig("few_shot@1", ["data/bank.yaml"], shots=[1, 2], seeds=3, sweep=True)
    (stage,) = plan(Suite([entry], {"mean": MethodConfig(["head_only/nearest_mean.yaml"])}))
    assert stage.draws == ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2))
    assert stage.records[4] == "few_shot-bank-mean-2shot-seed1-test"
    assert stage.checkpoints == ()
    (started,) = plan(Suite([entry], {"mean": MethodConfig(["head_only/nearest_mean.yaml"], pretrained_from="a.ckpt")}))
    assert started.files == ("a.ckpt",)
    alone = plan(
        Suite([ProtocolConfig("few_shot@1", ["data/bank.yaml"], shots=[1, 2], seeds=3)], {"mean": MethodConfig(["x"])})
    )
    assert stage.records == tuple(name for each in alone for name in each.records)


@pytest.mark.parametrize("options", [{"selection": "heldout"}, {"views": ["views/3x1.yaml"]}])
def test_a_sweep_has_one_test_a_training(options):
    entry = ProtocolConfig("few_shot@1", ["data/bank.yaml"], sweep=True, **options)
    with pytest.raises(ConfigError, match="sweep is true with views or a selection of epochs"):
        plan(Suite([entry], {"mean": MethodConfig(["head_only/nearest_mean.yaml"])}))
    with pytest.raises(ConfigError, match="base_to_novel@1 has no option sweep"):
        plan(Suite([ProtocolConfig("base_to_novel@1", ["data/bank.yaml"], sweep=True)], {"mean": MethodConfig(["x"])}))


@pytest.mark.slow
def test_a_table_of_many_draws(at_home, monkeypatch, capsys):
    """A part of `suite/bank_demo.yaml`: a record a draw, their spread in table and picture, the paired comparison."""
    demo = yaml.safe_load(find_config("bank_demo.yaml", below="suite").read_text())
    demo["methods"] = {name: demo["methods"][name] for name in ("zero_shot", "nearest_mean", "tip_adapter")}
    (protocol,) = demo["protocols"]
    protocol |= {"datasets": ["bank.yaml"], "shots": [1, 2]}
    Path("small.yaml").write_text(yaml.safe_dump(demo))
    line = ["run", "--suite", "small.yaml", "--out", "out"]
    assert main(line) == 0
    assert len(records("out")) == 81
    with Path("out/leaderboard.csv").open() as file:
        rows = {(row["method"], row["shots"]): row for row in csv.DictReader(file) if row["shots"] != "0"}
    assert len(rows) == 4
    for (method, shots), row in rows.items():
        tops = sorted(
            record.metrics["top1"] for record in records("out").values()
            if record.identity.train and (record.identity.method, str(record.identity.train.shots)) == (method, shots)
        )  # fmt: skip
        assert int(row["runs"]) == 20
        assert float(row["top1"]) == pytest.approx(sum(tops) / 20, abs=0.01)
        low, high = np.quantile(tops, [0.025, 0.975])
        assert (float(row["runs_low"]), float(row["runs_high"])) == pytest.approx((low, high), abs=0.006)
    assert main(["leaderboard", "out", "--allow_dirty", "--svg", "out/picture.svg"]) == 0
    shown = points(Path("out/picture.svg").read_text())
    assert shown.keys() == rows.keys()
    for key, (mean, low, high, _, _) in shown.items():
        assert (mean, low, high) == tuple(float(rows[key][name]) for name in ("top1", "runs_low", "runs_high"))
    capsys.readouterr()
    assert main(["compare", "draws", "nearest_mean", "tip_adapter", "--folder", "out"]) == 0
    assert "kitchen" in capsys.readouterr().out
    assert main([*line, "--dry_run"]) == 0
    assert "3 of 3 stages done" in capsys.readouterr().out


def test_a_killed_sweep_goes_on_behind_its_last_record(at_home, monkeypatch):
    line = words(
        "sweep", "nearest_mean", "--draws=[[1,0],[1,1],[2,0]]", "--record.folder=out", "--record.name=s",
        "--record.stage=abc",
    )  # fmt: skip
    written = []

    class Killed(sweeping.RecordWriter):
        def on_test_end(self, trainer, pl_module):
            if len(written) == 2:
                raise KeyboardInterrupt
            super().on_test_end(trainer, pl_module)
            written.append(self.name)

    monkeypatch.setattr(sweeping, "RecordWriter", Killed)
    assert main(line) != 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*.*") if path.is_file()}
    assert len(records("out")) == 2
    written.clear()
    assert main(line) == 0
    assert written == ["s-2shot-seed0-test"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_sweep_is_of_last_epochs(at_home, capsys):
    """The option would go unheeded: a training leaves no checkpoint of another epoch."""
    options = ["--selection=heldout", "--data.heldout=0.2", "--draws=[[2,0]]", "--record.folder=out"]
    assert main(words("sweep", "tip_adapter_f", *options)) == 2
    assert "selection is heldout, and a sweep tests the last epoch of each training" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_sweep_goes_on_from_nothing(at_home, capsys):
    """The options would go unheeded: every draw is trained anew."""
    options = ["--checkpoint.dirpath=ck", "--record.folder=out"]
    quick = [
        "--data.train.shots=2",
        "--trainer.max_epochs=1",
        "--trainer.limit_val_batches=0",
        "--trainer.logger=false",
    ]
    assert main(words("fit", "tip_adapter_f", *options, *quick)) == 0
    for option in ("--ckpt_path=ck/last.ckpt", "--resume=auto"):
        assert main(words("sweep", "tip_adapter_f", *options, "--draws=[[2,0]]", option)) == 2
        assert "and a sweep trains a head anew on every draw; leave it out" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_sweep_is_of_heads(at_home, capsys):
    configs = ("zero_shot.yaml", "bank.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml")
    assert main(["sweep", *(part for config in configs for part in ("--config", config))]) == 2
    assert "a sweep is of heads on a bank, and zero_shot on FeatureBankDataModule is none" in capsys.readouterr().err
