"""A training step of each parameter-efficient method on CLIP ViT-B/16 against the plain way of writing it.

The plain way is open_clip's own model with the method's modules in it, as released code has them: every block in full,
and the text tower, where it is adapted, on 77 tokens and from the first block in every step. Both have the same weights
and losses and run in turn in one process; printed are medians over the turns of CPU time, and the memory of the
activations that are saved for the backward pass, without the weights that are saved beside them.

    python benchmarks/peft.py --threads 1 --repeats 3

With `--side_by_side` vlbench's own steps of all parameter-efficient methods are beside each other, ST-Adapter and AIM
with the classes' texts, and nothing is compared with a plain way.

    python benchmarks/peft.py --threads 1 --repeats 3 --side_by_side --batch 1 --classes 51
"""

import argparse
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F
from msta_step import add_branch, compare, saved_mib
from plain import plain_clip
from torch import nn

from vlbench.backbones import OpenCLIP
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.descriptions import SHIPPED, read_descriptions
from vlbench.datasets.specs import ClassList
from vlbench.datasets.ucf101_names import WORDS
from vlbench.methods import AIM, MMA, MSTA, AdaptFormer, EfficientPrompt, LoRA, STAdapter, VLPrompting
from vlbench.methods.parts.mixing import Mixing
from vlbench.methods.parts.multimodal_adapter import scaled_branch

FRAMES = 8


def adaptformer(method, clip):
    """Class features once, and open_clip's blocks with an adapter beside their MLPs."""

    def forward(block, adapter, x, attn_mask=None):
        z = x + block.attention(q_x=block.ln_1(x), attn_mask=attn_mask)
        return z + block.mlp(block.ln_2(z)) + adapter(z)

    for block, own in zip(clip.visual.transformer.resblocks, method.backbone.image.blocks, strict=True):
        block.forward = partial(forward, block, own.adapter)
    return method.train_text


class SplitAttention(nn.Module):
    """Attention of four linear maps, some of which have low-rank terms."""

    def __init__(self, attention, terms):
        super().__init__()
        self.heads, self.terms = attention.num_heads, terms
        width = attention.embed_dim
        self.maps = nn.ModuleDict({part: nn.Linear(width, width) for part in "qkvo"}).requires_grad_(False)
        weights = dict(zip("qkv", attention.in_proj_weight.chunk(3), strict=True)) | {"o": attention.out_proj.weight}
        biases = dict(zip("qkv", attention.in_proj_bias.chunk(3), strict=True)) | {"o": attention.out_proj.bias}
        with torch.no_grad():
            for part, linear in self.maps.items():
                linear.weight.copy_(weights[part])
                linear.bias.copy_(biases[part])

    def forward(self, x, attn_mask):
        def of(part, y):
            out = self.maps[part](y)
            return self.terms[part].added(out, y) if part in self.terms else out

        q, k, v = (of(part, x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in "qkv")
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return of("o", mixed.transpose(1, 2).flatten(-2))


def lora(method, clip):
    """open_clip's blocks with an attention of four linear maps."""
    for tower, own in ((clip.visual.transformer, method.backbone.image), (clip.transformer, method.backbone.text)):
        for block, adapted in zip(tower.resblocks, own.blocks, strict=True):
            block.split = SplitAttention(block.attn, adapted.attention.terms())
            block.attention = lambda q_x, attn_mask=None, split=block.split, **_: split(q_x, attn_mask)
    return whole_texts(method, clip)


def mma(method, clip):
    """open_clip's blocks with branches beside them."""
    for side, tower in (("video", clip.visual.transformer), ("text", clip.transformer)):
        for adapter, block in zip(method.adapters, tower.resblocks[method.first_block - 1 :], strict=True):
            branch = partial(scaled_branch, getattr(adapter, side), scale=method.scale, norm=block.ln_1)
            add_branch(block, branch, FRAMES if side == "video" else 1)
    return whole_texts(method, clip)


def whole_texts(method, clip):
    """Class features on the whole context."""
    tokens = method.backbone.tokenize(method.texts(method.train_classes.names))
    padded = F.pad(tokens, (0, clip.context_length - tokens.shape[1]))
    return lambda: F.normalize(clip.encode_text(padded), dim=-1)


def efficient_prompt(method, clip):
    """Texts on the whole context, put together class by class in every step."""
    count = method.text_tokens
    tokens = method.backbone.tokenize(method.texts(method.train_classes.names))
    padded = F.pad(tokens, (0, clip.context_length - tokens.shape[1]))
    ends = padded.argmax(dim=-1).tolist()

    def features():
        x = clip.token_embedding(padded)
        rows = []
        for row, end in zip(x, ends, strict=True):
            parts = [row[:1], method.learned[:count], row[1 + count : end - count], method.learned[count : 2 * count]]
            rows.append(torch.cat([*parts, row[end:]]))
        x = torch.stack(rows) + clip.positional_embedding
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask))
        return F.normalize(x[range(len(ends)), ends] @ clip.text_projection, dim=-1)

    return features


PLAIN = {AdaptFormer: adaptformer, LoRA: lora, MMA: mma, EfficientPrompt: efficient_prompt}
"""The plain way of each method: puts its modules into open_clip's model and gives a function for class features."""


SIDE_BY_SIDE = {
    STAdapter: {"classifier": "text"},
    AIM: {"classifier": "text", "frames": FRAMES},
    AdaptFormer: {},
    LoRA: {},
    MMA: {},
    EfficientPrompt: {},
    VLPrompting: {"mixing": Mixing(mixup=0.0, cutmix=0.0, label_smoothing=0.0, mixed_clips=1)},
    MSTA: {},
}
"""Options of the methods that are beside each other, whose other options are the papers'."""


def build(kind, classes, **options):
    torch.manual_seed(0)
    method = kind(OpenCLIP("ViT-B-16-quickgelu"), **options).train()
    # Names of the length of UCF-101's: the longest prompt decides how many tokens are computed.
    names = tuple((WORDS * 4)[:classes])
    once = read_descriptions(SHIPPED / "ucf101", WORDS)
    method.train_classes = ClassList(names, tuple(label % len(WORDS) for label in range(classes)), WORDS, once)
    method.on_fit_start()
    return method


def step(method, features, batch):
    video = method.encode_video(method.backbone.normalize(batch.video))
    loss = F.cross_entropy(method.training_logits(video, features()), batch.labels)
    loss.backward()
    return loss.item()


def side_by_side(kinds, batch, classes, repeats):
    """Prints a row for each method: parameters that train, CPU time of a step and the memory that it saves."""
    print("| method | trainable parameters | step, CPU s | saved MiB |")
    print("|---|---|---|---|")
    for kind in kinds:
        method = build(kind, classes, **SIDE_BY_SIDE[kind])

        def own_step(method=method):
            method.zero_grad()
            method.training_loss(batch)["loss"].backward()

        memory, times = saved_mib(own_step, method), []
        for _ in range(repeats):
            start = time.process_time()
            own_step()
            times.append(time.process_time() - start)
        count = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        print(f"| {kind.name} | {count:,} | {statistics.median(times):.2f} | {memory:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--classes", type=int, default=101)
    parser.add_argument("--batch", type=int, default=2, help="clips")
    parser.add_argument("--methods", nargs="+", choices=[kind.name for kind in SIDE_BY_SIDE], help="all, by default")
    parser.add_argument("--side_by_side", action="store_true", help="vlbench's own steps of all methods")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.batch} clips of {FRAMES} frames, {options.classes} classes, {options.threads} threads")
    video = torch.randint(0, 256, (options.batch, FRAMES, 3, 224, 224), dtype=torch.uint8)
    batch = ClipBatch(video, torch.arange(options.batch), [str(k) for k in range(options.batch)], {})
    kinds = [kind for kind in SIDE_BY_SIDE if not options.methods or kind.name in options.methods]
    if options.side_by_side:
        side_by_side(kinds, batch, options.classes, options.repeats)
    else:
        beside_the_plain_way(kinds, batch, options.classes, options.repeats)


def beside_the_plain_way(kinds, batch, classes, repeats):
    """Prints a row for each method that has a plain way here."""
    print("| method | plain, CPU s | vlbench, CPU s | ratio | plain, saved MiB | vlbench, saved MiB | ratio |")
    print("|---|---|---|---|---|---|---|")
    for kind, plain in PLAIN.items():
        if kind not in kinds:
            continue
        ours, reference = build(kind, classes), build(kind, classes)
        clip = plain_clip(reference.backbone).train().requires_grad_(False)
        features = plain(reference, clip)
        reference.backbone.encode_frames = lambda clips, clip=clip: clip.encode_image(clips.flatten(0, 1)).unflatten(
            0, clips.shape[:2]
        )
        sides = [
            (reference, partial(step, reference, features, batch)),
            (ours, partial(step, ours, ours.train_text, batch)),
        ]
        memory = [saved_mib(side, clip, ours, reference) for _, side in sides]
        theirs, own, ratio = compare(sides, repeats)
        print(
            f"| {kind.name} | {theirs:.2f} | {own:.2f} | {ratio:.2f} | {memory[0]:.0f} | {memory[1]:.0f} "
            f"| {memory[0] / memory[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
