"""Processes that end with the one that started them."""

import subprocess
import sys

WORKER = """
import os, signal, time
from vlbench.processes import ending_with_this

initialise = ending_with_this()
ready, started = os.pipe()
if os.fork() == 0:
    initialise(0)
    os.write(started, b"-")
    time.sleep(600)
os.read(ready, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_dies_with_the_process_that_reads():
    """The output ends when nobody has it open any more, the worker neither."""
    ended = subprocess.run([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, timeout=120, check=False)
    assert ended.returncode == -9
