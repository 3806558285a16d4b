"""Stages as jobs of a cluster: submitit's own executors, and a stand-in for SLURM on the path."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.protocols import slurm
from tests.protocols.conftest import STAND_IN
from vlbench.errors import ConfigError
from vlbench.files import TEMPORARY
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
    from vlbench.protocols.slurm_job import PatientJob

    PatientJob.watcher.clear()  # it knows how the jobs of these numbers ended in another test
    folder = slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield folder
    slurm.clear(folder)


def local(lab, cluster="local", **parameters):
    return SubmititLauncher(lab.out, {"timeout_min": 5, **parameters}, cluster, STAND_IN)


def on_slurm(lab, **parameters):
    launcher = SubmititLauncher(lab.out, {"timeout_min": 1000, **parameters}, "slurm", STAND_IN)
    launcher.interval = launcher.patience = 0.1
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
    lab.behave("one", epochs=12, sleep=0.5)
    # Five seconds a start, of which imports take some. submitit takes longer jobs for preempted at that time.
    assert lab.runner(["one"], launcher=on_slurm(lab, timeout_min=10)).run() == []
    assert json.loads((cluster / "100.job").read_text())["starts"] > 1
    starts = lab.calls.count("fit")
    assert starts > 1
    # Time may be over when the training has ended and its job has not: then it starts once more, and trains no epoch.
    assert 1 <= lab.noted.count("end-fit") <= starts
    assert lab.noted.count("epoch") <= 12 + starts - 1


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
command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
_Stage(".", "name")(command, sys.argv[1], "ticket")
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
    until(lambda: json.loads((cluster / "100.job").read_text())["state"].startswith("CANCELLED"))
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
    until(lambda: json.loads((cluster / "100.job").read_text())["state"].startswith("CANCELLED"))
    assert not list((lab.out / "jobs").iterdir())


def state(cluster, number=100):
    return json.loads((cluster / f"{number}.job").read_text())["state"]


def running(lab, launcher):
    """A runner in a process of its own that was killed while its first job runs."""
    runner = lab.runner(["one"], launcher=launcher)
    lab.out.mkdir(exist_ok=True)
    runner._start(runner.stages[0])
    until(lambda: lab.calls)
    return runner


def test_a_training_that_ended_without_its_runner_is_not_submitted_again(lab, cluster):
    lab.behave("one")
    running(lab, on_slurm(lab))
    until(lambda: state(cluster) == "COMPLETED")
    assert lab.runner(["one"], launcher=on_slurm(lab)).run() == []
    assert lab.calls == ["fit", "test"]
    assert len(list(cluster.glob("*.job"))) == 2


def test_a_job_that_failed_without_its_runner_is_submitted_again(lab, cluster):
    lab.behave("one", fail="fit")
    runner = running(lab, on_slurm(lab))
    until(lambda: state(cluster) == "COMPLETED")  # submitit's, which hands over the exit code of the stage
    assert len(lab.runner(["one"], launcher=on_slurm(lab)).run()) == 2
    assert lab.calls == ["fit", "fit"]
    assert runner._log(runner.stages[0]).read_text().count("out of luck") == 1


def test_a_job_taken_over_keeps_its_log_and_what_it_is_writing(lab, cluster):
    lab.behave("one", sleep=1)
    runner = running(lab, on_slurm(lab))
    log = runner._log(runner.stages[0])
    log.write_text("the beginning\n")
    writing = lab.out / "checkpoints" / runner.stages[0].name / f"{TEMPORARY}last.1"
    writing.parent.mkdir(parents=True, exist_ok=True)
    writing.touch()
    assert lab.runner(["one"], launcher=on_slurm(lab)).run() == []
    assert "the beginning" in log.read_text()
    assert writing.exists()
    assert lab.runner(["one"], launcher=on_slurm(lab)).run() == []  # nothing runs now
    assert not writing.exists()


def test_a_job_of_another_configuration_is_cancelled(lab, cluster):
    lab.behave("one", sleep=60)
    running(lab, on_slurm(lab))
    lab.behave("one")
    assert lab.runner(["one"], launcher=on_slurm(lab)).run() == []
    assert state(cluster).startswith("CANCELLED")
    assert lab.calls == ["fit", "fit", "test"]


@pytest.mark.parametrize("how", ["NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "CANCELLED by 1000", "TIMEOUT"])
def test_a_job_that_slurm_ends_fails_with_the_cause_and_the_way_on(lab, cluster, how):
    lab.behave("one", sleep=60)

    def end():
        until(lambda: lab.calls)
        slurm.mark(cluster, 100, how)

    ending = threading.Thread(target=end)
    ending.start()
    assert len(lab.runner(["one"], launcher=on_slurm(lab)).run()) == 2
    ending.join()
    assert lab.calls == ["fit"]
    assert f"job 100 ended as {how} without a result; the same command submits it again" in lab.said
    assert ("out of memory: try a smaller data.init_args.batch_size" in lab.said) == (how == "OUT_OF_MEMORY")
    assert not list((lab.out / "jobs").iterdir())


@pytest.mark.parametrize("how", ["NODE_FAIL", "PREEMPTED"])
def test_a_job_that_slurm_puts_into_the_queue_again_is_waited_for(lab, cluster, how):
    lab.behave("one", epochs=3, sleep=0.5)
    launcher = on_slurm(lab)
    launcher.patience = 60
    job = running(lab, launcher).launcher._jobs[0]
    until(lambda: "epoch" in lab.noted)
    slurm.mark(cluster, 100, how)
    job.job.watcher.clear()
    assert job.poll() is None
    assert job.ticket.exists()
    time.sleep(1)  # its processes die
    slurm.queue(cluster, 100)
    until(lambda: job.poll() == 0)
    assert lab.calls == ["fit", "fit"]
    assert lab.noted.count("epoch") <= 4


def test_a_suspended_job_has_not_ended(lab, cluster):
    lab.behave("one", sleep=60)
    launcher = on_slurm(lab)
    job = running(lab, launcher).launcher._jobs[0]
    slurm.mark(cluster, 100, "SUSPENDED")
    for _ in range(3):
        job.job.watcher.clear()
        assert job.poll() is None
        time.sleep(0.1)
    launcher.close()


def test_what_sigterm_ends_before_slurm_requeues_the_job_is_no_result(lab, cluster):
    """SLURM tells the processes of a preempted job to end before it kills them and puts the job into the queue."""
    lab.behave("one", epochs=6, sleep=0.5)
    launcher = on_slurm(lab)
    job = running(lab, launcher).launcher._jobs[0]
    until(lambda: "epoch" in lab.noted)
    slurm.tell(json.loads((cluster / "100.job").read_text())["group"], signal.SIGTERM)
    for _ in range(20):
        assert job.poll() is None
        time.sleep(0.1)
    slurm.mark(cluster, 100, "REQUEUED")
    until(lambda: job.poll() == 0)
    assert lab.calls == ["fit", "fit"]


def test_jobs_are_waited_for_while_slurm_answers_nothing(lab, cluster):
    lab.behave("one", sleep=2)
    (cluster / "silent").touch()
    launcher = on_slurm(lab)
    running(lab, launcher)
    assert lab.runner(["one"], launcher=on_slurm(lab)).run() == []
    assert lab.calls == ["fit", "test"]


def test_a_job_that_could_not_be_cancelled_is_taken_over(lab, cluster):
    lab.behave("one", sleep=1)
    launcher = on_slurm(lab)
    running(lab, launcher)
    (cluster / "silent").touch()
    launcher.close()
    (cluster / "silent").unlink()
    assert lab.runner(["one"], launcher=on_slurm(lab)).run() == []
    assert lab.calls == ["fit", "test"]


def test_a_job_that_slurm_refuses_costs_its_own_stages_only(lab, cluster):
    lab.behave("one", sleep=2)
    lab.behave("two")
    launcher = on_slurm(lab)
    running(lab, launcher)
    (cluster / "refuses").touch()
    failed = [stage.name for stage in lab.runner(jobs=2, launcher=launcher).run()]
    # The job that runs was taken over and has ended; what comes after it is refused too.
    assert failed == [f"few_shot-data-{name}-2shot-seed0-{action}" for name, action in
                      (("one", "test"), ("two", "fit"), ("two", "test"))]  # fmt: skip
    assert (
        "the job was not submitted: sbatch: error: QOSMaxSubmitJobPerUserLimit; the same command tries it" in lab.said
    )
    (cluster / "refuses").unlink()
    assert lab.runner(launcher=on_slurm(lab)).run() == []
    assert sorted(lab.calls) == ["fit", "fit", "test", "test"]


def test_a_job_that_no_ticket_names_does_nothing(tmp_path, monkeypatch):
    from vlbench.protocols import cluster

    monkeypatch.setattr(cluster, "_UNTIL_SEEN", 0.3)
    for name, value in {"FOLDER": str(tmp_path), "EXECUTOR": "local", "LOCAL_JOB_ID": "7"}.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", value)
    stage, log, ticket = cluster._Stage(str(tmp_path), "name"), tmp_path / "log", tmp_path / "ticket"
    before = signal.getsignal(signal.SIGTERM)
    try:
        for content, code, said in ((None, 1, ""), ('{"job": "8"}', 1, ""), ('{"job": "7"}', 0, "done\n")):
            if content is not None:
                ticket.write_text(content)
            assert stage(["echo", "done"], str(log), str(ticket)) == code
            assert not said or log.read_text().endswith(said)
        assert log.read_text().count("done") == 1
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_job_whose_time_is_over_before_it_leaves_anything_is_not_tried_for_ever(lab, cluster):
    lab.behave("one", epochs=2, sleep=60)
    assert len(lab.runner(["one"], launcher=on_slurm(lab, timeout_min=4)).run()) == 2
    assert json.loads((cluster / "100.job").read_text())["starts"] == 3
    assert (
        "the job was ended 3 times before the stage had left anything to go on from; give --slurm a longer" in lab.said
    )


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
        assert runner.launcher._job_of(folder / f"{name}.json") is None
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


def test_jobs_of_slurm_lie_where_other_machines_see_them(lab, cluster, monkeypatch):
    """Not in the folder of this machine that takes the place of a cache in a home that is read-only."""
    from vlbench import files

    (lab.folder / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(lab.folder / "file"))
    files.cache_folder.cache_clear()
    with pytest.raises(ConfigError, match="set XDG_CACHE_HOME to a folder that all machines of the cluster see"):
        on_slurm(lab)
    assert local(lab).folder.is_dir()


def test_unknown_parameters_of_a_job_are_refused(lab):
    for parameters in ({"gpus": 3}, {"timeout_min": "long"}):
        with pytest.raises(ConfigError, match=r"slurm is {"):
            SubmititLauncher(lab.out, parameters, "local")


def test_slurm_is_asked_for_where_there_is_none(lab, monkeypatch):
    monkeypatch.setenv("PATH", str(lab.folder))
    with pytest.raises(ConfigError, match="slurm"):
        SubmititLauncher(lab.out, {})
