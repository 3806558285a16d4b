"""The end of an evaluation: memory and time of the results of 20,000 videos and 400 classes.

Each row is a process of its own, which holds what the batches left behind and then makes the results: joined
predictions, metrics, the interval of top-1, metrics of halves of the classes and the file of all scores. Printed are
the size of the data, by how much the process grew beyond it at its largest, and CPU seconds, one thread.

    python benchmarks/evaluation.py
"""

import argparse
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.evaluation.calibration import calibration
from vlbench.evaluation.evaluator import Evaluator
from vlbench.evaluation.measures import Probability
from vlbench.evaluation.metrics import Predictions, bootstrap_interval, half_class_metrics
from vlbench.processes import peak_resident_bytes

DIM = 512


def evaluator_of(videos, classes, batch=32):
    """An evaluator after its last batch, and the MiB of the predictions that it holds."""
    names = tuple(f"class {label}" for label in range(classes))
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(videos, generator=generator).tolist()
    labels = {f"v{k:06}": k % classes for k in range(videos)}
    rule = Probability("scores", 1.0)
    method = SimpleNamespace(
        backbone=SimpleNamespace(embed_dim=DIM, mean=torch.zeros(1)), encode_classes=len, probability=rule
    )
    evaluator = Evaluator(method, [EvaluationSet(Subset(), ClassList(names, tuple(range(classes)), names), labels, "")])
    for first in range(0, videos, batch):
        ids = [f"v{k:06}" for k in order[first : first + batch]]
        shapes = ((len(ids), classes), (len(ids), classes), (len(ids), DIM))
        tensors = [torch.rand(shape, generator=generator) for shape in shapes]
        evaluator._parts[0].append(Predictions(ids, torch.tensor([labels[name] for name in ids]), *tensors))
    return evaluator, videos * (2 * classes + DIM) * 4 / 2**20


def resident_mib():
    """MiB that the process has held at its largest."""
    return peak_resident_bytes() / 2**20


def measure(videos, classes):
    torch.set_num_threads(1)
    warm, _ = evaluator_of(40, 4)
    warm.compute()  # loads what is loaded late
    evaluator, data = evaluator_of(videos, classes)
    before, start = resident_mib(), time.process_time()
    (evaluation,) = evaluator.compute()
    joined = time.process_time()
    bootstrap_interval(evaluation.predictions)
    drawn = time.process_time()
    half_class_metrics(evaluation.predictions)
    calibration(evaluation.predictions.stored(), evaluation.probability)
    tensors = {name: getattr(evaluation.predictions, name) for name in ("scores", "cosines", "features", "labels")}
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        save_file(tensors, file.name)
    print(data, resident_mib() - before, joined - start, drawn - joined)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=int, nargs=2, metavar=("VIDEOS", "CLASSES"), help="in this process")
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return
    print("| videos | classes | data, MiB | beyond it, MiB | results, CPU s | interval, CPU s |")
    print("|---|---|---|---|---|---|")
    for size in ((4000, 101), (20_000, 400)):
        command = [sys.executable, __file__, "--measure", *map(str, size)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        data, beyond, results, interval = map(float, answer.split())
        print(f"| {size[0]} | {size[1]} | {data:.0f} | {beyond:.0f} | {results:.2f} | {interval:.4f} |", flush=True)


if __name__ == "__main__":
    main()
