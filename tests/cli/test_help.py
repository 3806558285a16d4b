"""`--help`: what it says, and that it says so without loading torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SNAPSHOTS = Path(__file__).parent / "help"


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


@pytest.mark.parametrize(
    "arguments",
    [
        *[
            (),
            ("run",),
            ("leaderboard",),
            ("data", "synth"),
            ("data", "check"),
            ("data", "prepare"),
            ("data", "subset"),
        ],
        *[("describe",), ("methods", "show"), ("weights", "import", "viclip")],
    ],
    ids=lambda a: "-".join(a) or "top",
)
def test_help(arguments):
    result = run(*arguments, "--help")
    assert result.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "lightning", "torchvision", "open_clip", "av", "numpy"}
    snapshot = SNAPSHOTS / f"{'-'.join(arguments) or 'top'}.txt"
    if os.environ.get("VLBENCH_UPDATE_SNAPSHOTS"):
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(normalized(result.stdout))
    assert normalized(result.stdout) == snapshot.read_text(), "VLBENCH_UPDATE_SNAPSHOTS=1 renews the snapshots"


def test_no_command_prints_the_help_and_fails():
    result = run()
    assert result.returncode == 2
    assert "usage: vlbench COMMAND" in result.stdout


def test_a_misspelt_command_gets_a_suggestion():
    result = run("leaderbord", "x")
    assert result.returncode == 1
    assert "did you mean leaderboard?" in result.stderr
    assert "Traceback" not in result.stderr
