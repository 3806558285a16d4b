"""Commands on videos that are kept as frames, beside the same commands on the video files."""

import csv
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from tests.fakes import dump_frames, moving_frames, write_video
from vlbench.cli.main import main
from vlbench.results.record import Record

RAW = "overlay/rawframes.yaml"


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    """One dataset as video files and as frames, both called kitchen."""
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.chdir(tmp_path)
    for seed, (part, name, k) in enumerate(product(("train", "test"), ("cut", "stir"), (0, 1))):
        video = tmp_path / f"videos/kitchen/{part}/{name}/{k}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        write_video(video, moving_frames(9 + 8 * k, seed=seed))
        dump_frames(video, tmp_path / f"frames/kitchen/{part}/{name}/{k}")
    return {"videos": (tmp_path / "videos/kitchen", ()), "frames": (tmp_path / "frames/kitchen", (RAW,))}


def run(action, kitchen, kind, *options):
    root, overlays = kitchen[kind]
    configs = ["vifi_clip_fewshot.yaml", "data/folder.yaml", *overlays, "backbone/tiny.yaml", "trainer/cpu.yaml"]
    few = ["--data.train.shots=2", "--data.frames=4", "--data.batch_size=4", "--data.loading.effective_batch=4"]
    words = [part for config in configs for part in ("--config", config)]
    return main(
        [action, *words, f"--data.root={root}", "--data.num_workers=0", "--trainer.logger=false", *few, *options]
    )


def test_a_training_on_frames_is_tested_on_both_and_the_two_are_not_ranked_together(kitchen):
    steps = ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--checkpoint.dirpath=checkpoints"]
    assert run("fit", kitchen, "frames", *steps) == 0
    assert torch.load("checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    for kind in kitchen:
        assert run("test", kitchen, kind, "--ckpt_path=checkpoints/last.ckpt") == 0
    records = [Record.read(path) for path in sorted(Path("results/records").iterdir())]
    assert {record.details.settings.get("data.loading.backend") for record in records} == {None, "rawframes"}
    assert records[0].metrics == records[1].metrics
    assert main(["leaderboard", "results", "--csv", "board.csv", "--markdown", "board.md", "--allow_dirty"]) == 0
    with Path("board.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stored"] for row in rows] in (["", "frames"], ["frames", ""])
    assert [row["rank"] for row in rows] == ["1", "1"]
    assert rows[0]["comparison"] != rows[1]["comparison"]
    assert "videos stored as frames" in Path("board.md").read_text()


def test_the_doctor_takes_the_configuration_of_frames(kitchen, capsys):
    root, (overlay,) = kitchen["frames"]
    Path("kitchen.yaml").write_text(f"data:\n  class_path: FolderVideosDataModule\n  init_args:\n    root: {root}\n")
    command = ["data", "check", "--config", "kitchen.yaml", overlay, "--decode", "--workers=0"]
    assert main(command) == 0
    assert "8 videos, 8 decoded" in capsys.readouterr().out
    (root / "test/cut/1/img_00003.png").unlink()
    assert main(command) == 1
    assert "test/cut/1: frame 3 is missing: img_00002.png is followed by img_00004.png" in capsys.readouterr().out
    assert main([*command[:4], "--decode"]) == 1  # without the overlay there are no videos
