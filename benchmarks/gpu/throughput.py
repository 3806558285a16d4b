"""Throughput, MFU and memory of training and evaluation on one GPU.

Each case is a method on a backbone, training or evaluating with random weights and pixels that are on the GPU already,
see loader.py for clips from files. The bf16 peak is that of a product of two 8192 x 8192 matrices in the same process,
and MFU is the arithmetic of a step (counted by torch; a step that computes something twice does not count it twice) by
its time and by that peak. Every case writes one JSON file, and with --profile a table of the kernels that took longest.

    python benchmarks/gpu/throughput.py --out results/gpu --cases mote:ViT-B-16:train mote:ViT-L-14:evaluate
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from vlbench.backbones import OpenCLIP
from vlbench.clips.batch import Box, ClipBatch, PackedVideos, ViewBatch
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.evaluation.evaluator import Evaluator
from vlbench.methods import MSTA, MoTE
from vlbench.tools.memory import estimate, prepare

CLASSES, FRAMES = 400, 8
# Clips at once in training, videos of one view in evaluation: what fits 80 GB with room to spare.
BATCHES = {
    ("mote", "ViT-B-16", "train"): 64,
    ("mote", "ViT-L-14", "train"): 18,
    ("msta", "ViT-B-16", "train"): 64,
    ("msta", "ViT-L-14", "train"): 32,
    ("mote", "ViT-B-16", "evaluate"): 64,
    ("mote", "ViT-L-14", "evaluate"): 32,
    ("msta", "ViT-B-16", "evaluate"): 64,
    ("msta", "ViT-L-14", "evaluate"): 32,
}
OPTIONS = {("mote", "ViT-L-14"): {"layers": 6, "backbone_lr_ratio": 0.06}}
METHODS = {"mote": MoTE, "msta": MSTA}


def build(method, backbone):
    torch.manual_seed(0)
    return METHODS[method](OpenCLIP(f"{backbone}-quickgelu"), **OPTIONS.get((method, backbone), {}))


def peak_rate(size=8192, repeats=20):
    """Floating-point operations a second of a bf16 product of random matrices, at its best of several rounds."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return max(repeats * 2 * size**3 / seconds_of(lambda: a @ b, repeats) for _ in range(3))


def seconds_of(function, repeats):
    """Seconds that calls of a function keep the GPU busy, together."""
    function()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def pixels(*shape):
    return torch.randint(0, 256, (*shape, 3, 224, 224), dtype=torch.uint8, device="cuda")


def training(model, batch_size):
    """A training step, in bf16 as `precision/bf16.yaml` has it."""
    optimizer = torch.optim.AdamW(model.parameter_groups(), fused=True)
    labels = torch.randint(CLASSES, (batch_size,), device="cuda")
    batch = ClipBatch(pixels(batch_size, FRAMES), labels, [str(index) for index in range(batch_size)], {})
    model.train()

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model.training_loss(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def evaluation(model, batch_size):
    """Scoring a batch of videos of one view."""
    names = tuple(f"class {index}" for index in range(CLASSES))
    ids = [str(index) for index in range(batch_size)]
    classes = ClassList(names, tuple(range(CLASSES)), names)
    model.eval()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        evaluator = Evaluator(model, [EvaluationSet(Subset(), classes, dict.fromkeys(ids, 0), "random pixels")])
    frames = pixels(batch_size, 1, FRAMES)
    size = frames.shape[-1]
    videos = PackedVideos(frames.flatten(), [(1, FRAMES, size, size, 3)] * batch_size)
    batch = ViewBatch(videos, [(Box(0, 0, size, size),)] * batch_size, ids, {}, at_once=batch_size)

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            evaluator.predict(batch)

    return step


def kernels(step, repeats=3):
    """Table of the kernels of some steps with the time that each took on the GPU, longest first."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
    return profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=100)


def measure(method, backbone, mode, *, compiled, repeats, peak, batch_size=None, profile=None):
    batch_size = batch_size or BATCHES[method, backbone, mode]
    model = build(method, backbone).cuda()
    prepare(model, CLASSES)
    torch.cuda.reset_peak_memory_stats()
    step = (training if mode == "train" else evaluation)(model, batch_size)
    with FlopCounterMode(display=False) as counter:
        step()
    needed = counter.get_total_flops()
    started = time.monotonic()
    if compiled:
        model.compile_blocks()
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    warm_up = time.monotonic() - started
    torch.cuda.reset_peak_memory_stats()
    times = [seconds_of(step, repeats) / repeats for _ in range(3)]
    memory = torch.cuda.max_memory_allocated()
    if profile is not None:
        profile.write_text(kernels(step))
    seconds = statistics.median(times)
    result = {
        "method": method, "backbone": backbone, "mode": mode, "precision": "bf16-mixed", "compile": compiled,
        "batch_size": batch_size, "frames": FRAMES, "classes": CLASSES, "seconds": seconds, "seconds_of_rounds": times,
        "clips_per_second": batch_size / seconds, "tflop": needed / 1e12, "peak_tflop_per_second": peak / 1e12,
        "mfu": needed / seconds / peak, "peak_memory_bytes": memory, "warm_up_seconds": warm_up,
        "gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
    }  # fmt: skip
    if mode == "train":
        with torch.device("meta"):
            unreal = METHODS[method](OpenCLIP(f"{backbone}-quickgelu"), **OPTIONS.get((method, backbone), {}))
        expected = estimate(unreal, frames=FRAMES, batch_size=batch_size, precision="bf16-mixed", classes=CLASSES)
        result["estimated_memory_bytes"] = expected.total
        result["estimate_of_peak"] = expected.total / memory
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cases = [":".join(case) for case in BATCHES]
    parser.add_argument("--cases", nargs="+", default=cases, metavar="METHOD:BACKBONE:MODE", choices=cases)
    parser.add_argument("--compile", nargs="+", default=["false", "true"], choices=["false", "true"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--profile", action="store_true", help="write a table of the kernels beside each JSON file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    peak = peak_rate()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16 peak {peak / 1e12:.0f} TFLOP/s", flush=True)
    print("| case | compile | batch | clips/s | MFU | peak memory, GiB | estimate / peak | warm-up, s |")
    print("|---|---|---|---|---|---|---|---|")
    for case in options.cases:
        for compiled in options.compile:
            torch.compiler.reset()
            method, backbone, mode = case.split(":")
            path = options.out / f"{method}-{backbone}-{mode}-{'compiled' if compiled == 'true' else 'eager'}.json"
            result = measure(
                method, backbone, mode, compiled=compiled == "true", repeats=options.repeats, peak=peak,
                batch_size=options.batch_size, profile=path.with_suffix(".txt") if options.profile else None,
            )  # fmt: skip
            path.write_text(json.dumps(result, indent=2))
            ratio = f"{result['estimate_of_peak']:.2f}" if "estimate_of_peak" in result else ""
            print(
                f"| {case} | {compiled} | {result['batch_size']} | {result['clips_per_second']:.0f} |"
                f" {result['mfu']:.1%} | {result['peak_memory_bytes'] / 2**30:.1f} | {ratio} |"
                f" {result['warm_up_seconds']:.0f} |",
                flush=True,
            )
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
