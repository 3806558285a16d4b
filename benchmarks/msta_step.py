"""A training step of MSTA on CLIP ViT-B/16, adapters in blocks 8-12, against the naive step.

The naive step runs the frozen text tower on 77 tokens and every block in full, in every step, as a method written on
top of open_clip does. Both have the same adapters, weights and losses and run in turn in one process; printed are
medians over the turns, and the memory of the activations that are saved for the backward pass, without the weights that
are saved beside them. The paper's batch is 32: a clip takes 0.3 GiB in the naive step, so that it is an option.

    python benchmarks/msta_step.py --threads 2 --repeats 3 --batch 2 32
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from plain import plain_clip

from vlbench.backbones import OpenCLIP
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.descriptions import SHIPPED, read_descriptions
from vlbench.datasets.specs import ClassList
from vlbench.datasets.ucf101_names import WORDS
from vlbench.methods import MSTA

FRAMES = 8


def build(classes, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    method = MSTA(OpenCLIP("ViT-B-16-quickgelu")).train()
    # Names of the length of UCF-101's: the longest prompt decides how many tokens are computed.
    names = tuple((WORDS * 4)[:classes])
    once = read_descriptions(SHIPPED / "ucf101", WORDS)
    method.train_classes = ClassList(names, tuple(label % len(WORDS) for label in range(classes)), WORDS, once)
    method.on_fit_start()
    return method


def naive(method):
    """Puts the method on open_clip's own model; gives a function for its class features, on the whole context, and the
    model."""
    clip = plain_clip(method.backbone).train().requires_grad_(False)
    first, frames = -len(method.adapters), {"video": FRAMES, "text": 1}
    for side, tower in (("video", clip.visual.transformer), ("text", clip.transformer)):
        for block, adapter in zip(tower.resblocks[first:], method.adapters, strict=True):
            add_branch(block, partial(method._branch, getattr(adapter, side), block.ln_1), frames[side])
    tokens = method.backbone.tokenize([f"a video of {name}" for name in method.train_classes.names])
    padded = F.pad(tokens, (0, clip.context_length - tokens.shape[1]))
    method.backbone.encode_frames = lambda clips: clip.encode_image(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
    return lambda: F.normalize(clip.encode_text(padded), dim=-1), clip


def add_branch(block, branch, frames):
    """Adds `branch(x)` to the output of a block of open_clip, x being its input `(B·T, N, D)` as `(B, T, N, D)`."""

    def hook(_, inputs, output):
        return output + branch(inputs[0].unflatten(0, (-1, frames))).flatten(0, 1)

    block.register_forward_hook(hook)


def text_side(method, features, video):
    """Class features, and the losses' gradients of the text adapters, for fixed video features."""
    text = features()
    labels = torch.arange(len(video)) % len(text)
    loss = F.cross_entropy(100 * video @ text.T, labels) + method.consistency_loss(text)
    loss.backward()
    return loss.item()


def whole_step(method, features, batch):
    text = features()
    video = method.encode_video(method.backbone.normalize(batch.video))
    loss = F.cross_entropy(100 * video @ text.T, batch.labels) + method.consistency_loss(text)
    loss.backward()
    return loss.item()


def saved_mib(function, *modules):
    """MiB of tensors that autograd saves, without the weights of the modules and views of these."""
    weights = {weight.untyped_storage().data_ptr() for module in modules for weight in module.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept alive: an address must not be used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(size for size, _ in storages.values()) / 2**20


def compare(pairs, repeats):
    """Medians over the turns of the CPU seconds of each function, and of their ratio first / second."""
    turns = []
    for turn in range(repeats + 1):
        times, losses = [], []
        for method, function in pairs:
            method.zero_grad()
            start = time.process_time()
            losses.append(function())
            times.append(time.process_time() - start)
        assert abs(losses[0] - losses[1]) < 1e-4 * abs(losses[0]), losses
        if turn or repeats == 1:  # the first turn warms up, where there is time for it
            turns.append((*times, times[0] / times[1]))
        if repeats == 1:
            break
    return [statistics.median(column) for column in zip(*turns, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--classes", type=int, nargs="+", default=[51, 101, 400])
    parser.add_argument("--batch", type=int, nargs="+", default=[2], help="clips of whole steps, at most 101")
    options = parser.parse_args()

    print("| step | naive, CPU s | vlbench, CPU s | ratio | naive, saved MiB | vlbench, saved MiB | ratio |")
    print("|---|---|---|---|---|---|---|")

    def report(label, ours, reference, function, repeats, *arguments):
        prompts, (whole_texts, clip) = ours.backbone.text, naive(reference)
        sides = [
            (reference, lambda: function(reference, whole_texts, *arguments)),
            (ours, lambda: function(ours, lambda: F.normalize(prompts.finish(ours._prompts), dim=-1), *arguments)),
        ]
        memory = [saved_mib(side, clip, ours, reference) for _, side in sides]
        theirs, own, ratio = compare(sides, repeats)
        print(
            f"| {label} | {theirs:.2f} | {own:.2f} | {ratio:.1f} | {memory[0]:.0f} | {memory[1]:.0f} "
            f"| {memory[0] / memory[1]:.1f} |",
            flush=True,
        )

    for classes in options.classes:
        ours, reference = (build(classes, options.threads) for _ in range(2))
        video = F.normalize(torch.randn(2, ours.backbone.embed_dim), dim=-1)
        repeats = options.repeats if classes <= 101 else 1
        report(f"text side, {classes} classes", ours, reference, text_side, repeats, video)
        if classes == 101:
            for size in options.batch:
                clips = torch.randint(0, 256, (size, FRAMES, 3, 224, 224), dtype=torch.uint8)
                batch = ClipBatch(clips, torch.arange(size), [str(k) for k in range(size)], {})
                repeats = options.repeats if size <= 2 else 1
                pair = [build(classes, options.threads) for _ in range(2)]
                report(f"whole step, batch {size}, {classes} classes", *pair, whole_step, repeats, batch)

    # Without bfloat16 arithmetic in the processor a forward pass takes many minutes and says nothing.
    if not any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_bf16", "amx_bf16")):
        print("bfloat16 left out: this processor has no arithmetic for it")
        return
    method = build(51, options.threads)
    clips = method.backbone.normalize(torch.randint(0, 256, (1, FRAMES, 3, 224, 224), dtype=torch.uint8))

    def forward(dtype):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            method.backbone.encode_frames(clips)
        return 1.0

    times = compare([(method, lambda d=d: forward(d)) for d in (torch.float32, torch.bfloat16)], options.repeats)
    print("frozen forward, 8 frames: float32 {:.2f} CPU s, bfloat16 {:.2f}, ratio {:.2f}".format(*times))


if __name__ == "__main__":
    main()
