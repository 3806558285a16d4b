"""The real command line on tiny data, in this process."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.tolerance import assert_same_bits
from vlbench.cli.main import main
from vlbench.methods.base import VideoTextMethod
from vlbench.results.record import Record
from vlbench.results.verify import verify

OVERLAYS = ["data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
QUICK = ["--trainer.max_steps=3", "--trainer.limit_val_batches=0", "--data.num_workers=0", "--trainer.logger=false"]


def command(action, *configs, options=()):
    return [action, *(part for config in configs for part in ("--config", config)), *options]


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


@pytest.mark.parametrize("method", ["msta", "mote"])
def test_fit_then_test_then_predict(workplace, method, capsys):
    configs = [f"{method}_fewshot.yaml", *OVERLAYS]
    shots = ["--data.train.shots=2", "--checkpoint.dirpath=checkpoints"]
    assert main(command("fit", *configs, options=[*QUICK, *shots])) == 0
    checkpoint = Path("checkpoints/last.ckpt")
    held = torch.load(checkpoint, weights_only=True)
    assert held["vlbench"]["backbone"]["name"] == "vlbench-tiny-clip"
    assert held["vlbench"]["training"]["subset"]["shots"] == 2
    assert held["global_step"] == 3
    expected = (
        "adapters."
        if method == "msta"
        else ("head.", "backbone.clip.visual.", "backbone.clip.logit_scale", "train_class")
    )
    assert all(key.startswith(expected) for key in held["state_dict"])

    options = ["--ckpt_path", str(checkpoint), "--data.num_workers=0"]
    assert main(command("test", *configs, options=options)) == 0
    (path,) = Path("results/records").iterdir()
    record = Record.read(path)
    assert (record.expected, record.evaluated, record.failures) == (160, 160, {})
    assert record.identity.train.shots == 2
    assert record.identity.method == method
    assert record.details.training.steps == 3
    assert record.details.train_test_overlap == 0
    assert record.details.train_test_check == "32 videos of own/2-shot seed 0 with those of official/split 1"
    assert verify([Path("results")]).findings == ()
    with safe_open(next(Path("results/predictions").iterdir()), "pt") as file:
        scores, labels = file.get_tensor("scores"), file.get_tensor("labels")
        assert scores.shape == (160, 16)
        assert len(json.loads(file.metadata()["ids"])) == 160
    assert 100 * (scores.argmax(1) == labels).float().mean().item() == pytest.approx(record.metrics["top1"], abs=1e-3)

    assert main(["leaderboard", "results", "--csv", "board.csv", "--allow_dirty"]) == 0
    assert Path("board.csv").read_text().count("\n") == 2
    capsys.readouterr()
    assert main(command("predict", *configs, options=options)) == 0
    said = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.count("\t") == 2]
    names = {path.split(".")[0] for path, _, _ in said}
    assert len(names) == len(said) == 160
    assert all(0 <= float(score) <= 1 for _, _, score in said)
    assert main(command("validate", *configs, options=options)) == 0
    assert "val/top1" in capsys.readouterr().out


def test_zero_shot_is_well_above_chance_and_repeats_exactly(workplace):
    for _ in range(2):
        assert main(command("test", "zero_shot.yaml", *OVERLAYS, options=["--data.num_workers=0"])) == 0
    (path,) = Path("results/records").iterdir()
    assert Record.read(path).metrics["top1"] > 20  # chance is 6.25


@pytest.mark.parametrize("option", ["limit_test_batches=0.5", "fast_dev_run=true"])
def test_a_record_of_a_part_of_the_videos_is_refused_before_the_test(workplace, option, capsys):
    options = ["--data.batch_size=8", "--data.loading.eval_batch_size=8", f"--trainer.{option}"]
    assert main(command("test", "zero_shot.yaml", *OVERLAYS, options=options)) == 2
    said = capsys.readouterr()
    assert f"trainer.{option.partition('=')[0]} takes" in said.err
    assert "set record.folder to null" in said.err
    assert "Testing" not in said.out
    assert not list(Path("results").rglob("*.json"))
    assert main(command("test", "zero_shot.yaml", *OVERLAYS, options=[*options, "--record.folder=null"])) == 0


def test_training_repeats_exactly(workplace):
    weights = []
    for folder in ("a", "b"):
        torch.manual_seed(hash(folder) % 1000)
        options = [*QUICK, "--data.train.shots=2", f"--checkpoint.dirpath={folder}"]
        assert main(command("fit", "mote_fewshot.yaml", *OVERLAYS, options=options)) == 0
        weights.append(torch.load(f"{folder}/last.ckpt", weights_only=True)["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        assert_same_bits(weights[1][key], value)


def test_zero_shot_does_not_train(workplace, capsys):
    assert main(command("fit", "zero_shot.yaml", *OVERLAYS, options=QUICK)) == 2
    assert "trains nothing; use `vlbench test`" in capsys.readouterr().err


def test_missing_data_is_one_clear_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLBENCH_DATA", str(tmp_path / "videos"))
    assert main(["fit", "--config", "msta_fewshot.yaml"]) == 1
    error = capsys.readouterr().err
    for part in (str(tmp_path / "videos" / "ucf101"), "VLBENCH_DATA", "crcv.ucf.edu", "backbone/tiny.yaml"):
        assert part in error
    assert "Traceback" not in error


def test_a_misspelt_config_is_one_clear_message(capsys):
    assert main(["fit", "--config", "msta_fewshto.yaml"]) == 2
    assert "did you mean msta_fewshot.yaml" in capsys.readouterr().err


def test_a_checkpoint_of_another_method_or_backbone_is_refused(workplace, capsys):
    shots = ["--data.train.shots=2", "--checkpoint.dirpath=checkpoints"]
    assert main(command("fit", "msta_fewshot.yaml", *OVERLAYS, options=[*QUICK, *shots])) == 0
    options = ["--ckpt_path", "checkpoints/last.ckpt", "--data.num_workers=0"]
    assert main(command("test", "mote_fewshot.yaml", *OVERLAYS, options=options)) == 2
    assert "is of method 'msta'" in capsys.readouterr().err
    other = [*options, "--model.init_args.backbone.init_args.pretrained=false"]
    assert main(command("test", "msta_fewshot.yaml", *OVERLAYS, options=other)) == 2
    assert "give the same backbone" in capsys.readouterr().err
    narrow = [*options, "--model.init_args.blocks=1"]
    assert main(command("test", "msta_fewshot.yaml", *OVERLAYS, options=narrow)) == 2
    assert "does not fit" in capsys.readouterr().err
    assert not Path("results").exists()


def test_a_suite_that_is_none_is_one_clear_message(tmp_path, capsys):
    (tmp_path / "broken.yaml").write_text(json.dumps({"methods": 3}))
    assert main(["run", "--suite", str(tmp_path / "broken.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "is not a suite" in capsys.readouterr().err


def validated(monkeypatch, configs, options):
    """Fits with `options`; the top-1 of every validation, in order."""
    seen = []
    finish = VideoTextMethod.on_validation_epoch_end

    def on_validation_epoch_end(self):
        finish(self)
        seen.append([(evaluation.metrics["top1"], evaluation.set) for evaluation in self.evaluations])

    monkeypatch.setattr(VideoTextMethod, "on_validation_epoch_end", on_validation_epoch_end)
    assert main(command("fit", *configs, options=options)) == 0
    return seen


@pytest.mark.parametrize("selection", ["heldout", "best_on_test"])
def test_the_best_epoch_is_kept_beside_the_last(workplace, selection, monkeypatch, recwarn):
    configs = ["msta_fewshot.yaml", "demo/msta.yaml", *OVERLAYS]
    options = ["--data.num_workers=0", "--trainer.logger=false", "--data.train.shots=4", "--data.heldout=0.25"]
    options += ["--trainer.max_epochs=2", f"--selection={selection}", "--checkpoint.dirpath=kept"]
    seen = validated(monkeypatch, configs, options)
    assert [len(sets[0][1].labels) for sets in seen] == [160 if selection == "best_on_test" else 16] * 2
    scores = [sets[0][0] for sets in seen]
    best, last = (torch.load(f"kept/{name}.ckpt", weights_only=True) for name in ("best", "last"))
    training = [held["vlbench"]["training"] for held in (best, last)]
    assert [facts["epochs"] for facts in training] == [scores.index(max(scores)) + 1, 2]
    assert [(facts["heldout"], facts["videos"]) for facts in training] == [(0.25, 48)] * 2
    of_heldout = [max(scores), scores[-1]] if selection == "heldout" else [None, None]
    assert [facts.get("heldout_top1") for facts in training] == of_heldout
    warned = any("chosen by the test videos" in str(warning.message) for warning in recwarn)
    assert warned == (selection == "best_on_test")

    options = ["--data.num_workers=0", "--ckpt_path=kept/best.ckpt", f"--selection={selection}"]
    assert main(command("test", *configs, options=options)) == 0
    (path,) = Path("results/records").iterdir()
    record = Record.read(path)
    assert record.identity.selection == selection
    assert record.identity.train_list == "own, 0.25 held out/4-shot seed 0"
    if selection == "best_on_test":
        assert record.metrics["top1"] == pytest.approx(max(scores), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--selection=heldout"], "selection is heldout and data.heldout 0.0; allowed: above 0", 2),
        (["--selection=best_on_test", "--trainer.limit_val_batches=0"], "limit_val_batches 0; without validation", 2),
        (["--selection=heldout", "--data.train.shots=1", "--data.heldout=0.5"], "has 1 training video", 1),
    ],
)
def test_a_selection_that_cannot_be_made_is_one_clear_message(workplace, options, message, code, capsys):
    assert main(command("fit", "msta_fewshot.yaml", *OVERLAYS, options=options)) == code
    assert message in capsys.readouterr().err
