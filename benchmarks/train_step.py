"""A training step of MoTE on ViT-B/16, 8 frames, against a plain restatement of the released recipe.

The released code recomputes every block of the image tower in the backward pass and casts LayerNorms to float32 and
back, and so does the restatement; the rest of it is open_clip's image tower, the head and the losses of vlbench and
AdamW by torch's default implementation. Both steps have the same weights, data, draws and losses; they run in turn in
one process, each followed by a square product, and all ratios are taken within a turn: the speed of a shared machine
drifts by tens of per cent. Printed are the medians over the turns: CPU times, the ratio, and which part of the
machine's own matrix-multiplication rate our step reaches, by the arithmetic that the step needs (forward and backward
once; counted by torch).

    python benchmarks/train_step.py --threads 2 --repeats 5
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from plain import plain_clip
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vlbench.backbones import OpenCLIP
from vlbench.methods import MoTE


class CastingLayerNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.float()).type(x.dtype)


def as_released(method):
    """The image tower by the released recipe; the arithmetic is the same."""
    visual = plain_clip(method.backbone).visual.train()
    for block in visual.transformer.resblocks:
        for name in ("ln_1", "ln_2"):
            norm = CastingLayerNorm(getattr(block, name).normalized_shape)
            norm.load_state_dict(getattr(block, name).state_dict())
            setattr(block, name, norm)
    visual.set_grad_checkpointing(True)
    method.backbone.clip.visual = visual
    method.backbone.encode_frames = lambda clips: visual(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
    return method


def build(threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    method = MoTE(OpenCLIP("ViT-B-16-quickgelu")).train()
    method.train_class_features = F.normalize(torch.randn(400, method.backbone.embed_dim), dim=-1)
    return method


def step(method, optimizer, video, labels, dtype):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        generator = torch.Generator().manual_seed(0)
        frames = method.backbone.encode_frames(method.backbone.normalize(video))
        experts, merges = method.head.draw_experts(generator), method.head.draw_merges(generator)
        loss = method.losses(frames, labels, experts, merges)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def matmul_rate(dtype, size=2048, repeats=20):
    """Floating-point operations a CPU second of a square product, over some seconds like a step."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    a @ b
    start = time.process_time()
    for _ in range(repeats):
        a @ b
    return repeats * 2 * size**3 / (time.process_time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="clips")
    options = parser.parse_args()
    methods = {"vlbench": build(options.threads), "released": as_released(build(options.threads))}
    # vlbench asks for the fused implementation of AdamW.
    optimizers = {
        name: torch.optim.AdamW(method.parameter_groups(), fused=True if name == "vlbench" else None)
        for name, method in methods.items()
    }
    for group in (group for optimizer in optimizers.values() for group in optimizer.param_groups):
        group["lr"] = 0.0  # the work of an update without its effect: every step computes the same loss
    video = torch.randint(0, 256, (options.batch, 8, 3, 224, 224), dtype=torch.uint8)
    labels = torch.randint(400, (options.batch,))

    counter = FlopCounterMode(display=False)
    with counter:
        step(methods["vlbench"], optimizers["vlbench"], video, labels, torch.float32)
    needed = counter.get_total_flops()
    print(f"ViT-B/16, 8 frames, batch {options.batch}, {options.threads} threads: {needed / 1e9:.0f} GFLOP a step")
    print("| precision | released, CPU s | vlbench, CPU s | ratio | matmul GFLOP/s | part of it |")
    print("|---|---|---|---|---|---|")
    # Without bfloat16 arithmetic in the processor a step takes many minutes and says nothing.
    fast_bfloat16 = any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_bf16", "amx_bf16"))
    for dtype in (torch.float32, torch.bfloat16) if fast_bfloat16 else (torch.float32,):
        turns = []
        for repeat in range(options.repeats + 1):
            times, losses, rates = {}, {}, [matmul_rate(dtype)]
            for name, method in methods.items():
                start = time.process_time()
                losses[name] = step(method, optimizers[name], video, labels, dtype)
                times[name] = time.process_time() - start
                rates.append(matmul_rate(dtype))
            tolerance = 1e-4 if dtype == torch.float32 else 0.05
            assert abs(losses["vlbench"] - losses["released"]) < tolerance * abs(losses["released"]), losses
            if repeat:  # the first turn warms up
                released, ours = times["released"], times["vlbench"]
                rate = (rates[0] + rates[1]) / 2  # before and after our step, which comes first
                turns.append((released, ours, released / ours, rate / 1e9, needed / ours / rate))
        released, ours, ratio, rate, part = (statistics.median(column) for column in zip(*turns, strict=True))
        label = str(dtype).removeprefix("torch.")
        print(f"| {label} | {released:.2f} | {ours:.2f} | {ratio:.2f} | {rate:.0f} | {part:.0%} |", flush=True)
    if not fast_bfloat16:
        print("bfloat16 left out: this processor has no arithmetic for it")


if __name__ == "__main__":
    main()
