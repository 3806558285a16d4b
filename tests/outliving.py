"""A process that does not end, for the tests of the harness; it imports no torch, so that it is there at once."""

import subprocess
import time
from pathlib import Path


def outlive(path: str) -> None:
    """Writes down the process number of a child, then waits beside it."""
    child = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(str(child.pid))
    time.sleep(600)
