"""Where the stages of a plan run: in processes of this machine, or as jobs of a cluster."""

from __future__ import annotations

import json
import os
import pickle
import re
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vlbench.errors import ConfigError
from vlbench.files import write_atomically
from vlbench.protocols.server import die_with

# What torchrun and SLURM tell the processes they start. A stage started from within one would take itself for one of
# several and wait for the others.
_OF_A_CLUSTER = re.compile(
    r"(SLURM|TORCHELASTIC|PMI|PMIX|OMPI)_.*|((LOCAL|GROUP|ROLE|NODE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)"
)


class Job(Protocol):
    """A stage that was started."""

    def poll(self) -> int | None:
        """The exit code, `None` while it runs; negative: the signal that killed it."""


class Launcher(Protocol):
    """Starts stages.

    Attributes:
        interval: Seconds between two questions whether a stage has ended.
    """

    interval: float

    def start(self, name: str, digest: str, arguments: Sequence[str], log: Path) -> Job:
        """Starts a stage.

        Args:
            name: Name of the stage.
            digest: Digest of what the stage does.
            arguments: Arguments of the `vlbench` command.
            log: File its output is added to.
        """

    def close(self) -> None:
        """Ends what still runs."""


class LocalLauncher:
    """Processes of this machine, forked from servers that have imported everything; see `vlbench.protocols.server`.

    Args:
        jobs: Most stages at once; they share the cores.
        program: Command that starts a server.
    """

    interval = 0.02

    def __init__(self, jobs: int = 1, program: Sequence[str] = (sys.executable, "-m", "vlbench.cli.worker")) -> None:
        self.program = program
        self.environment = own_environment(os.environ)
        # numpy's matrix library starts its threads when it is imported, and what is forked should have none.
        self.environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        if jobs > 1:
            self.environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))
        self._servers: set[_Server] = set()

    def start(self, name: str, digest: str, arguments: Sequence[str], log: Path) -> Job:  # noqa: ARG002 - interface
        """Gives the stage to a server that has nothing to do, or to a new one."""
        self._servers = {server for server in self._servers if server.alive}
        idle = next((server for server in self._servers if not server.busy), None)
        server = idle or _Server(self.program, self.environment, log)
        self._servers.add(server)
        server.start(arguments, log)
        return server

    def close(self) -> None:
        """Kills the servers; the kernel kills their stages then."""
        for server in self._servers:
            server.close()
        self._servers.clear()


class _Server:
    """A server and the one stage it runs at a time."""

    def __init__(self, program: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as errors:  # whatever keeps it from starting
            self._process = subprocess.Popen(
                program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                preexec_fn=partial(die_with, os.getpid()),
            )  # fmt: skip
        self.busy = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, arguments: Sequence[str], log: Path) -> None:
        assert self._process.stdin is not None
        self.busy = True
        request = json.dumps({"arguments": list(arguments), "log": str(log.absolute())})
        with suppress(BrokenPipeError):  # it has died already, which `poll` tells
            self._process.stdin.write(f"{request}\n".encode())
            self._process.stdin.flush()

    def poll(self) -> int | None:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], 0)[0]:
            return None
        reply = output.readline()
        self.busy = False
        # Without an answer the server itself has died, of an import that fails or for lack of memory.
        return int(reply) if reply else self._process.wait() or 1

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class SubmititLauncher:
    """Jobs of a cluster through submitit; each stage is one.

    A runner that starts again takes over the jobs that an earlier one, killed meanwhile, has left in the queue.

    Args:
        folder: Folder for submitit's files that all machines see.
        parameters: Parameters of `submitit.AutoExecutor.update_parameters`, such as `timeout_min`, `gpus_per_node`,
            `tasks_per_node` (as many as `trainer.devices`) and `slurm_partition`.
        cluster: `slurm`, or `local` for processes of this machine.
        program: Command that runs a stage.

    Raises:
        ConfigError: If submitit is not installed or does not know a parameter.
    """

    def __init__(
        self,
        folder: Path,
        parameters: Mapping[str, Any],
        cluster: str = "slurm",
        program: Sequence[str] = (sys.executable, "-m", "vlbench"),
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ConfigError("the slurm launcher needs submitit: pip install 'vlbench[slurm]'") from error
        self.interval = 0.1 if cluster == "local" else 5.0
        self.folder = folder
        self.program = program
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**parameters)
        except (RuntimeError, NameError, TypeError) as error:
            raise ConfigError(f"slurm is {dict(parameters)}: {error}") from error
        self._jobs: list[_SubmittedJob] = []

    def start(self, name: str, digest: str, arguments: Sequence[str], log: Path) -> Job:
        """Submits the stage, unless it still runs or waits."""
        ticket = self.folder / f"{name}-{digest}.job"
        job = _unfinished(ticket)
        if job is None:
            job = self._executor.submit(_run_logged, [*self.program, *arguments], str(log.absolute()))
            write_atomically(ticket, pickle.dumps(job))
        submitted = _SubmittedJob(job, ticket, log)
        self._jobs.append(submitted)
        return submitted

    def close(self) -> None:
        """Cancels the jobs that have not ended."""
        for job in self._jobs:
            job.cancel()


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
        if self.ticket.exists() and not self.job.done():
            self.job.cancel()
        self.ticket.unlink(missing_ok=True)


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without those by which torchrun or SLURM make a process one of several."""
    return {name: value for name, value in environment.items() if not _OF_A_CLUSTER.fullmatch(name)}


def _unfinished(ticket: Path) -> Any | None:
    try:
        job = pickle.loads(ticket.read_bytes())
    except FileNotFoundError:
        return None
    return None if job.done(force_check=True) else job


def _run_logged(command: Sequence[str], log: str) -> int:
    """Runs a stage inside its job: every task of the job is a process of the stage."""
    with open(log, "ab") as file:  # noqa: PTH123 - submitted by value
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False).returncode
