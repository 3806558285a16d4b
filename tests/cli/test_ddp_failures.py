"""Two gloo processes of which one fails, is killed, or loses its runner."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.tolerance import assert_same_bits

ROOT = Path(__file__).parents[2]

SUITE = """
methods:
  zero_shot: {configs: [zero_shot.yaml], trains: false}
overlays: [backbone/tiny.yaml, two.yaml]
protocols:
  - {protocol: few_shot@1, datasets: [data/synthetic.yaml]}
"""


@pytest.fixture
def suite(workplace, monkeypatch):
    """Writes a suite of one test on two processes, with faults; returns the folder of process numbers."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("PYTHONWARNINGS")
    pids = workplace / "pids"
    pids.mkdir()

    def write(**faults):
        fault = {"class_path": "tests.cli.faults.Fault", "init_args": {"faults": faults, "pids": str(pids)}}
        trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "callbacks": [fault]}
        Path("two.yaml").write_text(
            json.dumps({"trainer": trainer, "data": {"init_args": {"num_workers": 1, "batch_size": 4}}})
        )
        Path("suite.yaml").write_text(SUITE)
        return pids

    return write


def start():
    command = [sys.executable, "-m", "vlbench", "run", "--suite", "suite.yaml", "--out", "out"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def run():
    process = start()
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def processes_of(folder):
    """Numbers of living processes that work in a folder, whatever became of their parents."""
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and int(path.name) != os.getpid():
            try:
                if (path / "cwd").readlink() == folder and "Z" not in (path / "stat").read_text().split()[2]:
                    yield int(path.name)
            except OSError:
                continue


def all_gone(folder):
    """Two seconds on a machine that has time; torch's own watch of data workers takes five."""
    begun = time.monotonic()
    if until(lambda: not list(processes_of(folder)), 4):
        print(f"all gone after {time.monotonic() - begun:.2f} s")
        return True
    left = list(processes_of(folder))
    print("left:", [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left])
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "cause", "advice"),
    [
        ({"0": "data"}, "vlbench: error: cannot decode a.mp4: truncated", None),
        ({"1": "data"}, "vlbench: error: cannot decode a.mp4: truncated", None),
        ({"0": "bug", "1": "data"}, "vlbench: error: cannot decode a.mp4: truncated", None),
        ({"1": "cuda"}, "CUDA out of memory", "out of memory: try a smaller data.init_args.loading.eval_batch_size"),
        ({"1": "host"}, "can't allocate memory", "out of memory: try a smaller"),
        ({"1": "segfault"}, "Fatal Python error: Segmentation fault", None),
        ({"1": "killed"}, None, "killed, by the kernel for lack of memory unless by somebody"),
    ],
)
def test_a_failed_process_is_named_and_the_other_one_dies(workplace, suite, faults, cause, advice):
    pids = suite(**{"0": "waits", "1": "waits", **faults})
    code, said = run()
    print(said)
    assert code == 1
    assert len(list(pids.iterdir())) == 2
    assert all_gone(workplace)
    assert cause is None or cause in said
    assert advice is None or advice in said
    assert ("kernel" in said) == (advice is not None and "kernel" in advice)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_runner(workplace, suite, how):
    pids = suite(**{"0": "waits", "1": "waits"})
    process = start()
    assert until(lambda: len(list(pids.iterdir())) == 2, 100)
    assert len(list(processes_of(workplace))) >= 4
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does, twice
        time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    said, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert all_gone(workplace)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[-1] == "vlbench: interrupted; the same command goes on where this one ended"
    assert "Traceback" not in said


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_two_processes_killed_in_mid_epoch_go_on_exactly(workplace, monkeypatch):
    """Each has its own random numbers back: MoTE draws experts."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("crash.yaml").write_text("{trainer: {callbacks: [{class_path: tests.cli.faults.Crash}]}}")
    configs = ["mote_fewshot.yaml", "demo/mote.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    options = [
        "--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true", "--trainer.max_epochs=2",
        "--trainer.limit_val_batches=0", "--trainer.logger=false", "--data.train.shots=2", "--data.batch_size=1",
        "--data.loading.epoch_size=40", "--data.loading.effective_batch=2", "--data.num_workers=1",
        "--checkpoint_minutes=1e-9",
    ]  # fmt: skip

    def fit(folder, *more):
        words = [word for name in (*configs, "crash.yaml") for word in ("--config", name)]
        return subprocess.run(
            [sys.executable, "-m", "vlbench", "fit", *words, *options, f"--checkpoint.dirpath={folder}", *more],
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    assert fit("whole").returncode == 0
    monkeypatch.setenv("CRASH_STEP", "17")
    assert fit("killed").returncode != 0
    assert [path.name for path in Path("killed").iterdir()] == ["running.ckpt"]
    monkeypatch.delenv("CRASH_STEP")
    ended = fit("killed", "--resume=auto")
    assert "running.ckpt, 16 steps" in ended.stdout, ended.stderr[-2000:]
    whole, resumed = (torch.load(f"{folder}/last.ckpt", weights_only=True) for folder in ("whole", "killed"))
    assert whole["global_step"] == resumed["global_step"] == 40
    for key, value in whole["state_dict"].items():
        assert_same_bits(resumed["state_dict"][key], value)
