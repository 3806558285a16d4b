"""What is not finite ends a training, writes no checkpoint and makes no record."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils._python_dispatch import TorchDispatchMode

from vlbench.cli.main import main
from vlbench.errors import TrainingError
from vlbench.methods import MSTA, ZeroShot
from vlbench.methods.parts.finite import FiniteTraining, not_finite

CONFIGS = ["msta_fewshot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
QUICK = [
    *("--data.num_workers=0", "--data.train.shots=1", "--trainer.limit_val_batches=0", "--trainer.logger=false"),
    "--checkpoint.dirpath=checkpoints",
]


def command(action, *options):
    return [action, *(part for config in CONFIGS for part in ("--config", config)), *options]


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def check_checkpoints(folder, before):
    """Checkpoints are of epochs that ended before a step, and finite."""
    for path in folder.rglob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        assert content["global_step"] < before
        assert not_finite(content["state_dict"]) == []


@pytest.mark.slow
def test_a_training_that_diverges_ends_and_leaves_no_checkpoint_of_it(workplace, capsys, monkeypatch):
    plain = MSTA.training_loss

    def training_loss(self, batch):
        terms = plain(self, batch)
        return {**terms, "loss": terms["loss"] * (torch.inf if self.global_step == 1 else 1.0)}

    monkeypatch.setattr(MSTA, "training_loss", training_loss)
    assert main(command("fit", *QUICK, "--trainer.max_steps=6")) == 1
    said = capsys.readouterr().err
    assert "the loss of step 2 is not finite, at a learning rate of " in said
    assert "smaller learning rate" in said
    check_checkpoints(workplace, before=2)


@pytest.mark.slow
def test_weights_that_are_not_finite_are_not_tested(workplace, capsys):
    assert main(command("fit", *QUICK, "--trainer.max_steps=1")) == 0
    path = Path("checkpoints/last.ckpt")
    content = torch.load(path, weights_only=True)
    key = sorted(content["state_dict"])[0]
    content["state_dict"][key].view(-1)[0] = float("nan")
    torch.save(content, path)
    capsys.readouterr()
    assert main(command("test", "--data.num_workers=0", "--ckpt_path", str(path))) == 2
    said = capsys.readouterr().err
    assert f"tensors are not finite, {key} is one" in said
    assert not Path("results").exists()


def test_scores_that_are_not_finite_make_no_record(workplace, capsys, monkeypatch):
    plain = ZeroShot.score

    def score(self, video, classes):
        scores = plain(self, video, classes)
        return torch.where(torch.arange(len(scores))[:, None] == 0, torch.nan, scores)

    monkeypatch.setattr(ZeroShot, "score", score)
    configs = ["zero_shot.yaml", *CONFIGS[1:]]
    options = ["--data.num_workers=0", "--data.loading.eval_batch_size=80"]
    assert main(["test", *(part for config in configs for part in ("--config", config)), *options]) == 1
    said = capsys.readouterr().err
    assert "zero_shot gives 2 of 160 videos scores that are not finite" in said
    assert "nothing was recorded" in said
    assert not [path for path in Path("results").rglob("*") if path.is_file()]


class Waits(TorchDispatchMode):
    """Counts how often the host asks the device for a number."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def steps(losses, every):
    """A training with these losses, as the callback sees it; yields the steps at which the host waited."""
    callback, waits = FiniteTraining(), Waits()
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.5}])
    trainer = SimpleNamespace(global_step=0, log_every_n_steps=every, optimizers=[optimizer])
    method = SimpleNamespace(device=torch.device("cpu"))
    waited = []
    with waits:
        callback.on_train_start(trainer, method)
        for step, loss in enumerate(losses, 1):
            before = waits.count
            callback.on_train_batch_start(trainer, method, None, step)
            trainer.global_step = step
            callback.on_train_batch_end(trainer, method, {"loss": torch.tensor(loss)}, None, step)
            if waits.count > before:
                waited.append(step)
        callback.on_train_epoch_end(trainer, method)
    return waited


def test_the_host_waits_for_the_device_at_logged_steps_only():
    assert steps([1.0] * 10, every=4) == [4, 8]
    assert steps([1.0] * 3, every=0) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("position", [1, 5, 9])
def test_the_first_step_that_is_not_finite_is_named(value, position):
    losses = [1.0] * (position - 1) + [value] * 2 + [1.0] * 3
    with pytest.raises(TrainingError, match=f"the loss of step {position} is not finite, at a learning rate of 0.5"):
        steps(losses, every=4)


def test_a_training_that_is_not_finite_is_not_validated():
    class Diverging(BoringModel):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx)["loss"] * torch.nan

        def validation_step(self, batch, batch_idx):
            raise AssertionError("a validation began")

    trainer = Trainer(
        accelerator="cpu", max_epochs=1, limit_train_batches=2, callbacks=[FiniteTraining()], logger=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(TrainingError, match="the loss of step 1 is not finite"):
        trainer.fit(Diverging())


def test_tensors_that_are_not_finite_are_named():
    state = {
        "b": torch.tensor([1.0, torch.inf]),
        "a": torch.tensor([torch.nan]),
        "c": torch.ones(2),
        "n": torch.ones(1).int(),
    }
    assert not_finite(state) == ["a", "b"]
    assert not_finite({}) == []


DIVERGING = """
import os, sys, torch
from vlbench.cli.main import main
from vlbench.methods import MSTA
plain = MSTA.training_loss

def training_loss(self, batch):
    terms = plain(self, batch)
    if self.global_rank == 1 and self.global_step == 1:
        terms["loss"] = terms["loss"] * float("nan")
    return terms

MSTA.training_loss = training_loss
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_every_process_ends_where_one_diverges(workplace):
    """The other process has a finite loss, and would wait for its partner's gradient for ever."""
    (workplace / "diverging.py").write_text(DIVERGING)
    options = [*QUICK, "--trainer.max_steps=4", "--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=4"]
    ended = subprocess.run(
        [sys.executable, "diverging.py", *command("fit", *options, "--trainer.log_every_n_steps=3")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "the loss of step 2 is not finite" in ended.stderr
    check_checkpoints(workplace, before=2)
