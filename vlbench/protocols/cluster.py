"""Stages as jobs of a cluster, through submitit."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
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

_MOST_IN_VAIN = 3
"""Starts of a job in a row that may end, for lack of time or for another job, before they have left anything."""

_UNTIL_KILLED = 600.0
"""Seconds within which SLURM kills a job that it has told to end."""

_UNTIL_SEEN = 60.0
"""Seconds after which a machine of the cluster sees the file that another one has written."""

_JOB_ID = re.compile(r"\d+(_\d+)?")


class SubmititLauncher:
    """Jobs of a cluster through submitit; each stage is one.

    A runner that starts again takes over the jobs that an earlier one, killed meanwhile, has left in the queue. A job
    that runs out of time is put into the queue again and goes on from its last checkpoint, ten times at most.

    A stage has a ticket, which names its job, until the runner knows how the job ended; a job that no ticket names does
    nothing. SLURM may start one that its runner has given up, and a killed runner may have submitted one unseen.

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
        self.patience = 60.0 if cluster == "slurm" else 0.0
        self.cluster = cluster
        self.tickets = out / "jobs"
        self.folder = _private_folder(out, shared=cluster == "slurm")
        self.program = program
        try:
            self._executor = submitit.AutoExecutor(
                folder=self.folder, cluster=cluster, slurm_max_num_timeout=_MOST_TIMEOUTS
            )
            self._executor.update_parameters(**_with_cores(parameters))
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"slurm is {dict(parameters)}: {error}") from error
        if cluster == "slurm":
            from vlbench.protocols.slurm_job import PatientJob

            self._executor._executor.job_class = PatientJob
        tasks = parameters.get("tasks_per_node", parameters.get("slurm_ntasks_per_node", 1))
        self._tasks = range(tasks * parameters.get("nodes", 1))
        self._jobs: list[_SubmittedJob] = []

    def start(self, name: str, digest: str, arguments: Sequence[str], log: Path) -> Job:
        """Submits the stage, unless its job still runs or waits, or has ended well."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        ticket = self.tickets / f"{name}-{digest}.json"
        # What the stage was before its configuration has changed would write the same checkpoints.
        for other in self.tickets.glob(f"{glob.escape(name)}-{'[0-9a-f]' * len(digest)}.json"):
            if other != ticket and (job := self._job_of(other)) is not None:
                self._submitted(job, other, log).cancel()
        if (job := self._job_of(ticket)) is not None:
            submitted = self._submitted(job, ticket, log)
            if submitted.wanted():
                self._jobs.append(submitted)
                return submitted
        log.write_bytes(b"")
        with _interrupted_afterwards():
            try:
                stage = _Stage(str(self.tickets.parent.absolute()), name)
                job = self._executor.submit(
                    stage, [*self.program, *arguments], str(log.absolute()), str(ticket.absolute())
                )
            except (FailedJobError, FailedSubmissionError) as error:
                log.write_text(f"vlbench: error: the job was not submitted: {error}; the same command tries it again\n")
                return _Refused()
            write_atomically(ticket, json.dumps({"job": job.job_id}).encode())
            submitted = self._submitted(job, ticket, log)
            self._jobs.append(submitted)
        return submitted

    def close(self) -> None:
        """Cancels the jobs that have not ended."""
        for job in self._jobs:
            job.cancel()

    def _submitted(self, job: Any, ticket: Path, log: Path) -> _SubmittedJob:
        return _SubmittedJob(job, ticket, log, self.patience)

    def _job_of(self, ticket: Path) -> Any | None:
        """The job that a ticket names, if it is one of this user's for this results folder."""
        number = _job_id(ticket)
        if self.cluster != "slurm" or number is None or not (self.folder / f"{number}_submitted.pkl").is_file():
            return None
        from vlbench.protocols.slurm_job import PatientJob

        return PatientJob(folder=self.folder, job_id=number, tasks=list(self._tasks))


def _job_id(ticket: Path) -> str | None:
    """The number of the job that a ticket names; `None` if there is none, or the file says something else."""
    try:
        number = json.loads(ticket.read_bytes())["job"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return number if isinstance(number, str) and _JOB_ID.fullmatch(number) else None


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


class _Refused:
    """A job that SLURM has not taken."""

    def poll(self) -> int:
        return 1


class _SubmittedJob:
    """A job of submitit with the file that remembers it.

    Args:
        job: Job as submitit has it.
        ticket: File that names the job.
        log: Log of the stage's output.
        patience: Seconds that a job without a result is waited for: SLURM may put it into the queue again, when a node
            has died or another job goes first.
    """

    def __init__(self, job: Any, ticket: Path, log: Path, patience: float) -> None:
        self.job = job
        self.ticket = ticket
        self.log = log
        self.patience = patience
        self._ended: float | None = None

    def poll(self) -> int | None:
        if not self.job.done():
            self._ended = None
            return None
        if self.patience and not self._has_results():
            self._ended = self._ended or time.monotonic()
            if time.monotonic() < self._ended + self.patience:
                self.job.watcher.clear()  # which asks no more after a job that it takes for ended
                return None
        self.ticket.unlink(missing_ok=True)
        return self._code()

    def wanted(self) -> bool:
        """Whether the job runs, waits or has ended well: there is nothing to submit again."""
        return not self.job.done() or (self._has_results() and self._code() == 0)

    def cancel(self) -> None:
        if self.ticket.exists():
            try:
                self.job.cancel()
            except (subprocess.CalledProcessError, OSError):
                return  # the next runner takes it over, unless it has ended just now
        self.ticket.unlink(missing_ok=True)

    def _has_results(self) -> bool:
        return all(self.job.task(task).paths.result_pickle.exists() for task in range(self.job.num_tasks))

    def _code(self) -> int:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return next((code for code in self.job.results() if code), 0)
        except (FailedJobError, UncompletedJobError) as error:
            lines = [f"job {self.job.job_id} is {self.job.state}", str(error)]
            if not isinstance(error, FailedJobError):  # which says why itself
                lines.append(
                    f"vlbench: error: job {self.job.job_id} ended as {self.job.state} without a result; the same "
                    "command submits it again"
                )
            with suppress(OSError), self.log.open("a") as log:
                log.write("\n".join([*lines, ""]))
            return 1


class _Stage:
    """A stage inside its job: every task of the job is a process of the stage.

    Args:
        out: Results folder of the run.
        name: Name of the stage.
    """

    def __init__(self, out: str, name: str) -> None:
        self.out = out
        self.name = name
        self.before: dict[str, int] = {}
        self.in_vain = 0

    def __call__(self, command: Sequence[str], log: str, ticket: str) -> int:
        """Runs the stage; returns its exit code."""
        import submitit

        ending: list[int] = []
        if "SUBMITIT_FOLDER" in os.environ:  # which submitit's debug executor has none of
            job = submitit.JobEnvironment()
            # Of a task that ended before the job was put into the queue again.
            job.paths.result_pickle.unlink(missing_ok=True)
            if not _named(Path(ticket), job.job_id):
                return 1
            signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
        self.before = self._left()
        with Path(log).open("ab") as file:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False,
                preexec_fn=partial(_leave_to_submitit, os.getpid()), env={"PYTHONFAULTHANDLER": "1", **os.environ},
            ).returncode  # fmt: skip
        if ending and code:
            # SLURM ends the job, and may put it into the queue again: how the stage ended now is no result.
            time.sleep(_UNTIL_KILLED)
        return code

    def checkpoint(self, command: Sequence[str], log: str, ticket: str) -> Any:
        """What is to be run when the job ran out of time: the same, which goes on from its last checkpoint."""
        from submitit.helpers import DelayedSubmission

        self.in_vain = 0 if self._left() != self.before else self.in_vain + 1
        if self.in_vain >= _MOST_IN_VAIN:
            raise ConfigError(
                f"the job was ended {self.in_vain} times before the stage had left anything to go on from; give "
                "--slurm a longer timeout_min, or a training a smaller checkpoint_minutes"
            )
        return DelayedSubmission(self, command, log, ticket)

    def _left(self) -> dict[str, int]:
        """When each of the checkpoints and records of the stage was written."""
        left: dict[str, int] = {}
        for pattern in ("checkpoints/{}/[!.]*", "records/{}*"):
            for path in Path(self.out).glob(pattern.format(glob.escape(self.name))):
                with suppress(OSError):  # removed just now, as `running.ckpt` is at the end of an epoch
                    left[str(path)] = path.stat().st_mtime_ns
        return left


def _named(ticket: Path, job: str) -> bool:
    """Whether the ticket names the job, which may start before its ticket is written."""
    deadline = time.monotonic() + _UNTIL_SEEN
    while _job_id(ticket) != job:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


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


def _private_folder(out: Path, *, shared: bool) -> Path:
    """The folder for submitit's pickles of the jobs of a results folder, which nobody else can write to.

    Raises:
        ConfigError: If it is somebody else's, inside the results folder, or `shared` and on this machine alone.
    """
    digest = hashlib.blake2b(os.fsencode(out.absolute()), digest_size=8).hexdigest()
    folder = cache_folder() / "jobs" / digest
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    if shared and home not in folder.parents:
        raise ConfigError(
            f"nothing can be written to {home}, where the jobs would lie; set XDG_CACHE_HOME to a folder that all "
            "machines of the cluster see"
        )
    if out.resolve() in folder.resolve().parents:
        raise ConfigError(f"{folder}, for the jobs, is inside {out}; set XDG_CACHE_HOME to a folder outside it")
    for private in (folder.parent, folder):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private.is_symlink() or private.stat().st_uid != os.getuid():
            raise ConfigError(f"{private}, for the jobs, is not a folder of yours; remove it or set XDG_CACHE_HOME")
        private.chmod(0o700)
    return folder
