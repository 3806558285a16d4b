"""What a run prints in its own process: nothing but what it is, where its results go, progress and our own warnings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_trainer import OVERLAYS, command

EXPECTED = (
    r"seed: 0",
    r"data: shapes-s, [\d,]+ (training|validation|test) videos of 16 classes \(.+\)",
    r"method: msta on vlbench-tiny-clip, [\d,]+ of [\d,]+ parameters train",
    r"checkpoint: .+last\.ckpt",
    r"record: .+\.json",
    r"warning: blocks is 5, the shallower tower has 3: every block gets an adapter",
)
# Lightning's progress bars and the table of the test's metrics.
PROGRESS = (r"(Epoch|Validation|Testing|Sanity).*", r"\s*(train|val)/.*", r"[┏┡└┃│].*", r"\s+[\d.:]+\s*", r"\s*")


def lines(*arguments: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "VLBENCH_DEBUG")}
    result = subprocess.run(
        [sys.executable, "-m", "vlbench", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env={**environment, "COLUMNS": "160"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stdout)
    return plain.replace("\r", "\n").splitlines()


@pytest.mark.slow
def test_a_default_run_says_what_it_is_and_no_more(workplace):
    configs = ["msta_fewshot.yaml", *OVERLAYS]
    runs = {
        "fit": ["--data.train.shots=2", "--trainer.max_steps=2"],
        "test": ["--ckpt_path=lightning_logs/version_0/checkpoints/last.ckpt"],
    }
    kinds = {
        "fit": {*EXPECTED} - {EXPECTED[4]},
        "test": {*EXPECTED} - {EXPECTED[3]},
    }
    for action, options in runs.items():
        met = set()
        for line in lines(*command(action, *configs, options=options)):
            kind = next((kind for kind in (*EXPECTED, *PROGRESS) if re.fullmatch(kind, line)), None)
            assert kind is not None, f"{action} prints {line!r}"
            met.add(kind)
        assert met >= kinds[action]
    assert Path("results/records").is_dir()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["classify", "-", "--classes", "a", "b"], 1, "the list on standard input is empty"),
        (["completion", "configs"], 0, ""),
        (["data", "list"], 0, ""),
    ],
)
def test_a_process_may_have_no_standard_streams(words, code, said):
    command = ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-m", "vlbench", *words]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False)
    assert said in result.stderr
