from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer
from torch.utils.data import DataLoader

from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import Clip, ClipBatch
from vlbench.datasets.specs import ClassList
from vlbench.errors import ConfigError
from vlbench.methods import MSTA
from vlbench.methods.parts.groups import matrices_decay, trained_groups
from vlbench.optim import EpochSchedule, Schedule

pytestmark = pytest.mark.quick


@given(
    warmup=st.integers(0, 5),
    epochs=st.integers(6, 40),
    per_epoch=st.integers(1, 30),
    final=st.floats(0, 1),
)
def test_rises_to_the_peak_then_falls_to_the_final_ratio(warmup, epochs, per_epoch, final):
    schedule = Schedule(warmup_epochs=warmup, final_ratio=final)
    total = epochs * per_epoch
    values = [schedule.factor(step, steps_per_epoch=per_epoch, total_steps=total) for step in range(total + 1)]
    peak = warmup * per_epoch
    assert values[:peak] == sorted(values[:peak])
    assert values[peak] == pytest.approx(1.0)
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert values[-1] == pytest.approx(final)
    assert warmup == 0 or values[0] == 0.0


def test_depends_on_epochs_and_not_on_their_length():
    """Half an epoch in, the rate is the same whether an epoch has 10 steps or 1000."""
    schedule = Schedule(warmup_epochs=5)
    coarse = [schedule.factor(step, steps_per_epoch=10, total_steps=300) for step in range(0, 300, 5)]
    fine = [schedule.factor(step, steps_per_epoch=1000, total_steps=30000) for step in range(0, 30000, 500)]
    assert coarse == pytest.approx(fine)


def test_refresh_every_ten_holds_the_rate_between_refreshes():
    schedule = Schedule(warmup_epochs=2, refresh_every=10)
    values = [schedule.factor(step, steps_per_epoch=25, total_steps=250) for step in range(50)]
    every = [Schedule(warmup_epochs=2).factor(step, steps_per_epoch=25, total_steps=250) for step in range(50)]
    assert values[:9] == [0.0] * 9  # the first nine updates of the released recipe do nothing
    assert values[9:19] == [every[9]] * 10
    assert values[19:25] == [every[19]] * 6
    assert values[25:34] == [every[25]] * 9  # an epoch starts with a refresh
    assert values[34] == every[34]


@given(warmup=st.integers(1, 5), per_epoch=st.integers(1, 20), first=st.floats(0, 1))
def test_the_warmup_begins_at_its_initial_ratio(warmup, per_epoch, first):
    schedule = Schedule(warmup_epochs=warmup, initial_ratio=first)
    arguments = {"steps_per_epoch": per_epoch, "total_steps": 10 * per_epoch}
    values = [schedule.factor(step, **arguments) for step in range(warmup * per_epoch + 1)]
    even = [first + (1 - first) * step / (warmup * per_epoch) for step in range(warmup * per_epoch + 1)]
    assert values == pytest.approx(even)


@pytest.mark.parametrize(("floor", "ends"), [("relative", [0.1, 1.0]), ("absolute", [0.1, 0.1])])
def test_groups_end_at_a_part_of_their_own_peak_or_of_the_lowest(floor, ends):
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": [weight], "lr": lr} for weight, lr in zip(weights, (1.0, 10.0), strict=True)]
    )
    scheduler = Schedule(warmup_epochs=1, final_ratio=0.1, floor=floor).scheduler(
        optimizer, steps_per_epoch=2, total_steps=8
    )
    rates = []
    for _ in range(9):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert rates[2] == pytest.approx([1.0, 10.0])
    assert rates[8] == pytest.approx(ends)


def test_groups_are_by_rate_and_decay():
    layers = torch.nn.ModuleDict({"old": torch.nn.Linear(2, 3), "new": torch.nn.Linear(3, 2)})
    layers["new"].bias.requires_grad_(False)
    groups = trained_groups(
        layers.named_parameters(), lr=1e-3, weight_decay=0.1, decays=matrices_decay, eps=1e-6,
        factor=lambda name: 10.0 if name.startswith("new") else 1.0,
    )  # fmt: skip
    assert [(len(group["params"]), group["lr"], group["weight_decay"], group["eps"]) for group in groups] == [
        (1, 1e-3, 0.1, 1e-6),
        (1, 1e-3, 0.0, 1e-6),
        (1, 1e-2, 0.1, 1e-6),
    ]


@given(epochs=st.integers(2, 20), per_epoch=st.integers(1, 20), warmup=st.integers(0, 5), final=st.floats(0, 1))
def test_a_cosine_from_the_start_is_only_covered_by_the_warmup(epochs, per_epoch, warmup, final):
    arguments = {"steps_per_epoch": per_epoch, "total_steps": epochs * per_epoch}
    covered = Schedule(warmup_epochs=warmup, final_ratio=final, cosine_from="start")
    bare = Schedule(warmup_epochs=0, final_ratio=final)
    rising = Schedule(warmup_epochs=warmup)
    for step in range(epochs * per_epoch):
        expected = rising if step < warmup * per_epoch else bare
        assert covered.factor(step, **arguments) == pytest.approx(expected.factor(step, **arguments))


@given(step=st.integers(0, 99), late=st.integers(0, 5), cosine_from=st.sampled_from(["start", "warmup_end"]))
def test_a_late_rate_is_that_of_an_earlier_update(step, late, cosine_from):
    arguments = {"steps_per_epoch": 10, "total_steps": 100}
    on_time = Schedule(warmup_epochs=2, cosine_from=cosine_from)
    behind = Schedule(warmup_epochs=2, cosine_from=cosine_from, lag=late)
    assert behind.factor(step, **arguments) == on_time.factor(max(0, step - late), **arguments)


@pytest.mark.parametrize("end", [{"max_epochs": 2}, {"max_steps": 6}], ids=str)
def test_an_update_of_left_over_batches_is_one_of_its_epoch(end):
    """Five batches are three updates of two; the warm-up of one epoch ends with the epoch."""
    method = MSTA(
        TinyCLIP(pretrained=False), schedule=Schedule(warmup_epochs=1), blocks=1, bottleneck=32, consistency=0
    )
    names = ("red", "green")
    method.use(SimpleNamespace(train_classes=ClassList(names, (0, 1), names)))
    clips = [Clip(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 0, str(index)) for index in range(5)]
    rates, step = [], method.optimizer_step

    def noted(epoch, batch_idx, optimizer, *arguments):
        rates.append(optimizer.param_groups[0]["lr"] / method.lr)
        step(epoch, batch_idx, optimizer, *arguments)

    method.optimizer_step = noted
    trainer = Trainer(
        accelerator="cpu", **end, accumulate_grad_batches=2, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(method, DataLoader(clips, collate_fn=ClipBatch.collate))
    expected = [method.schedule.factor(index, steps_per_epoch=3, total_steps=6) for index in range(6)]
    assert rates == pytest.approx(expected)
    assert expected[3] == 1


def test_scheduler_drives_every_group_in_proportion():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": [parameters[0]], "lr": 1.0}, {"params": [parameters[1]], "lr": 0.07}])
    scheduler = Schedule(warmup_epochs=1).scheduler(optimizer, steps_per_epoch=4, total_steps=12)
    seen = []
    for _ in range(12):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert [lr for lr, _ in seen[:5]] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert all(second == pytest.approx(0.07 * first) for first, second in seen)


@pytest.mark.parametrize(
    "values", [{"warmup_epochs": -1}, {"final_ratio": 1.5}, {"refresh_every": 0}, {"cosine_from": "end"}, {"lag": -1}]
)
def test_refuses_values_out_of_range(values):
    (name,) = values
    with pytest.raises(ConfigError, match=f"{name} is"):
        Schedule(**values)


@given(
    warmup=st.floats(0, 5),
    per_epoch=st.integers(1, 20),
    epochs=st.integers(6, 20),
    begin=st.sampled_from(["start", "warmup_end"]),
)
def test_an_epoch_schedule_is_constant_within_the_epochs_after_its_warmup(warmup, per_epoch, epochs, begin):
    schedule = EpochSchedule(warmup_epochs=warmup, initial_ratio=0.1, cosine_from=begin)
    cosine = Schedule(warmup_epochs=0 if begin == "start" else warmup, initial_ratio=1.0, cosine_from=begin)
    total = epochs * per_epoch
    steps = {"steps_per_epoch": per_epoch, "total_steps": total}
    for step in range(total):
        value, epoch = schedule.factor(step, **steps), step // per_epoch * per_epoch
        if step > warmup * per_epoch and epoch > warmup * per_epoch:
            assert value == pytest.approx(cosine.factor(epoch, **steps), abs=1e-12)
        else:
            assert value <= cosine.factor(epoch, **steps) + 1e-12
