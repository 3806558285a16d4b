"""Where the stages of a plan run: in processes of this machine, see also `vlbench.protocols.cluster`."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from vlbench.processes import die_with
from vlbench.protocols.devices import shares, visible_devices, visible_variable

# What torchrun and SLURM tell the processes they start. A stage started from within one would take itself for one of
# several and wait for the others.
_OF_A_CLUSTER = re.compile(
    r"(SLURM|TORCHELASTIC|PMI|PMIX|OMPI)_.*|((LOCAL|GROUP|ROLE|NODE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|VLBENCH_PARENT"
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
            log: File its output is written to, emptied unless the stage runs already.
        """

    def close(self) -> None:
        """Ends what still runs."""


class LocalLauncher:
    """Processes of this machine, forked from servers that have imported everything; see `vlbench.protocols.server`.

    Args:
        jobs: Most stages at once; they share the cores and the GPUs, each with GPUs of its own where there are enough.
        program: Command that starts a server.

    Attributes:
        environment: Environment variables of the stages.
        shares: GPUs of each of the stages at once, as `CUDA_VISIBLE_DEVICES` names them; empty without GPUs.
    """

    interval = 0.02

    def __init__(self, jobs: int = 1, program: Sequence[str] = (sys.executable, "-m", "vlbench.cli.worker")) -> None:
        self.program = program
        self.environment = own_environment(os.environ)
        # numpy's matrix library starts its threads when it is imported, and what is forked should have none.
        self.environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        # A stage that crashes says by which signal, see `vlbench.protocols.failures`.
        self.environment.setdefault("PYTHONFAULTHANDLER", "1")
        if jobs > 1:
            self.environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))
        self.shares = shares(visible_devices(self.environment), jobs)
        self._servers: list[_Server | None] = [None] * jobs

    def describe(self) -> list[str]:
        """Lines that say what each of the stages at once gets."""
        lines = [
            f"stage {slot} of {len(self.shares)} at once: GPU {', '.join(share)}"
            for slot, share in enumerate(self.shares, start=1)
            if share
        ]
        return lines or ["no GPU is visible: stages run on the CPU"]

    def start(self, name: str, digest: str, arguments: Sequence[str], log: Path) -> Job:  # noqa: ARG002 - interface
        """Gives the stage to a server that has nothing to do, or to a new one."""
        log.write_bytes(b"")
        slot = next(slot for slot, server in enumerate(self._servers) if server is None or not server.busy)
        server = self._servers[slot]
        if server is None or not server.alive:
            # With one stage at a time what is visible stays as it is.
            shared = len(self.shares) > 1 and self.shares[slot]
            visible = {visible_variable(self.environment): ",".join(self.shares[slot])} if shared else {}
            server = self._servers[slot] = _Server(self.program, {**self.environment, **visible}, log)
        server.start(arguments, log)
        return server

    def close(self) -> None:
        """Kills the servers; the kernel kills their stages then."""
        for server in self._servers:
            if server is not None:
                server.close()
        self._servers = [None] * len(self._servers)


class _Server:
    """A server and the one stage it runs at a time."""

    def __init__(self, program: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        # Ctrl-C goes to all processes of a terminal; one that is only just forked would print a traceback.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with log.open("ab") as errors:  # whatever keeps it from starting
                self._process = subprocess.Popen(
                    program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                    preexec_fn=partial(_begin, os.getpid()),
                )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
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


def _begin(runner: int) -> None:
    """What a server does before it is one: it ends with its runner, and by nothing else that a terminal sends."""
    die_with(runner)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without those by which torchrun or SLURM make a process one of several."""
    return {name: value for name, value in environment.items() if not _OF_A_CLUSTER.fullmatch(name)}
