"""Processes that end with the one that started them, and the memory that a process has held."""

import subprocess
import sys

import pytest

from vlbench import processes

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


@pytest.mark.quick
def test_a_kernel_without_a_peak_of_memory_gives_that_of_the_resources(monkeypatch, tmp_path):
    (tmp_path / "status").write_text("VmRSS:\t 12 kB\n")
    for file in ("status", "none"):
        monkeypatch.setattr(processes, "Path", lambda _, file=file: tmp_path / file)
        assert processes.peak_resident_bytes() > 1_000_000
