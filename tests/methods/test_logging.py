"""What a training step costs beside its arithmetic: meetings of the processes, and waits of the host for a device."""

import csv
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader

from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import Clip, ClipBatch
from vlbench.datasets.specs import ClassList
from vlbench.methods import MSTA, MoTE
from vlbench.methods.parts.running_terms import RunningTerms
from vlbench.tools.memory.fake_cuda import fake_cuda

STEPS, EVERY, ACCUMULATED = 16, 4, 2
NAMES = ("red", "green", "blue")
COLLECTIVES = ("reduce", "barrier", "broadcast", "all_gather", "reduce_boolean_decision")
METHODS = {
    "mote": lambda: MoTE(TinyCLIP(pretrained=False), layers=1),
    "msta": lambda: MSTA(TinyCLIP(pretrained=False), blocks=1, bottleneck=32, consistency=0),
}


class Counted:
    """Names of the collectives that strategies were asked for."""

    def __init__(self, monkeypatch):
        self.names = []
        for name in COLLECTIVES:
            original = getattr(SingleDeviceStrategy, name)
            monkeypatch.setattr(SingleDeviceStrategy, name, self.counting(name, original))

    def counting(self, name, original):
        def counted(*args, **kwargs):
            self.names.append(name)
            return original(*args, **kwargs)

        return counted


def train(method, folder):
    torch.manual_seed(0)
    clips = [
        Clip(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), k % 3, str(k))
        for k in range(STEPS * ACCUMULATED * 2)
    ]
    losses, original = [], method.training_loss

    def noted(batch):
        terms = original(batch)
        losses.append(terms["loss"].detach())
        return terms

    method.training_loss = noted
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, log_every_n_steps=EVERY, accumulate_grad_batches=ACCUMULATED,
        logger=CSVLogger(folder, "log", version=0), enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(method, DataLoader(clips, batch_size=2, collate_fn=ClipBatch.collate))
    assert trainer.global_step == STEPS
    rows = list(csv.DictReader((folder / "log/version_0/metrics.csv").open()))
    return losses, rows


@pytest.fixture(params=METHODS)
def method(request):
    method = METHODS[request.param]()
    method.use(SimpleNamespace(train_classes=ClassList(NAMES, (0, 1, 2), NAMES)))
    return method


def test_the_log_holds_the_means_since_its_last_entry(method, tmp_path):
    losses, rows = train(method, tmp_path)
    assert [int(row["step"]) for row in rows] == [EVERY * k - 1 for k in range(1, STEPS // EVERY + 1)]
    means = torch.stack(losses).unflatten(0, (-1, EVERY * ACCUMULATED)).mean(dim=1)
    assert [float(row["train/loss"]) for row in rows] == pytest.approx(means.tolist(), rel=1e-5)
    assert all(row["train/ce"] for row in rows)


def test_a_second_training_has_a_log_of_its_own(method, tmp_path):
    train(method, tmp_path / "first")
    losses, rows = train(method, tmp_path / "second")
    means = torch.stack(losses).unflatten(0, (-1, EVERY * ACCUMULATED)).mean(dim=1)
    assert [float(row["train/loss"]) for row in rows] == pytest.approx(means.tolist(), rel=1e-5)


def test_the_processes_meet_once_for_each_entry_of_the_log(method, tmp_path, monkeypatch):
    """In 16 steps of two batches each: 4 reductions and nothing else."""
    counted, during = Counted(monkeypatch), []
    start, end = type(method).on_train_batch_start, type(method).on_train_batch_end
    monkeypatch.setattr(
        type(method), "on_train_batch_start", lambda *a: (during.append(len(counted.names)), start(*a))[1]
    )
    monkeypatch.setattr(type(method), "on_train_batch_end", lambda *a: (end(*a), during.append(len(counted.names)))[0])
    train(method, tmp_path)
    assert counted.names[during[0] : during[-1]] == ["reduce"] * (STEPS // EVERY)


@pytest.mark.usefixtures("pretended_gpu")
def test_the_host_waits_for_the_device_once_for_each_entry_of_the_log():
    terms = RunningTerms()
    with fake_cuda() as cuda:
        for _ in range(STEPS):
            terms.update({"loss": cuda.pretend(torch.zeros(())), "ce": cuda.pretend(torch.zeros(()))})
        assert cuda.to_host == []
        means = terms.means(SingleDeviceStrategy())
        assert cuda.to_host == ["copy"]
    assert {value.device.type for value in means.values()} == {"cpu"}  # what a progress bar reads as often as it likes
