"""Where and with what code a test ran, as its record says."""

import subprocess
import sys

LARGE = 1 << 30
"""Bytes that a process holds before it becomes another program; more than torch needs."""
PROGRAM = """
import torch
from vlbench.results.environment import environment
before = environment(torch.device("cpu"))["peak_memory_bytes"]
held = b"x" * 200_000_000
del held
print(before, environment(torch.device("cpu"))["peak_memory_bytes"])
"""


def test_the_memory_of_a_test_is_not_that_of_the_program_that_started_it():
    becomes = f"import os, sys; held = b'x' * {LARGE}; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    words = [sys.executable, "-c", becomes, PROGRAM]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    before, after = map(int, ended.stdout.split())
    assert before + 150_000_000 < after < LARGE
