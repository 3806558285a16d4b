"""An sdist and a wheel built from the tree have all they need, name their commit, and are the same when built again."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

import vlbench
from vlbench.commit import BUILT_FROM, commit_of

CHECKOUT = Path(__file__).parents[1]


def build(source: Path, folder: Path, *kinds: str) -> dict[str, Path]:
    """Builds without a network; without kinds, the wheel is made of the sdist."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    words = [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(folder), str(source)]
    subprocess.run(words, check=True, capture_output=True, env=environment)
    return {"sdist" if path.suffix == ".gz" else "wheel": path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    return build(CHECKOUT, tmp_path_factory.mktemp("dist"))


@pytest.mark.slow
def test_a_second_build_has_the_same_bytes(built, tmp_path):
    """Of the unpacked sdist: elsewhere, without git, with files of another time that others may not read."""
    (name,) = {built["sdist"].name.removesuffix(".tar.gz")}
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(tmp_path, filter="data")
    tree = tmp_path / name
    for path in tree.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
        path.chmod(path.stat().st_mode & 0o700)
    again = build(tree, tmp_path / "again", "--sdist", "--wheel")
    assert again.keys() == {"sdist", "wheel"}
    for kind, path in built.items():
        assert again[kind].name == path.name
        assert again[kind].read_bytes() == path.read_bytes(), kind


@pytest.mark.slow
def test_both_name_the_commit(built):
    expected = commit_of(CHECKOUT)
    with zipfile.ZipFile(built["wheel"]) as archive:
        stated = [archive.read(name).decode() for name in archive.namelist() if name == BUILT_FROM]
    assert stated == ([] if expected is None else [f"{expected}\n"])
    with tarfile.open(built["sdist"]) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert names.count(BUILT_FROM) == len(stated)
    assert {"hatch_build.py", "CITATION.cff", "LICENSE", "tests/release.sh"} <= set(names)
    assert not (CHECKOUT / BUILT_FROM).exists() or not (CHECKOUT / ".git").exists()


@pytest.mark.slow
def test_a_wheel_runs_from_an_empty_directory(built, tmp_path, rendered):
    wheel = built["wheel"]
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
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["VLBENCH_DATA"] = str(rendered)

    def run(*arguments):
        ended = subprocess.run(
            [tmp_path / "venv/bin/vlbench", *arguments], cwd=empty, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return ended.returncode, ended.stdout + ended.stderr

    commit = commit_of(CHECKOUT)
    _, said = run("--version")
    named = "" if commit is None else f" (commit {commit[:7]}{', modified' if commit.endswith('-dirty') else ''})"
    assert said == f"vlbench {vlbench.__version__}{named}\n"
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
    (record,) = (empty / "results/records").iterdir()
    assert json.loads(record.read_text())["details"]["git_commit"] == commit
    # Whoever works on vlbench has a changed checkout.
    code, said = run("leaderboard", "results", "--allow_dirty", "--csv", "board.csv", "--html", "board.html")
    assert code == 0, said
    assert (empty / "board.csv").read_text().count("\n") == 2
