"""`--help`: what it says, and that it says so without loading torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlbench.cli.registry import COMMANDS

SNAPSHOTS = Path(__file__).parent / "help"
HEAVY = {"torch", "lightning", "torchvision", "open_clip", "av", "numpy"}
NAMES = ["", *(name for name, command in COMMANDS.items() if not command.lightning)]


def normalized(text: str) -> str:
    """Lines without the white space that depends on the terminal's width, and without jsonargparse's name for nothing.

    Older releases say `None` where later ones say `null`.
    """
    text = text.replace("None, default", "null, default")
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines() if line.strip()) + "\n"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vlbench", *arguments],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def imported(result: subprocess.CompletedProcess[str]) -> set[str]:
    """Packages that a process has imported."""
    return {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines() if "|" in line}


def snapshot(name: str) -> Path:
    return SNAPSHOTS / f"{name.replace(' ', '-') or 'top'}.txt"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name or "top")
def test_help(name):
    result = run(*name.split(), "--help")
    assert result.returncode == 0
    assert not imported(result) & HEAVY
    path = snapshot(name)
    if os.environ.get("VLBENCH_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(normalized(result.stdout))
    assert normalized(result.stdout) == path.read_text(), "VLBENCH_UPDATE_SNAPSHOTS=1 renews the snapshots"


def test_every_snapshot_is_of_a_command():
    assert set(SNAPSHOTS.iterdir()) == {snapshot(name) for name in NAMES}


@pytest.mark.parametrize("name", ["fit", "test"])
def test_help_of_a_training_names_its_options(name):
    """Most of them are Lightning's, whose words are another release's tomorrow: there is no snapshot."""
    result = run(name, "--help")
    assert result.returncode == 0
    for option in ("--config", "--selection", "--trainer.max_epochs", "--data CONFIG", "--model CONFIG", "--ckpt_path"):
        assert option in result.stdout


def test_every_command_is_in_the_overview():
    lines = normalized(run("--help").stdout).splitlines()
    for name, command in COMMANDS.items():
        assert sum(line.startswith(f"{name} {command.help}") for line in lines) == 1, name


@pytest.mark.parametrize("arguments", [("data", "list"), ("data", "describe", "ucf101")])
def test_facts_of_datasets_need_no_torch(arguments):
    result = run(*arguments)
    assert result.returncode == 0
    assert "crcv.ucf.edu" in result.stdout
    assert not imported(result) & HEAVY


def test_no_command_prints_the_help_and_fails():
    result = run()
    assert result.returncode == 2
    assert "usage: vlbench COMMAND" in result.stdout
