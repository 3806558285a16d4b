"""Callbacks that make one process of a run fail, as videos, memory and the kernel do."""

import os
import signal
from pathlib import Path

import torch
from lightning import Callback

from vlbench.errors import DecodeError

_MESSAGES = {
    "data": lambda: DecodeError("a.mp4", "truncated"),
    "bug": lambda: ZeroDivisionError("division by zero"),
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has 79 GiB."),
    "host": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
}

_SIGNALS = {"killed": signal.SIGKILL, "segfault": signal.SIGSEGV}


class Fault(Callback):
    """Fails in the first batch of a test, or waits for ever.

    Args:
        faults: Rank -> what happens to it: a key of the messages or signals above, or `waits`.
        pids: Folder in which every process leaves its number.
    """

    def __init__(self, faults: dict[str, str], pids: str) -> None:
        self.faults = faults
        self.pids = Path(pids)

    def on_test_batch_start(self, trainer, *_):
        (self.pids / str(os.getpid())).touch()
        torch.distributed.barrier()
        fault = self.faults.get(str(trainer.global_rank))
        if fault in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[fault])
        while fault == "waits":  # also after a signal that is handled, such as a child's death
            signal.pause()
        if fault is not None:
            raise _MESSAGES[fault]()


class Crash(Callback):
    """Kills every process of a training before it takes step `$CRASH_STEP`, if that is set."""

    def on_train_batch_start(self, trainer, *_):
        if str(trainer.global_step) == os.environ.get("CRASH_STEP"):
            trainer.strategy.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
