"""SIGKILL at any moment: a second run ends with what an undisturbed one leaves."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.protocols.conftest import Lab
from vlbench.results.record import Record

SHOTS = (2, 4, 8)

KILLED = """
import sys
from pathlib import Path
from tests.protocols.conftest import Lab
Lab(Path(sys.argv[1])).runner(shots={shots}, jobs=int(sys.argv[2])).run()
"""


def behave(lab):
    for name in ("one", "two"):
        lab.behave(name, epochs=3, sleep=0.03)


def start(lab, jobs=1):
    command = [sys.executable, "-c", KILLED.format(shots=SHOTS), str(lab.folder), str(jobs)]
    # A shell's background jobs, these tests among them, may have been started to ignore Ctrl-C.
    return subprocess.Popen(
        command, stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize(("jobs", "seed"), [(1, 0), (3, 1)])
def test_killed_again_and_again_it_ends_as_if_never_disturbed(lab, tmp_path_factory, jobs, seed):
    undisturbed = Lab(tmp_path_factory.mktemp("undisturbed"))
    behave(undisturbed)
    undisturbed.runner(shots=SHOTS, jobs=3).run()
    behave(lab)
    moments = random.Random(seed)
    killed = 0
    for _ in range(4):
        process = start(lab, jobs)
        before = len(lab.noted)
        until(lambda before=before, process=process: len(lab.noted) > before or process.poll() is not None)
        time.sleep(moments.uniform(0, 0.6))
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed >= 2
    assert lab.runner(shots=SHOTS, jobs=jobs).run() == []

    assert without_digests(lab) == without_digests(undisturbed)
    assert lab.runner(shots=SHOTS).describe()[-1] == "12 of 12 stages done, 0 to do"
    # A training went on from its last checkpoint: at most the epoch that a kill interrupted came twice.
    assert lab.noted.count("epoch") <= undisturbed.noted.count("epoch") + killed * jobs


def without_digests(lab):
    """What was made, without the digests of stages, in which the folder's own name is."""
    made = lab.made()
    for name in [name for name in made if name.startswith("records/")]:
        record = Record.read(lab.out / name)
        made[name] = (record.identity, record.metrics, record.details.others["weights"])
    return made


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_stage_dies_with_the_runner(lab, how):
    lab.behave("one", sleep=60)
    lab.behave("two")
    process = start(lab)
    until(lambda: lab.calls)
    (server,) = children(process.pid)
    (stage,) = children(server)
    os.kill(process.pid, how)
    assert process.wait() != 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (server, stage)))


INTERRUPTED = """
import sys
from pathlib import Path
from vlbench.cli import main
from tests.protocols.conftest import Lab
lab = Lab(Path(sys.argv[1]))
class Run:
    def run(self, arguments):
        lab.runner(["one"]).run()
main.find_command = lambda arguments: Run()
sys.exit(main.main(["run"]))
"""


def test_ctrl_c_twice_is_one_sentence_and_no_traceback(lab):
    lab.behave("one", sleep=60)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(lab.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until(lambda: lab.calls)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "vlbench: interrupted; the same command goes on where this one ended\n"
    assert "Traceback" not in said


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


SUITE = """
methods:
  zero_shot: {configs: [zero_shot.yaml], trains: false}
  msta: {configs: [msta_fewshot.yaml, demo/msta.yaml]}
  mote: {configs: [mote_fewshot.yaml, demo/mote.yaml]}
overlays: [backbone/tiny.yaml, trainer/cpu.yaml, smoke/steps.yaml, longer.yaml]
protocols:
  - {protocol: base_to_novel@1, datasets: [data/synthetic.yaml], shots: [4], seeds: [1]}
"""


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_twenty_kills_of_vlbench_run(workplace, capsys):
    seed = int(os.environ.get("VLBENCH_SOAK_SEED", random.SystemRandom().randrange(10**6)))
    with capsys.disabled():
        print(f"\nVLBENCH_SOAK_SEED={seed}")
    Path("longer.yaml").write_text("{trainer: {max_epochs: 4}}")
    Path("suite.yaml").write_text(SUITE)

    def run(out):
        command = [sys.executable, "-m", "vlbench", "run", "--suite", "suite.yaml", "--out", out]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert run("undisturbed").wait() == 0
    moments, killed = random.Random(seed), 0
    while killed < 20:
        process = run("killed")
        time.sleep(moments.uniform(2, 25))
        if process.poll() is not None:  # all done: what comes is killed at a moment of another run
            assert process.returncode == 0
            for path in random.Random(killed).sample(sorted(Path("killed/records").iterdir()), 3):
                path.unlink()
            continue
        process.kill()
        process.wait()
        killed += 1
    assert run("killed").wait() == 0
    assert tree("killed") == tree("undisturbed")
    for name in sorted(path.name for path in Path("undisturbed/records").iterdir()):
        left, right = (Record.read(Path(out) / "records" / name) for out in ("killed", "undisturbed"))
        assert (left.identity, left.metrics) == (right.identity, right.metrics)
        one, other = (
            load_file(f"{out}/predictions/{Path(name).stem}.safetensors") for out in ("killed", "undisturbed")
        )
        assert all(one[key].equal(other[key]) for key in ("scores", "cosines", "labels"))


def tree(out):
    kept = ("records", "predictions", "checkpoints", "stages")
    return sorted(str(path.relative_to(out)) for folder in kept for path in (Path(out) / folder).rglob("*"))
