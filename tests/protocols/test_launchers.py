"""Where stages run."""

import os
import signal
import sys
from pathlib import Path

import pytest

from vlbench.protocols.launchers import LocalLauncher, own_environment


def overlapping(noted):
    """The most stages that ran at one time."""
    running = most = 0
    for what in noted:
        running += (what in ("fit", "test")) - what.startswith("end-")
        most = max(most, running)
    return most


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_as_many_stages_at_once_as_asked_for_and_no_test_before_its_training(lab, jobs):
    lab.behave("one", sleep=0.2)
    lab.behave("two", sleep=0.2)
    assert lab.runner(shots=(2, 4), jobs=jobs).run() == []
    most = overlapping(lab.noted)
    assert most <= jobs
    assert (most > 1) == (jobs > 1)
    assert len(list((lab.out / "records").iterdir())) == 4  # a test without its checkpoint would have failed


def test_a_failure_among_several_jobs_costs_its_own_stages_only(lab):
    lab.behave("one", fail="fit")
    lab.behave("two", sleep=0.1)
    failed = [stage.name for stage in lab.runner(shots=(2, 4), jobs=3).run()]
    assert failed == [f"few_shot-data-one-{k}shot-seed0-{a}" for k in (2, 4) for a in ("fit", "test")]
    assert len(list((lab.out / "records").iterdir())) == 2


def test_a_stage_is_a_process_of_its_own_in_a_server_that_lives_on(lab):
    lab.behave("one", fail="fit", signal=9)
    lab.behave("two")
    assert len(lab.runner(shots=(2, 4)).run()) == 4
    assert "exit code -9" in lab.said
    assert lab.calls == ["fit", "fit"] + ["fit", "test"] * 2


def test_a_server_that_cannot_start_says_why(lab):
    lab.behave("one")
    launcher = LocalLauncher(program=(sys.executable, "-c", "import no_such_module"))
    assert len(lab.runner(["one"], launcher=launcher).run()) == 2
    assert "No module named 'no_such_module'" in lab.said


def test_no_process_is_left(lab):
    lab.behave("one")
    lab.runner(["one"]).run()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [child for child in children if "stand_in" in Path(f"/proc/{child}/cmdline").read_text()]


def test_what_torchrun_and_slurm_say_of_the_runner_is_kept_from_stages(lab, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.setenv(name, "2")
    lab.behave("one", environment={"RANK": None, "WORLD_SIZE": None, "SLURM_NTASKS": None, "OWN": "kept"})
    monkeypatch.setenv("OWN", "kept")
    assert lab.runner(["one"]).run() == []
    kept = {"CUDA_VISIBLE_DEVICES": "1", "PATH": "/bin", "VLBENCH_DATA": "d", "RANKING": "1"}
    removed = dict.fromkeys(("LOCAL_RANK", "NODE_RANK", "GROUP_WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID"), "1")
    assert own_environment({**kept, **removed}) == kept


def test_a_server_never_hears_of_ctrl_c(lab):
    """Not even between its fork and the program that it becomes: it would print a traceback."""
    launcher = LocalLauncher(program=("sleep", "60"))
    log = lab.folder / "log"
    launcher.start("a", "b", [], log)
    (server,) = launcher._servers
    try:
        status = dict(
            line.split(":\t") for line in Path(f"/proc/{server._process.pid}/status").read_text().splitlines()
        )
        bit = 1 << (signal.SIGINT - 1)
        assert int(status["SigIgn"], 16) & bit
        assert not int(status["SigBlk"], 16) & bit
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        launcher.close()
