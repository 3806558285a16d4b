"""A wheel built from the tree has all it needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
        archive.extractall(tmp_path / "site")
    for needed in (
        "vlbench/configs/msta_fewshot.yaml",
        "vlbench/configs/suite/demo.yaml",
        "vlbench/synthetic/assets/tiny_clip.safetensors",
        "vlbench/data/assets/descriptions/ucf101/spatial.json",
        "vlbench/py.typed",
    ):
        assert needed in names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)

    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "VLBENCH_DATA": str(rendered)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=empty, env=environment, capture_output=True, text=True, check=False
        )

    where = run("vlbench", "fit", "--config", "nothing-like-it.yaml")
    assert str(tmp_path / "site" / "vlbench" / "configs") in where.stderr  # the wheel's, not the checkout's
    configs = ["msta_fewshot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    options = [part for name in configs for part in ("--config", name)]
    fit = run("vlbench", "fit", *options, "--trainer.max_steps=2", "--trainer.limit_val_batches=0")
    assert fit.returncode == 0, fit.stdout + fit.stderr
    assert (empty / "lightning_logs/version_0/checkpoints/last.ckpt").is_file()
