"""The forward passes of every kind of backbone against open_clip's own, at the sizes that were released.

Both sides have the same parameters and the same input, frames of noise and texts of ten tokens, and run in turn in one
process without a graph; printed are medians over the turns of the CPU times and of their ratio. Towers with roles are
compared with the blocks of open_clip and timm. A model that is kept whole is computed by itself on both sides.

    python benchmarks/backbones.py --threads 2 --repeats 5 --models PE-Core-L-14-336
"""

import argparse
import statistics
import time

import torch

from vlbench.backbones.openclip import CLIPEncoder, create_clip

MODELS = [
    "ViT-B-16-quickgelu", "ViT-B-16-SigLIP2", "PE-Core-B-16", "EVA02-B-16", "MobileCLIP2-B", "ViTamin-B",
    "vit_medium_patch16_gap_256", "RN50", "convnext_base",
]  # fmt: skip
LENGTH = 10


def ids(clip, count):
    """Token ids of texts of `LENGTH` tokens, padded with 0 up to the context; the last one has the highest id."""
    text = getattr(clip, "text", clip)
    tokens = torch.zeros(count, text.context_length, dtype=torch.int64)
    tokens[:, :LENGTH] = torch.randint(1, text.vocab_size - 1, (count, LENGTH))
    tokens[:, LENGTH - 1] = text.vocab_size - 1
    return tokens


def compare(ours, theirs, repeats):
    """Medians over the turns of the CPU seconds of each function, and of their ratio theirs / ours."""
    turns = []
    for turn in range(repeats + 1):
        times, results = {}, {}
        sides = [("ours", ours), ("theirs", theirs)]
        for name, function in sides if turn % 2 else reversed(sides):
            start = time.process_time()
            results[name] = function()
            times[name] = time.process_time() - start
        difference = (results["ours"] - results["theirs"]).abs().max() / results["theirs"].abs().max()
        assert difference < 1e-4, difference
        if turn:  # the first turn warms up
            turns.append((times["theirs"], times["ours"], times["theirs"] / times["ours"]))
    return [statistics.median(column) for column in zip(*turns, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--sides", nargs="+", default=["image", "text"], choices=["image", "text"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| model | towers | side | open_clip, CPU s | vlbench, CPU s | ratio |")
    print("|---|---|---|---|---|---|")
    for model in options.models:
        report(model, options)


def report(model, options):
    torch.manual_seed(0)
    clip = create_clip(model, None).eval()
    backbone = CLIPEncoder(clip, None, name=model, pretrained=None).eval()
    kind = "roles" if backbone.without_roles is None else "whole"
    frames = torch.randn(1, options.frames, 3, backbone.image_size, backbone.image_size)
    tokens = ids(clip, options.texts)
    # As `tokenize` cuts them: behind the end where the padding is not computed.
    cut = tokens[:, :LENGTH] if backbone.capabilities.causal_text else tokens
    sides = {
        "image": (lambda: backbone.encode_frames(frames)[0], lambda: clip.encode_image(frames[0])),
        "text": (lambda: backbone.texts.encode(cut), lambda: clip.encode_text(tokens)),
    }
    for side in options.sides:
        with torch.no_grad():
            other, mine, ratio = compare(*sides[side], options.repeats)
        print(f"| {model} | {kind} | {side} | {other:.2f} | {mine:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
