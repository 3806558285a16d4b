"""How a process of vlbench starts and ends quickly."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def importing() -> Iterator[None]:
    """Collects no garbage inside: importing torch and Lightning makes a million objects, all of which stay.

    Looking through them again and again takes a fifth of the time of the imports. What is there at the end is never
    looked through again, which also keeps it in the memory that forked processes share.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def leave(code: int) -> NoReturn:
    """Ends the process without freeing what was imported object by object, which takes a second after torch.

    What was registered to run at exit runs. With another thread that must end first, the interpreter exits in its usual
    way.

    Args:
        code: Exit code of the process.
    """
    main = threading.main_thread()
    if any(thread is not main and not thread.daemon for thread in threading.enumerate()):
        sys.exit(code)
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does
        code = code or 1
    os._exit(code)
