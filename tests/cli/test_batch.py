"""The effective batch: the same optimizer steps however they are shared out."""

import sys

import pytest
import torch

from tests.cli.test_trainer import OVERLAYS, command
from vlbench.cli.main import main

OPTIONS = [
    *(
        "--data.train.shots=2",
        "--data.loading.epoch_size=32",
        "--data.num_workers=0",
        "--data.loading.effective_batch=12",
        "--trainer.max_epochs=2",
    ),
    *("--trainer.limit_val_batches=0", "--trainer.logger=false"),
]


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


@pytest.mark.parametrize("method", ["msta", "mote"])
def test_accumulation_takes_the_steps_of_the_whole_batch(workplace, method):
    """At most 5 clips at once are three times 4; weights within a thousandth of the largest step, in float32."""
    held = []
    for size in (12, 5):
        options = [*OPTIONS, f"--data.batch_size={size}", f"--checkpoint.dirpath={size}"]
        assert main(command("fit", f"{method}_fewshot.yaml", f"demo/{method}.yaml", *OVERLAYS, options=options)) == 0
        held.append(torch.load(f"{size}/last.ckpt", weights_only=True))
    whole, accumulated = held
    for checkpoint in held:
        assert checkpoint["vlbench"]["training"].pop("seconds") > 0
    assert whole["vlbench"] == accumulated["vlbench"]
    assert whole["vlbench"]["training"]["batch"] == 12
    assert whole["global_step"] == accumulated["global_step"] == 4  # 32 clips are two batches an epoch
    rate = max(group["initial_lr"] for group in whole["optimizer_states"][0]["param_groups"])
    for key, value in whole["state_dict"].items():
        differs = (value - accumulated["state_dict"][key]).abs() > 1e-3 * rate * 4
        if key.endswith("in_proj_bias"):
            # A key bias has no gradient in exact arithmetic: what AdamW takes is the sign of rounding noise.
            differs = torch.cat(differs.chunk(3)[::2])
        assert differs.float().mean() < 0.01, key


def test_two_accumulations_are_one_too_many(workplace, capsys):
    options = [*OPTIONS, "--data.batch_size=4", "--trainer.accumulate_grad_batches=2"]
    assert main(command("fit", "msta_fewshot.yaml", *OVERLAYS, options=options)) == 2
    assert "accumulate_grad_batches is 2, effective_batch 12 makes it 3; set only one" in capsys.readouterr().err
