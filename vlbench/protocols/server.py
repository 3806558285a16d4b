"""A process that has imported everything already and forks itself for each stage.

Importing torch and Lightning takes several seconds, which a suite of many short stages would spend again and again. A
stage is a process of its own all the same: one that crashes or runs out of memory costs only itself.

`multiprocessing`'s forkserver with preload is not used, because it does not do the same (tried with Python 3.11):

- A stage lives on when its runner is killed: nothing ends the processes that the forkserver has forked.
- A process has one forkserver, which keeps the environment and the modules that it was started with: thread counts,
  the cache folder of `vlbench regress` and another program for the next launcher come too late.
- A module that cannot be imported is passed over without a word, and fails in every stage again.
- A non-daemon process is waited for when the runner ends, and a daemon process may not start data workers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence

from vlbench.processes import die_with


def serve(run: Callable[[Sequence[str]], int]) -> None:
    """Runs a stage for each line on standard input, one after the other; answers each with the exit code.

    A line is JSON: `{"arguments": [..], "log": file}`; the stage's output is added to the log. Ends with its input, and
    with the process that started it, whatever happens to that.

    Args:
        run: What a stage does with its arguments; returns its exit code.
    """
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    _redirect(0, os.devnull, os.O_RDONLY)
    os.dup2(2, 1)
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at Ctrl-C the runner ends its servers; it has started them so
    server = os.getpid()
    while line := requests.readline():
        child = os.fork()
        if child == 0:
            die_with(server)
            requests.close()
            replies.close()
            request = json.loads(line)
            for descriptor in (1, 2):
                _redirect(descriptor, request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.exit(run(request["arguments"]))
        _, status = os.waitpid(child, 0)
        replies.write(f"{os.waitstatus_to_exitcode(status)}\n")
        replies.flush()


def _redirect(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)
