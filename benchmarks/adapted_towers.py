"""A training step of each parameter-efficient method on CLIP ViT-B/16 against the plain way of writing it.

The plain way is open_clip's own blocks with the method's adapters between their parts, written as the papers' equations
read and as released code has them. Both sides have the same weights, clips and losses and run in turn in one process;
printed are medians over the turns, forward and backward, and the memory of the activations that are saved for the
backward pass, without the weights that are saved beside them. A method is a function below that gives the rows of its
table; another one is another function with a name in METHODS.

    python benchmarks/adapted_towers.py --threads 1 --repeats 3 --methods st_adapter
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from msta_step import compare, saved_mib
from plain import plain_block
from torch import Tensor, nn

from vlbench.backbones import OpenCLIP
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList
from vlbench.methods import AIM, STAdapter

CLASSES = 101


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        label: What the row is about.
        method: Our method, at the start of a training.
        features: The plain way from normalised clips `(B, T, 3, H, W)` to what the method's `score` takes.
        modules: Modules of the plain way.
        step: Called with the method, or with the plain way, and a batch; gives the loss. `None` takes a whole step.
    """

    label: str
    method: Any
    features: Callable[[Tensor], Tensor]
    modules: nn.Module
    step: Callable[..., Tensor] | None = None


def begun(method):
    """A method at the start of a training, without dropout and with other weights than zeros in its adapters."""
    names = tuple(f"class {label}" for label in range(CLASSES))
    method.train_classes = ClassList(names, tuple(range(CLASSES)), names)
    method.on_fit_start()
    method.head.dropout = nn.Identity()
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.01)
    return method.train()


def plain_blocks(method):
    """open_clip's own blocks with the weights of the image tower, frozen."""
    return nn.ModuleList(plain_block(block) for block in method.backbone.image.blocks).requires_grad_(False).train()


def st_adapter(model: str) -> Iterator[Row]:
    """Patches as `(B, C, T, h, w)` for a convolution, and the class token by itself."""
    for label, options in (
        ("12 x 384", {}), ("24 x 384", {"before_attention": True}), ("last 4 blocks", {"blocks": 4}),
    ):  # fmt: skip
        method = begun(STAdapter(OpenCLIP(model), **options))
        blocks, visual = plain_blocks(method), method.backbone.visual
        first = len(blocks) - len(method.adapters)

        def adapted(adapter, x, frames):
            patches = x[:, 1:]
            side = round(patches.shape[1] ** 0.5)
            z = adapter.fc1(patches).unflatten(1, (side, side)).unflatten(0, (-1, frames)).permute(0, 4, 1, 2, 3)
            z = adapter.conv(z.contiguous()).permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)
            return torch.cat([x[:, :1], patches + adapter.fc2(z)], dim=1)

        def features(clips, blocks=blocks, visual=visual, method=method, first=first, adapted=adapted):
            frames = clips.shape[1]
            x = visual.embed(clips.flatten(0, 1))
            for index, block in enumerate(blocks):
                adapters = method.adapters[index - first] if index >= first else None
                if adapters is not None and adapters.before_attention is not None:
                    x = adapted(adapters.before_attention, x, frames)
                x = x + block.attention(block.ln_1(x))
                if adapters is not None:
                    x = adapted(adapters.before_mlp, x, frames)
                x = x + block.mlp(block.ln_2(x))
            return visual.ln_post(x[:, 0].unflatten(0, (-1, frames)).mean(dim=1))

        yield Row(f"ST-Adapter, {label}", method, features, blocks)


def aim(model: str, frames: int = 8) -> Iterator[Row]:
    """Attention as open_clip's blocks have it, over reordered tokens and over those of a frame."""
    for label, options in (("3 adapters a block", {}), ("4 adapters a block", {"adapter_before_time": True})):
        method = begun(AIM(OpenCLIP(model), frames=frames, drop_path=0.0, **options))
        blocks, visual = plain_blocks(method), method.backbone.visual

        def features(clips, blocks=blocks, visual=visual, method=method):
            batch, frames = clips.shape[:2]
            x = visual.embed(clips.flatten(0, 1), method.positions.repeat(batch, 1).unsqueeze(1))
            for block, adapters in zip(blocks, method.adapters, strict=True):
                length = x.shape[1]
                y = block.ln_1(x.unflatten(0, (batch, frames)).transpose(1, 2).flatten(0, 1))
                if adapters.before_time is not None:
                    y = y + adapters.before_time(y)
                y = adapters.time(block.attention(y))
                x = x + y.unflatten(0, (batch, length)).transpose(1, 2).flatten(0, 1)
                u = block.attention(block.ln_1(x))
                x = x + u + adapters.space(u)
                y = block.ln_2(x)
                x = x + block.mlp(y) + adapters.scale * adapters.joint(y)
            return visual.ln_post(x)[:, 0].unflatten(0, (batch, frames)).mean(dim=1)

        yield Row(f"AIM, {label}", method, features, blocks)
    yield from attention_over_time(model, frames)


def attention_over_time(model: str, frames: int) -> Iterator[Row]:
    """What AIM's first block adds over time, one call for all positions, against one call for each of them."""
    method = begun(AIM(OpenCLIP(model), frames=frames, drop_path=0.0))
    blocks = plain_blocks(method)[:1]
    (adapters, *_), (own, *_) = method.adapters, method.backbone.image.blocks

    def position_by_position(tokens):
        y = blocks[0].ln_1(tokens).unflatten(0, (-1, frames))
        parts = [adapters.time(blocks[0].attention(y[:, :, position])) for position in range(y.shape[2])]
        return torch.stack(parts, dim=2).flatten(0, 1)

    def step(method_or_plain, batch):
        clips = method.backbone.normalize(batch.video)
        tokens = method.backbone.visual.embed(clips.flatten(0, 1), method.positions.repeat(len(clips), 1).unsqueeze(1))
        plain = method_or_plain is not method
        return (position_by_position(tokens) if plain else own._over_time(own.norm1(tokens), frames)).square().mean()

    yield Row("AIM, attention over time in one block", method, position_by_position, blocks, step)


METHODS: dict[str, Callable[[str], Iterator[Row]]] = {"st_adapter": st_adapter, "aim": aim}
"""Rows of each method, by its name; called with the name of a backbone of open_clip."""


def sides(row: Row, batch: ClipBatch):
    """Our step and the plain one, each with what its gradients are taken of."""

    def plain_step():
        if row.step is not None:
            loss = row.step(row.features, batch)
        else:
            video = row.features(row.method.backbone.normalize(batch.video))
            loss = F.cross_entropy(row.method.score(video, None), batch.labels)
        loss.backward()
        return loss.item()

    def own_step():
        loss = row.step(row.method, batch) if row.step is not None else row.method.training_loss(batch)["loss"]
        loss.backward()
        return loss.item()

    return [(row.method, plain_step), (row.method, own_step)]


def gradients(row: Row, step: Callable[[], float]) -> dict[str, Tensor]:
    row.method.zero_grad()
    step()
    return {name: value.grad.clone() for name, value in row.method.named_parameters() if value.grad is not None}


def check_gradients(row: Row, both) -> None:
    """Both ways have the same gradients; a plain zero may be none at all in ours."""
    plain, own = (gradients(row, step) for _, step in both)
    for name, value in plain.items():
        error = (value - own.get(name, torch.zeros_like(value))).norm() / value.norm().clamp(min=1e-12)
        assert error < 1e-3 or value.norm() < 1e-9, (row.label, name, error)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1, help="clips of 8 frames")
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{options.model}, {options.batch} clips of 8 frames, {options.threads} threads")
    print("| step | plain, CPU s | vlbench, CPU s | ratio | plain, saved MiB | vlbench, saved MiB | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in options.methods:
        for row in METHODS[name](options.model):
            size = row.method.backbone.image_size
            video = torch.randint(0, 256, (options.batch, 8, 3, size, size), dtype=torch.uint8)
            batch = ClipBatch(video, torch.arange(options.batch), [str(k) for k in range(options.batch)], {})
            both = sides(row, batch)
            check_gradients(row, both)
            plain, own = (saved_mib(step, row.method, row.modules) for _, step in both)
            theirs, ours, ratio = compare(both, options.repeats)
            print(
                f"| {row.label} | {theirs:.2f} | {ours:.2f} | {ratio:.2f} | {plain:.0f} | {own:.0f} "
                f"| {plain / own:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
