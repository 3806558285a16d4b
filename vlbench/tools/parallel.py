"""Work on many files in other processes; one that dies costs its own file and nothing else."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vlbench.ranges import PROCESSES

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def for_each(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int | None = None
) -> Iterator[tuple[Task, Result | None]]:
    """Each task with its result, in the order in which they are done.

    A task whose process dies (killed for its memory, a crash inside a decoder) has the result `None`. An exception of
    `function` ends the iteration.

    Args:
        function: Function of one task; a function of a module, as it is sent to another process.
        tasks: What to work on.
        workers: Processes; 0 for this process, which then is not protected, `None` for one a core.
    """
    PROCESSES.check("workers", workers, "one a core")
    if workers == 0:
        yield from ((task, function(task)) for task in tasks)
        return
    workers = workers or cores()
    waiting = list(tasks)
    while waiting:
        left: list[Task] = []
        yield from _in_a_pool(function, waiting, workers, left)
        # Tasks start in order, so those under way when the pool broke are the first of what is left. Each of them
        # runs again alone: only then it is plain which one was the cause.
        waiting = left[workers:]
        for task in left[:workers]:
            alone: list[Task] = []
            yield from _in_a_pool(function, [task], 1, alone)
            yield from ((task, None) for task in alone)


def _in_a_pool(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, left: list[Task]
) -> Iterator[tuple[Task, Result]]:
    """Tasks that a pool finishes; if it breaks, those that it does not are appended to `left`."""
    # Spawned, not forked: the caller may hold threads (torch, a progress bar) that a fork would freeze.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context)
    try:
        futures: dict[Future[Result], Task] = {pool.submit(function, task): task for task in tasks}
        broken: set[Future[Result]] = set()
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                broken.add(future)
        left.extend(task for future, task in futures.items() if future in broken)
    finally:
        pool.shutdown(cancel_futures=True)
