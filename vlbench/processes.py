"""Processes that end with the one that started them, and the memory that a process has held."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

_PARENT = "VLBENCH_PARENT"
"""Variable in which the first process of a DDP run tells those that it starts who it is."""


def die_with(parent: int) -> None:
    """The kernel kills this process when its parent dies, even by SIGKILL: no stage outlives its runner.

    A fork does not hand this on, so that every process asks for itself; an `exec` keeps it.

    Args:
        parent: The parent's process id; if it is dead already, this process ends at once.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def ending_with_this() -> Callable[[int], None]:
    """The `worker_init_fn` of a DataLoader whose workers die with this process.

    torch's own watch notices the death of a process after five seconds.
    """
    return partial(_worker_of, os.getpid())


def _worker_of(parent: int, worker: int) -> None:  # noqa: ARG001 - torch gives the worker's number
    die_with(parent)


def announce_parent() -> None:
    """Tells the processes that Lightning starts for a DDP run who their parent is."""
    if "LOCAL_RANK" not in os.environ:
        os.environ[_PARENT] = str(os.getpid())


def die_with_announced_parent() -> None:
    """A process that Lightning started for a DDP run dies with its parent; any other process goes on as it is.

    torchrun and SLURM start all processes of a run themselves and end them themselves.
    """
    started_by_lightning = _PARENT in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    if started_by_lightning and os.environ.get("LOCAL_RANK", "0") != "0":
        die_with(int(os.environ[_PARENT]))


def peak_resident_bytes() -> int:
    """Most memory that this process has held since its program started, in bytes."""
    try:
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        peak = None
    # `ru_maxrss` begins with what the process held that started this one, which may be far more.
    return 1024 * (int(peak[1]) if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
