"""Stages as jobs of a cluster: submitit's own executors, and a stand-in for SLURM on the path."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.protocols import slurm
from tests.protocols.conftest import STAND_IN
from vlbench.errors import ConfigError
from vlbench.protocols.cluster import SubmititLauncher

pytest.importorskip("submitit", reason="the extra slurm is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    from vlbench import files

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files.cache_folder.cache_clear()
    yield tmp_path / "cache" / "vlbench" / "jobs"
    files.cache_folder.cache_clear()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Jobs on the stand-in for SLURM."""
    from submitit import SlurmJob

    SlurmJob.watcher.clear()  # it knows how the jobs of these numbers ended in another test
    folder = slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield folder
    slurm.clear(folder)


def local(lab, cluster="local", **parameters):
    return SubmititLauncher(lab.out, {"timeout_min": 5, **parameters}, cluster, STAND_IN)


def on_slurm(lab, **parameters):
    launcher = SubmititLauncher(lab.out, {"timeout_min": 1000, **parameters}, "slurm", STAND_IN)
    launcher.interval = 0.1
    return launcher


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_submitit_runs_a_plan(lab):
    lab.behave("one")
    lab.behave("two", fail="test")
    failed = [stage.name for stage in lab.runner(jobs=4, launcher=local(lab)).run()]
    assert failed == ["few_shot-data-two-2shot-seed0-test"]
    assert "out of luck" in lab.said
    assert lab.calls.count("fit") == 2
    assert not list((lab.out / "jobs").iterdir())
    (record,) = (lab.out / "records").iterdir()
    assert record.stem == "few_shot-data-one-2shot-seed0-test"


def test_submitits_debug_executor_runs_a_plan(lab):
    lab.behave("one")
    assert lab.runner(["one"], launcher=local(lab, "debug")).run() == []
    assert lab.calls == ["fit", "test"]


def test_slurm_runs_a_plan_and_gives_tasks_their_cores(lab, cluster):
    lab.behave("one", note_environment=["SLURM_CPUS_PER_TASK"])
    assert lab.runner(["one"], launcher=on_slurm(lab, cpus_per_task=6)).run() == []
    assert lab.noted.count("SLURM_CPUS_PER_TASK=6") == 2
    assert lab.calls == ["fit", "test"]


def test_own_arguments_of_srun_stay(lab, cluster):
    lab.behave("one")
    launcher = on_slurm(lab, slurm_cpus_per_task=6, slurm_srun_args=["--mpi=none"])
    script = launcher._executor._executor._make_submission_file_text("vlbench", "1")
    assert "--cpus-per-task=6 --mpi=none" in script


def test_a_submitted_job_is_taken_over_and_not_submitted_again(lab, cluster):
    lab.behave("one", sleep=1)
    runner = lab.runner(["one"], launcher=on_slurm(lab))
    runner._start(runner.stages[0])  # and the runner is killed
    until(lambda: lab.calls)
    (ticket,) = (lab.out / "jobs").iterdir()
    assert json.loads(ticket.read_text()) == {"job": "100"}
    assert lab.runner(["one"], launcher=on_slurm(lab)).run() == []
    assert lab.calls == ["fit", "test"]
    assert len(list(cluster.glob("*.job"))) == 2


def test_a_job_out_of_time_goes_on_from_its_last_checkpoint(lab, cluster):
    lab.behave("one", epochs=8, sleep=0.5)
    # Three seconds a start, of which imports take some. submitit takes longer jobs for preempted at that time.
    assert lab.runner(["one"], launcher=on_slurm(lab, timeout_min=10)).run() == []
    assert json.loads((cluster / "100.job").read_text())["starts"] > 1
    starts = lab.calls.count("fit")
    assert starts > 1
    # Time may be over when the training has ended and its job has not: then it starts once more, and trains no epoch.
    assert 1 <= lab.noted.count("end-fit") <= starts
    assert lab.noted.count("epoch") <= 8 + starts - 1


@pytest.mark.slow
def test_a_job_of_the_local_executor_out_of_time_goes_on_too(lab):
    lab.behave("one", epochs=14, sleep=0.5)
    # submitit's executor says so thirty seconds before the end, and at most three times.
    launcher = local(lab)
    launcher._executor._executor.parameters["timeout_min"] = 36 / 60
    assert lab.runner(["one"], launcher=launcher).run() == []
    starts = lab.calls.count("fit")
    assert starts > 1
    # Time may be over when the training has ended and its job has not: then it starts once more, and trains no epoch.
    assert 1 <= lab.noted.count("end-fit") <= starts
    assert lab.noted.count("epoch") <= 14 + starts - 1


STAGE = """
import sys
from vlbench.protocols.cluster import _Stage
_Stage()([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"], sys.argv[1])
"""


def test_a_stage_dies_with_submitits_process(tmp_path):
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", STAGE, str(log)])
    until(lambda: process.poll() is not None or (log.is_file() and log.read_text().endswith("\n")))
    stage = Path(f"/proc/{int(log.read_text())}")
    assert stage.exists()
    process.kill()
    process.wait()
    until(lambda: not stage.exists() or stage.joinpath("stat").read_text().split()[2] == "Z")


KILLED = """
import sys
from pathlib import Path
from tests.protocols.conftest import Lab
from tests.protocols.test_cluster import on_slurm
from vlbench.cli.main import main
lab = Lab(Path(sys.argv[1]))
lab.runner(["one"], launcher=on_slurm(lab)).run()
"""


def test_ctrl_c_cancels_the_jobs(lab, cluster):
    lab.behave("one", sleep=60)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(lab.folder)], stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until(lambda: lab.calls)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    until(lambda: json.loads((cluster / "100.job").read_text())["state"] == "CANCELLED")
    assert not list((lab.out / "jobs").iterdir())


def test_ctrl_c_during_a_submission_cancels_the_job(lab, cluster, monkeypatch):
    launcher = on_slurm(lab)
    submit = launcher._executor.submit

    def interrupted(*arguments):
        job = submit(*arguments)
        signal.raise_signal(signal.SIGINT)
        return job

    monkeypatch.setattr(launcher._executor, "submit", interrupted)
    lab.behave("one", sleep=60)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            lab.runner(["one"], launcher=launcher).run()
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: json.loads((cluster / "100.job").read_text())["state"] == "CANCELLED")
    assert not list((lab.out / "jobs").iterdir())


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path(os.environ["EVIL"]),))


def test_nothing_in_a_results_folder_is_unpickled(lab, cluster, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL", str(tmp_path / "executed"))
    lab.behave("one")
    runner = lab.runner(["one"], launcher=on_slurm(lab))
    folder = lab.out / "jobs"
    folder.mkdir(parents=True)
    evil = pickle.dumps(("success", Evil()))
    name = f"{runner.stages[0].name}-{runner.digests[runner.stages[0].name]}"
    for file in (f"{name}.job", "7_0_result.pkl", "7_submitted.pkl", "%j_submitted.pkl"):
        (folder / file).write_bytes(evil)
    for number in ("7", "../../out/jobs/7", 7, None, ["7"], evil.hex()):
        (folder / f"{name}.json").write_text(json.dumps({"job": number}))
        assert runner.launcher._unfinished(folder / f"{name}.json") is None
    (folder / f"{name}.json").write_bytes(evil)
    assert runner.run() == []
    assert not (tmp_path / "executed").exists()


def test_submitits_pickles_are_the_users_alone(lab, cache):
    launcher = local(lab)
    assert launcher.folder.parent == cache
    assert cache.stat().st_mode & 0o777 == launcher.folder.stat().st_mode & 0o777 == 0o700
    assert lab.out not in launcher.folder.parents
    launcher.folder.rmdir()
    launcher.folder.symlink_to(lab.folder)
    with pytest.raises(ConfigError, match="not a folder of yours"):
        local(lab)


def test_the_pickles_are_not_inside_the_results(lab, monkeypatch):
    from vlbench import files

    monkeypatch.setenv("XDG_CACHE_HOME", str(lab.out / "cache"))
    files.cache_folder.cache_clear()
    with pytest.raises(ConfigError, match="set XDG_CACHE_HOME to a folder outside it"):
        local(lab)


def test_unknown_parameters_of_a_job_are_refused(lab):
    for parameters in ({"gpus": 3}, {"timeout_min": "long"}):
        with pytest.raises(ConfigError, match=r"slurm is {"):
            SubmititLauncher(lab.out, parameters, "local")


def test_slurm_is_asked_for_where_there_is_none(lab, monkeypatch):
    monkeypatch.setenv("PATH", str(lab.folder))
    with pytest.raises(ConfigError, match="slurm"):
        SubmititLauncher(lab.out, {})
