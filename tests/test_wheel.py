"""A wheel built from the tree has all it needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_runs_from_an_empty_directory(tmp_path, rendered):
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(CHECKOUT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for needed in (
        "vlbench/configs/msta_fewshot.yaml",
        "vlbench/configs/suite/demo.yaml",
        "vlbench/synthetic/assets/tiny_clip.safetensors",
        "vlbench/datasets/assets/descriptions/ucf101/spatial.json",
        "vlbench/results/assets/leaderboard.html",
        "vlbench/results/assets/report.html",
        "vlbench/results/assets/published.csv",
        "vlbench/py.typed",
    ):
        assert needed in names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)

    # A new environment, with only the wheel in it; what the wheel depends on is looked up in this one.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(tmp_path / "venv/bin/python"), "install", "--no-deps"]
    subprocess.run([*install, "--no-index", str(wheel)], check=True, capture_output=True)
    (site / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")

    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {**os.environ, "VLBENCH_DATA": str(rendered)}

    def run(*arguments):
        ended = subprocess.run(
            [tmp_path / "venv/bin/vlbench", *arguments], cwd=empty, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return ended.returncode, ended.stdout + ended.stderr

    _, where = run("fit", "--config", "nothing-like-it.yaml")
    assert str(site / "vlbench" / "configs") in where  # the wheel's, not the checkout's
    code, printed = run("fit", "--config", "msta_fewshot.yaml", "--print_config")
    assert code == 0, printed
    assert "class_path: vlbench.methods.MSTA" in printed
    configs = ["msta_fewshot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    options = [part for name in configs for part in ("--config", name)]
    code, said = run("fit", *options, "--trainer.max_steps=2", "--trainer.limit_val_batches=0")
    assert code == 0, said
    checkpoint = empty / "lightning_logs/version_0/checkpoints/last.ckpt"
    code, said = run("test", *options, "--ckpt_path", str(checkpoint), "--data.num_workers=0")
    assert code == 0, said
    code, said = run("leaderboard", "results", "--csv", "board.csv", "--html", "board.html")
    assert code == 0, said
    assert (empty / "board.csv").read_text().count("\n") == 2
