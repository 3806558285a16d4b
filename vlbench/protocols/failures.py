"""What helps against the failures that have a usual cause."""

from __future__ import annotations

import re

_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|OUT_OF_MEMORY|\boom.kill",
    re.IGNORECASE,
)
_WORKER_KILLED = re.compile(r"DataLoader worker .* is killed by signal: (Killed|Bus error)")
_SIGKILL = (-9, 137)

_SMALLER = {
    "fit": "a smaller data.init_args.batch_size (data.init_args.loading.effective_batch keeps the optimizer steps as "
    "they are) or model.init_args.grad_checkpointing: true, where the method has it",
    "test": "a smaller data.init_args.loading.eval_batch_size, which changes no prediction",
}


def advice(action: str, code: int, log: str) -> str | None:
    """What to change after a stage ran out of memory; `None` if it does not look so.

    Args:
        action: Action of the stage, `fit` or `test`.
        code: Exit code of the stage.
        log: The end of its log.
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
