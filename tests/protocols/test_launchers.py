"""Where stages run."""

import os
import sys
import time
from pathlib import Path

import pytest

from tests.protocols.conftest import STAND_IN
from vlbench.errors import ConfigError
from vlbench.protocols.launchers import LocalLauncher, SubmititLauncher, own_environment


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


def submitted(lab):
    return SubmititLauncher(lab.out / "jobs", {"timeout_min": 5}, "local", STAND_IN)


def test_submitit_runs_a_plan(lab):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    lab.behave("one")
    lab.behave("two", fail="test")
    failed = [stage.name for stage in lab.runner(jobs=4, launcher=submitted(lab)).run()]
    assert failed == ["few_shot-data-two-2shot-seed0-test"]
    assert "out of luck" in lab.said
    assert lab.calls.count("fit") == 2
    assert not list((lab.out / "jobs").glob("*.job"))
    (record,) = (lab.out / "records").iterdir()
    assert record.stem == "few_shot-data-one-2shot-seed0-test"


def test_a_submitted_job_is_taken_over_and_not_submitted_again(lab):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    lab.behave("one", sleep=1)
    runner = lab.runner(["one"], launcher=submitted(lab))
    runner._start(runner.stages[0])  # and the runner is killed
    deadline = time.monotonic() + 60
    while not lab.calls and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lab.runner(["one"], launcher=submitted(lab)).run() == []
    assert lab.calls == ["fit", "test"]


def test_unknown_parameters_of_a_job_are_refused(lab):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    with pytest.raises(ConfigError, match=r"slurm is {'gpus': 3}"):
        SubmititLauncher(lab.out / "jobs", {"gpus": 3}, "local")


def test_slurm_is_asked_for_where_there_is_none(lab, monkeypatch):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    monkeypatch.setenv("PATH", str(lab.folder))
    with pytest.raises(ConfigError, match="slurm"):
        SubmititLauncher(lab.out / "jobs", {})
