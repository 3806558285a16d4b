"""Test code in a process of its own, for what can take its process down: compilation, signals, a lack of memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]

# prctl(PR_SET_PDEATHSIG, SIGKILL): the process ends with the one that runs the tests, however that ends. A library that
# checks its memory is loaded by then; the compilers that it starts are not to be checked, which takes them minutes.
_PROGRAM = (
    "import ctypes, os; ctypes.CDLL(None).prctl(1, 9); os.environ.pop('LD_PRELOAD', None); "
    "from {module} import {name}; {call}"
)

# glibc checks each block of memory as it is freed and aborts if something was written beyond its end; memory that is
# allocated or freed is filled with a pattern, so that what is read before it is written is no zero.
HEAP_CHECKS = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}


def run_apart(
    function: Callable[..., None], *arguments: object, timeout: float, environment: dict[str, str] | None = None
) -> None:
    """Calls a function in a new interpreter; the test fails unless that ends with status 0.

    Its lines are not counted for the coverage: dynamo alone runs so many that counting takes as long as they do.

    Args:
        function: Function of a module that can be imported; its exceptions are failures of the test.
        arguments: Arguments of the function, whose `repr` is their source text.
        timeout: Seconds after which the process and its children are killed and the test fails.
        environment: Environment variables added to those of this process, such as `HEAP_CHECKS`.

    Raises:
        pytest.fail.Exception: if the process ends with another status, by a signal or not in time; the message has
            the end of what it wrote.
    """
    call = f"{function.__name__}({', '.join(map(repr, arguments))})"
    program = _PROGRAM.format(module=function.__module__, name=function.__name__, call=call)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", program],
        cwd=_ROOT, env={**inherited, **(environment or {})}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        ending = f"did not end within {timeout:g} s"
    else:
        code = process.returncode
        if code == 0:
            return
        ending = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    finally:
        with contextlib.suppress(ProcessLookupError):  # children too, and where this test is interrupted
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            output, _ = process.communicate()
    pytest.fail(f"the process of {call} {ending}\n{output[-6000:]}", pytrace=False)
