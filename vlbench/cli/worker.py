"""`python -m vlbench.cli.worker`: what `vlbench run` starts to run stages in."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

# A question for GPUs would otherwise start CUDA, which then works in no process that is forked.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

from vlbench.cli.process import importing, leave

with importing():
    import vlbench.cli.trainer  # noqa: F401 - what every stage needs, imported once

from vlbench.cli.main import main
from vlbench.protocols.server import serve


def run(arguments: Sequence[str]) -> NoReturn:
    """One `vlbench` command in a process that was forked for it."""
    # Lightning starts the other processes of a DDP run by the name of the main module and the arguments.
    sys.modules["__main__"].__spec__ = find_spec("vlbench.__main__")
    sys.argv[:] = ["vlbench", *arguments]
    leave(main(arguments))


if __name__ == "__main__":
    serve(run)
