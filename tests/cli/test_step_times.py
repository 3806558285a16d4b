"""What `fit` logs beside the loss, and where."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import Logger

from tests.cli.test_trainer import OVERLAYS, command
from vlbench.cli import step_times
from vlbench.cli.main import main
from vlbench.cli.step_times import StepTimes, check_logger
from vlbench.errors import ConfigError

OPTIONS = (
    *("--data.train.shots=2", "--trainer.max_steps=4", "--trainer.limit_val_batches=0", "--data.num_workers=0"),
    *("--trainer.log_every_n_steps=2", "--trainer.enable_progress_bar=false", "--data.batch_size=8"),
)


def test_a_training_logs_to_csv_and_another_logger_adds_to_it(workplace, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    adds = ["--trainer.logger.class_path=tests.cli.test_step_times.Other"]
    for root, options in (("alone", []), ("beside", adds)):
        fit = command("fit", "msta_fewshot.yaml", *OVERLAYS, options=[*OPTIONS, *options])
        assert main([*fit, f"--trainer.default_root_dir={root}"]) == 0
        (log,) = Path(root).rglob("metrics.csv")
        rows = list(csv.DictReader(log.open()))
        assert [int(row["step"]) for row in rows] == [1, 3]
        assert all(float(row["train/loss"]) > 0 and float(row["train/step_seconds"]) > 0 for row in rows)
        assert all(0 < float(row["train/data_share"]) < 1 and float(row["train/lr"]) >= 0 for row in rows)
    assert STEPS == [1, 3]


STEPS: list[int] = []


class Other(Logger):
    """A logger that is no CSV."""

    name, version = "other", 0

    def log_metrics(self, metrics, step=None):
        STEPS.append(step)

    def log_hyperparams(self, params, *args, **kwargs):
        pass


def test_seconds_are_of_the_steps_and_the_share_is_of_waiting(monkeypatch):
    clock, logged = [0.0], []
    monkeypatch.setattr(step_times.time, "monotonic", lambda: clock[0])
    group = {"lr": 0.5}
    trainer = SimpleNamespace(
        global_step=0, log_every_n_steps=2, optimizers=[SimpleNamespace(param_groups=[group, {"lr": 9}])]
    )
    method = SimpleNamespace(log_dict=lambda values, on_step: logged.append(values))
    callback = StepTimes()
    callback.on_train_start(trainer, method)
    for _ in range(2):
        clock[0] += 100  # a validation
        callback.on_train_epoch_start(trainer, method)
        for _ in range(2):
            for waiting, working, stepped in ((1, 2, 0), (3, 4, 1)):  # two batches make a step
                clock[0] += waiting
                callback.on_train_batch_start(trainer, method, None, 0)
                clock[0] += working
                trainer.global_step += stepped
                callback.on_train_batch_end(trainer, method, None, None, 0)
    assert logged == [{"train/step_seconds": 10.0, "train/data_share": 0.4, "train/lr": 0.5}] * 2


@pytest.mark.parametrize(("name", "package"), [("TensorBoardLogger", "tensorboard"), ("WandbLogger", "wandb")])
def test_a_logger_without_its_package_is_refused_with_the_package(monkeypatch, name, package):
    monkeypatch.setattr(step_times, "find_spec", lambda _: None)
    logger = SimpleNamespace(class_path=f"lightning.pytorch.loggers.{name}")
    for given in (logger, [logger]):
        with pytest.raises(ConfigError, match=f"{name}, and {package} is not installed; run `pip install {package}`"):
            check_logger(given)
    monkeypatch.setattr(step_times, "find_spec", lambda name: name)
    for given in (logger, True, False, None):
        check_logger(given)
