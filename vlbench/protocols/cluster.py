"""Stages as jobs of a cluster, through submitit."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from vlbench.errors import ConfigError
from vlbench.files import cache_folder, write_atomically
from vlbench.processes import die_with
from vlbench.protocols.launchers import Job

_MOST_TIMEOUTS = 10
"""How often a job that ran out of time is put into the queue again."""

_JOB_ID = re.compile(r"\d+(_\d+)?")


class SubmititLauncher:
    """Jobs of a cluster through submitit; each stage is one.

    A runner that starts again takes over the jobs that an earlier one, killed meanwhile, has left in the queue. A job
    that runs out of time is put into the queue again and goes on from its last checkpoint, ten times at most.

    submitit hands jobs and their results over in pickles, which execute what they say when they are read. They lie in a
    folder of the user's alone (mode 0700, below `vlbench.files.cache_folder`), never in the results folder, which may
    come from elsewhere: there, a job is a number in a JSON file.

    Args:
        out: Results folder; what remembers the jobs lies in `out/jobs`.
        parameters: Parameters of `submitit.AutoExecutor.update_parameters`, such as `timeout_min`, `gpus_per_node`,
            `tasks_per_node` (as many as `trainer.devices`) and `slurm_partition`.
        cluster: `slurm`, or `local` for processes of this machine.
        program: Command that runs a stage.

    Raises:
        ConfigError: If submitit is not installed or does not know a parameter.
    """

    def __init__(
        self,
        out: Path,
        parameters: Mapping[str, Any],
        cluster: str = "slurm",
        program: Sequence[str] = (sys.executable, "-m", "vlbench"),
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ConfigError("the slurm launcher needs submitit: pip install 'vlbench[slurm]'") from error
        self.interval = 5.0 if cluster == "slurm" else 0.1
        self.cluster = cluster
        self.tickets = out / "jobs"
        self.folder = _private_folder(out)
        self.program = program
        try:
            self._executor = submitit.AutoExecutor(
                folder=self.folder, cluster=cluster, slurm_max_num_timeout=_MOST_TIMEOUTS
            )
            self._executor.update_parameters(**_with_cores(parameters))
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"slurm is {dict(parameters)}: {error}") from error
        tasks = parameters.get("tasks_per_node", parameters.get("slurm_ntasks_per_node", 1))
        self._tasks = range(tasks * parameters.get("nodes", 1))
        self._jobs: list[_SubmittedJob] = []

    def start(self, name: str, digest: str, arguments: Sequence[str], log: Path) -> Job:
        """Submits the stage, unless it still runs or waits."""
        ticket = self.tickets / f"{name}-{digest}.json"
        job = self._unfinished(ticket)
        with _interrupted_afterwards():
            if job is None:
                job = self._executor.submit(_Stage(), [*self.program, *arguments], str(log.absolute()))
                write_atomically(ticket, json.dumps({"job": job.job_id}).encode())
            submitted = _SubmittedJob(job, ticket, log)
            self._jobs.append(submitted)
        return submitted

    def close(self) -> None:
        """Cancels the jobs that have not ended."""
        for job in self._jobs:
            job.cancel()

    def _unfinished(self, ticket: Path) -> Any | None:
        """The job that a ticket names, if it is one of this user's for this results folder and has not ended."""
        try:
            number = json.loads(ticket.read_bytes())["job"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if self.cluster != "slurm" or not isinstance(number, str) or not _JOB_ID.fullmatch(number):
            return None
        if not (self.folder / f"{number}_submitted.pkl").is_file():
            return None
        from submitit import SlurmJob

        job: Any = SlurmJob(folder=self.folder, job_id=number, tasks=list(self._tasks))
        return None if job.done(force_check=True) else job


@contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Inside, Ctrl-C waits: between its submission and its ticket a job is nobody's, and nobody would cancel it."""
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for number in waiting:
            signal.raise_signal(number)


class _SubmittedJob:
    """A job of submitit with the file that remembers it."""

    def __init__(self, job: Any, ticket: Path, log: Path) -> None:
        self.job = job
        self.ticket = ticket
        self.log = log

    def poll(self) -> int | None:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if not self.job.done():
            return None
        self.ticket.unlink(missing_ok=True)
        try:
            return next((code for code in self.job.results() if code), 0)
        except (FailedJobError, UncompletedJobError) as error:
            with self.log.open("a") as log:
                log.write(f"job {self.job.job_id} is {self.job.state}\n{error}\n")
            return 1

    def cancel(self) -> None:
        if self.ticket.exists():
            # It may have ended just now.
            with suppress(subprocess.CalledProcessError, OSError):
                self.job.cancel(check=False)
        self.ticket.unlink(missing_ok=True)


class _Stage:
    """A stage inside its job: every task of the job is a process of the stage."""

    def __call__(self, command: Sequence[str], log: str) -> int:
        """Runs the stage; returns its exit code."""
        import submitit

        if "SUBMITIT_FOLDER" in os.environ:  # which submitit's debug executor has none of
            # Of a task that ended before the job was put into the queue again.
            submitit.JobEnvironment().paths.result_pickle.unlink(missing_ok=True)
        with Path(log).open("ab") as file:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False,
                preexec_fn=partial(_leave_to_submitit, os.getpid()), env={"PYTHONFAULTHANDLER": "1", **os.environ},
            ).returncode  # fmt: skip

    def checkpoint(self, command: Sequence[str], log: str) -> Any:
        """What is to be run when the job ran out of time: the same, which goes on from its last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, command, log)


def _leave_to_submitit(parent: int) -> None:
    """SLURM tells every process of a job that its time runs out; submitit's ends the stage, after it has requeued.

    Killed itself, submitit's process takes the stage with it: two of one stage would write the same checkpoints.
    """
    die_with(parent)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _with_cores(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by which tasks get their cores: from SLURM 22.05 on, srun does not take them over from sbatch."""
    cores = parameters.get("cpus_per_task", parameters.get("slurm_cpus_per_task"))
    if cores is None:
        return dict(parameters)
    arguments = list(parameters.get("slurm_srun_args", ()))
    return {**parameters, "slurm_srun_args": [f"--cpus-per-task={cores}", *arguments]}


def _private_folder(out: Path) -> Path:
    """The folder for submitit's pickles of the jobs of a results folder, which nobody else can write to.

    Raises:
        ConfigError: If it is somebody else's, or inside the results folder.
    """
    digest = hashlib.blake2b(os.fsencode(out.absolute()), digest_size=8).hexdigest()
    folder = cache_folder() / "jobs" / digest
    if out.resolve() in folder.resolve().parents:
        raise ConfigError(f"{folder}, for the jobs, is inside {out}; set XDG_CACHE_HOME to a folder outside it")
    for private in (folder.parent, folder):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private.is_symlink() or private.stat().st_uid != os.getuid():
            raise ConfigError(f"{private}, for the jobs, is not a folder of yours; remove it or set XDG_CACHE_HOME")
        private.chmod(0o700)
    return folder
