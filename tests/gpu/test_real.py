"""Commands on a real GPU: the numbers of the CPU, one record from one and from two processes, nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vlbench
from vlbench.cli.configs import find_config

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

CONFIGS = ("zero_shot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml")
EXPECTED = Path(vlbench.__file__).parents[1] / "benchmarks/expected/regression.json"


def vlbench_command(command, *options, configs=CONFIGS):
    return [
        sys.executable,
        "-m",
        "vlbench",
        command,
        *(part for name in configs for part in ("--config", name)),
        *options,
    ]


def overlay(folder, precision):
    path = folder / "gpu.yaml"
    path.write_text(f"trainer:\n  accelerator: gpu\n  devices: 1\n  precision: {precision}\n")
    return path


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_accuracies_lie_in_the_bands_of_the_cpu(workplace, precision):
    suite = workplace / "suite.yaml"
    text = find_config("regression.yaml", below="suite").read_text()
    assert "trainer/cpu.yaml" in text
    suite.write_text(text.replace("trainer/cpu.yaml", str(overlay(workplace, precision))))
    command = ["regress", "--suite", str(suite), "--expected", str(EXPECTED), "--out", "out", "--jobs", "2"]
    ended = subprocess.run([sys.executable, "-m", "vlbench", *command], capture_output=True, text=True, timeout=280)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    checks = json.loads((workplace / "out/regression.json").read_text())["checks"]
    exact = ("top1", "videos", "steps", "trainable_params", "updated_tensors")
    print(precision, [check for check in checks if not check["passed"]])
    assert [check for check in checks if check["metric"] in exact and not check["passed"]] == []


def test_one_and_two_processes_give_one_record(workplace):
    """Two processes, as two machines with one GPU each: gloo lets them share this one."""
    base = vlbench_command("test", "--trainer.accelerator=gpu", "--trainer.devices=1", "--data.num_workers=2")
    subprocess.run([*base, "--record.folder=one"], check=True, timeout=120)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    strategy = {"class_path": "DDPStrategy", "init_args": {"process_group_backend": "gloo"}}
    two = [*base, "--record.folder=two", "--trainer.num_nodes=2", f"--trainer.strategy={json.dumps(strategy)}"]
    ranks = [
        subprocess.Popen(
            two,
            env={
                **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank),
                "LOCAL_RANK": "0", "WORLD_SIZE": "2",
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [rank.wait(timeout=150) for rank in ranks] == [0, 0]
    records = [json.loads(next((workplace / name / "records").iterdir()).read_text()) for name in ("one", "two")]
    assert [record["details"]["processes"] for record in records] == [1, 2]
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["evaluated"] == records[1]["evaluated"] == records[1]["expected"]


def test_nothing_is_left_after_a_kill(workplace):
    """SIGKILL of the runner while a stage trains: no process of it is left once the driver has freed its memory."""
    suite = workplace / "suite.yaml"
    text = find_config("regression.yaml", below="suite").read_text()
    suite.write_text(text.replace("trainer/cpu.yaml", str(overlay(workplace, "32-true"))))
    marker = f"VLBENCH_TEST={workplace}"
    environment = {**os.environ, "VLBENCH_TEST": str(workplace)}
    runner = subprocess.Popen(
        [sys.executable, "-m", "vlbench", "run", "--suite", str(suite), "--out", "out"], env=environment
    )
    wait_for(lambda: list(workplace.glob("out/checkpoints/*/last.ckpt")), 150)
    assert len(marked(marker)) > 1
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    wait_for(lambda: not marked(marker), 15)


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)


def marked(marker):
    """Processes whose environment holds the marker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in path.read_bytes() and "Z" not in (path.parent / "stat").read_text().split(")")[1][:3]:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
