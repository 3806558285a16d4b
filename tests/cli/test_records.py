"""Records of real runs: none replaces another's, and a table says in what they differ."""

import csv
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from lightning import Trainer

from vlbench.backbones import TinyCLIP
from vlbench.cli.main import main
from vlbench.clips.datamodules import SyntheticActionsDataModule
from vlbench.datasets.specs import Subset
from vlbench.methods import MSTA
from vlbench.methods.loops import EvaluationLoops
from vlbench.results.callback import RecordWriter
from vlbench.results.record import Record

TINY = ["data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]


def run(action, name, *options):
    words = [part for config in (name, *TINY) for part in ("--config", config)]
    return main([action, *words, "--data.num_workers=0", *options])


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def records():
    return [Record.read(path) for path in sorted(Path("results/records").iterdir())]


def test_two_prompts_leave_two_records_and_two_rows(workplace, capsys, monkeypatch):
    for prompts in ("video", "mote"):
        assert run("test", "zero_shot.yaml", f"--model.prompts={prompts}") == 0
    assert run("test", "zero_shot.yaml", "--data.loading.eval_batch_size=64") == 0  # the same as the first
    assert len(records()) == 2
    assert main(["leaderboard", "results", "--csv", "board.csv", "--allow_dirty"]) == 0
    with Path("board.csv").open() as file:
        assert {row["options"] for row in csv.DictReader(file)} == {"prompts=video", "prompts=mote"}
    Path("results/records/mine.json").write_bytes(next(Path("results/records").iterdir()).read_bytes())
    kept = {path: path.read_bytes() for path in Path("results").rglob("*.*")}
    capsys.readouterr()
    monkeypatch.setattr(EvaluationLoops, "enter_evaluation", lambda *_: pytest.fail("the evaluation began"))
    assert run("test", "zero_shot.yaml", "--record.name=mine", "--data.clip.test_short_side=1.25") == 2
    assert "data.clip.test_short_side=1.25" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("results").rglob("*.*")} == kept


@pytest.mark.slow
def test_a_record_says_what_its_training_was(workplace):
    quick = ["--trainer.limit_val_batches=0", "--trainer.logger=false", "--data.train.shots=1"]
    fit = ["--checkpoint.dirpath=checkpoints", "--trainer.max_steps=1", "--model.lr=0.1", *quick]
    assert run("fit", "msta_fewshot.yaml", *fit) == 0
    assert run("test", "msta_fewshot.yaml", "--ckpt_path=checkpoints/last.ckpt", "--trainer.precision=bf16-mixed") == 0
    assert run("test", "msta_fewshot.yaml") == 0
    trained, untrained = sorted(records(), key=lambda record: record.identity.untrained)
    settings = trained.details.training_settings
    assert (settings["lr"], settings["trainer.max_steps"], settings["trainer.precision"]) == (0.1, 1, "32-true")
    assert trained.details.settings["trainer.precision"] == "bf16-mixed"
    assert "lr" not in trained.details.settings
    deviations = trained.details.deviations
    assert deviations["lr"] == 0.1
    assert {"trainer.max_steps", "data.augmentation.color_jitter", "data.batch"} < deviations.keys()
    assert "steps" not in settings  # finished
    assert not trained.identity.untrained
    assert untrained.identity.untrained
    assert untrained.identity.training_settings is None
    assert "lr" not in untrained.details.deviations


@pytest.mark.slow
def test_a_test_after_a_training_in_one_program_is_of_trained_weights(workplace):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = MSTA(TinyCLIP(), blocks=2, bottleneck=8)
        data = SyntheticActionsDataModule(
            train=Subset(shots=1), image_size=method.backbone.image_size, num_workers=0, frames=2
        )
        method.use(data.dataset)
        writer = RecordWriter()
        writer.use(data, seed=0)
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, max_steps=1, limit_val_batches=0, callbacks=[writer],
            use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(method, datamodule=data)
        trainer.test(method, datamodule=data, verbose=False)
    (record,) = records()
    assert not record.identity.untrained
    assert record.identity.train.shots == 1
    assert record.identity.weights == method.trained_digest()
    assert record.details.training_settings["data.frames"] == 2


@pytest.mark.slow
def test_a_suite_of_two_prompts_makes_its_table(workplace, capsys):
    Path("mote.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"prompts": "mote"}}}))
    methods = {
        "plain": {"configs": ["zero_shot.yaml"], "trains": False},
        "other": {"configs": ["zero_shot.yaml", "mote.yaml"], "trains": False},
    }
    suite = {
        "methods": methods, "overlays": ["backbone/tiny.yaml", "trainer/cpu.yaml"],
        "protocols": [{"protocol": "few_shot@1", "datasets": ["data/synthetic.yaml"]}],
    }  # fmt: skip
    Path("suite.yaml").write_text(yaml.safe_dump(suite))
    assert main(["run", "--suite", "suite.yaml", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert "prompts=video" in printed
    assert "prompts=mote" in printed
    names = sorted(path.name for path in Path("out/records").iterdir())
    # After a change of its configuration a stage replaces its own record.
    Path("mote.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"prompts": "{} happens"}}}))
    assert main(["run", "--suite", "suite.yaml", "--out", "out"]) == 0
    assert sorted(path.name for path in Path("out/records").iterdir()) == names
    assert "prompts=mote" not in capsys.readouterr().out
