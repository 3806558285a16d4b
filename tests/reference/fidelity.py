"""Prints how far each method is from the released code's outputs: the largest error, as a part of the largest value.

    python -m tests.reference.fidelity

runs the tests of this folder and reads what they measured. Features, logits and losses are compared to 1e-5, gradients
and weights after optimizer steps to more.
"""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).parent


def measured() -> dict[str, tuple[float, float]]:
    """Method -> largest error of features, logits and losses, and of gradients and steps; 0 where none was compared."""
    errors: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "errors.txt"
        environment = {**os.environ, "VLBENCH_FIDELITY": str(report)}
        subprocess.run([sys.executable, "-m", "pytest", "-q", str(FOLDER)], env=environment, check=True)
        for line in report.read_text().splitlines():
            file, tolerance, error = line.split()
            largest = errors[Path(file).stem.removeprefix("test_")]
            kind = int(float(tolerance) > 1e-5)
            largest[kind] = max(largest[kind], float(error))
    return {name: (forward, backward) for name, (forward, backward) in sorted(errors.items())}


if __name__ == "__main__":
    for name, (forward, backward) in measured().items():
        print(f"{name:24} {forward:8.1e} {backward:8.1e}")
