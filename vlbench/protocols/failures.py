"""Why a stage failed, as its log tells, and what helps against the failures that have a usual cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|OUT_OF_MEMORY|\boom.kill|"
    r"\bMemoryError\b|Unable to allocate \d|std::bad_alloc|FT_ALLOC_FAILED|STATUS_ALLOC_FAILED|Failed to CUDA calloc",
    re.IGNORECASE,
)
_NO_SHARED_MEMORY = re.compile(
    r"(</torch_.*|shared memory.*): No space left on device|creating shared memory segment|"
    r"Fatal Python error: Bus error"
)
_WORKER_KILLED = re.compile(r"DataLoader worker .* is killed by signal: (Killed|Bus error)")
_ERROR = re.compile(r"vlbench: error: .+")
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"(\w+\.)*\w+(:|$)")
_OF_A_WORKER = re.compile(r"Caught \w+ in DataLoader worker process")
"""What stands above the worker's own exception."""
_CRASH = re.compile(r"Fatal Python error: .+|^\s+what\(\):\s+(?P<what>.+)")
"""What Python says of a signal such as that of a segmentation fault, and C++ of an exception that nobody caught."""
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
        if (help_ := advice(action, 1, line)) is not None:
            return Diagnosis(line.strip(), help_)
        text = _RANK.sub("", line).rstrip()
        crash = _CRASH.search(text)
        if text.endswith(_TRACEBACK):
            in_traceback = True
        elif crash is not None or (in_traceback and _EXCEPTION.match(text) and not _OF_A_WORKER.search(text)):
            in_traceback = False
            text = text if crash is None else crash["what"] or crash[0]
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
    if _NO_SHARED_MEMORY.search(log):
        return (
            "out of shared memory: try more shared memory (docker run --shm-size), or fewer data.init_args.num_workers"
        )
    if _NO_MEMORY.search(log):
        return f"out of memory: try {_SMALLER[action]}"
    if code in _SIGKILL:
        return f"killed, by the kernel for lack of memory unless by somebody (dmesg tells): try {_SMALLER[action]}"
    return None
