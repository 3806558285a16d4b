"""Why a stage failed, as its log tells, and what helps against the failures that have a usual cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|OUT_OF_MEMORY|\boom.kill",
    re.IGNORECASE,
)
_WORKER_KILLED = re.compile(r"DataLoader worker .* is killed by signal: (Killed|Bus error)")
_ERROR = re.compile(r"vlbench: error: .+")
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"(\w+\.)*\w+(:|$)")
_RANK = re.compile(r"^\[rank ?\d+\]: ?")
_LOST_ANOTHER = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|Connection refused|Socket Timeout|remote process exited|"
    r"DistNetworkError|DistBackendError|recvValue failed|Timed out waiting",
    re.IGNORECASE,
)
"""What a process says when another process of its run has gone."""
_SIGKILL = (-9, 137)

_SMALLER = {
    "fit": "a smaller data.init_args.batch_size (data.init_args.loading.effective_batch keeps the optimizer steps as "
    "they are) or model.init_args.grad_checkpointing: true, where the method has it",
    "choose": "fewer stages at once (--jobs)",
    "sweep": "a smaller data.init_args.batch_size, which changes no test",
    "test": "a smaller data.init_args.loading.eval_batch_size, which changes no prediction",
}


class Diagnosis(NamedTuple):
    """Why a stage failed.

    Attributes:
        cause: Line of the log that says it; `None` if there is none.
        advice: Sentence on what to change; `None` if the failure has no usual cause.
    """

    cause: str | None
    advice: str | None


def diagnose(action: str, code: int, log: Iterable[str]) -> Diagnosis:
    """Why a stage failed.

    When one process of several fails, the others fail after it: they lose their connection, or Lightning kills them.
    What the first one said is the cause, whatever it is that the stage itself ended by.

    Args:
        action: Action of the stage, `fit`, `test` or `sweep`.
        code: Exit code of the stage.
        log: Lines of its log, of all its processes.
    """
    raised: str | None = None
    lost: str | None = None
    in_traceback = False
    for line in log:
        if (stated := _ERROR.search(line)) is not None:
            return Diagnosis(stated[0], advice(action, 1, line))
        if _WORKER_KILLED.search(line) or _NO_MEMORY.search(line):
            return Diagnosis(line.strip(), advice(action, 1, line))
        text = _RANK.sub("", line).rstrip()
        if text == _TRACEBACK:
            in_traceback = True
        elif in_traceback and _EXCEPTION.match(text):
            in_traceback = False
            if _LOST_ANOTHER.search(text):
                lost = lost or text
            else:
                raised = raised or text
    if raised is not None:
        return Diagnosis(raised, None)
    return Diagnosis(lost, advice(action, -9 if lost is not None else code, ""))


def advice(action: str, code: int, log: str) -> str | None:
    """What to change after a stage ran out of memory; `None` if it does not look so.

    Args:
        action: Action of the stage, `fit` or `test`.
        code: Exit code of the stage.
        log: Lines of the log that tell the cause.
    """
    if _WORKER_KILLED.search(log):
        return (
            "a process that decodes was out of memory: try fewer data.init_args.num_workers, or more shared memory "
            "(docker run --shm-size)"
        )
    if _NO_MEMORY.search(log):
        return f"out of memory: try {_SMALLER[action]}"
    if code in _SIGKILL:
        return f"killed, by the kernel for lack of memory unless by somebody (dmesg tells): try {_SMALLER[action]}"
    return None
