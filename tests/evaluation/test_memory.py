"""How much memory the end of an evaluation takes, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "evaluation.py"


def test_results_of_a_large_test_set_take_little_beyond_the_data():
    """20,000 videos and 400 classes: one copy in order, and what the metrics take for a moment."""
    command = [sys.executable, str(BENCHMARK), "--measure", "20000", "400"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    data, beyond, _, interval = map(float, answer.split())
    assert 99 < data < 101
    assert beyond < 250, f"{beyond:.0f} MiB beyond the {data:.0f} of the data"
    assert interval < 0.3, "a thousand resampled test sets are a draw of a thousand numbers"
