"""Pre-trains the tiny CLIP on rendered frames: `python -m vlbench.synthetic.pretrain`.

The defaults are the recipe of the shipped weights; it takes about ten minutes on two cores. The contrastive
loss alone leaves the text tower blind to the direction of a motion, so two auxiliary losses help: a linear
head has to tell the motion from the caption, another one colour and shape from the image.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from safetensors.torch import save_file
from torch import Tensor, nn

from vlbench.synthetic.classes import COLOURS, MOTIONS, PARTNERS, SHAPES, SyntheticClass
from vlbench.synthetic.frames import OBJECTS, FrameSet, render_frames
from vlbench.synthetic.tiny_clip import register, tokenizer, weights_path

_log = logging.getLogger(__name__)

_PROJECTION_SCALE = 0.12
"""Factor on the image tower's final projection.

It leaves every cosine as it is. Without it raw frame features have a standard deviation near 1.5, which drowns
the position embeddings (0.02) of a temporal transformer that a method puts on top.
"""
_HEAD_GAIN = 10.0  # unit-norm features of width 128 have entries near 0.09; a linear head learns slowly from those
_HELD_OUT_SEED = 777
_HELD_OUT_FRAMES = 1536


def pretrain(
    *,
    out: Path | None = None,
    steps: int = 1500,
    batch_size: int = 128,
    frames: int = 60_032,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    auxiliary: float = 0.5,
    seed: int = 1,
    workers: int | None = None,
) -> dict[str, float]:
    """Trains the model and writes its weights, with a JSON of the recipe and the measured quality beside them.

    Args:
        out: Safetensors file to write; the package's own asset if left out.
        steps: Number of optimizer steps.
        batch_size: Frames a step; objects are balanced where it is a multiple of 64.
        frames: Size of the training set.
        lr: Peak learning rate, after a linear warm-up of 50 steps and before a cosine decay to 0.
        weight_decay: Weight decay of matrices; vectors have none.
        auxiliary: Weight of the motion loss and of the colour-and-shape loss.
        seed: Seed of frames, initialisation and order.
        workers: Processes that render; one a core if left out.

    Returns:
        The metrics of `evaluate`, of the weights as saved.
    """
    recipe = {name: value for name, value in locals().items() if name not in ("out", "workers")}
    out = out or weights_path()
    start = time.monotonic()
    data = render_frames(frames, seed=1234 + seed, workers=workers)
    _log.info("rendered %d frames in %.0f s", len(data.captions), time.monotonic() - start)
    torch.manual_seed(seed)
    model = open_clip.create_model(register())
    _train(model, data, steps=steps, batch_size=batch_size, lr=lr, weight_decay=weight_decay, auxiliary=auxiliary)
    with torch.no_grad():
        model.visual.proj *= _PROJECTION_SCALE

    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}, out)
    metrics = evaluate(open_clip.create_model(register(), pretrained=str(out)), workers=workers)
    packages = ("torch", "open_clip_torch", "torchvision", "numpy")
    record = {
        "recipe": {**recipe, "projection_scale": _PROJECTION_SCALE},
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
        "seconds": round(time.monotonic() - start),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
    out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    return metrics


def normalise(images: Tensor) -> Tensor:
    """Turns uint8 (N, 3, H, W) images into the float32 input of the image tower, with CLIP's mean and deviation."""
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return (images.float() / 255 - mean) / std


def _train(
    model: Any, data: FrameSet, *, steps: int, batch_size: int, lr: float, weight_decay: float, auxiliary: float
) -> None:
    width = model.visual.output_dim
    object_head, motion_head = nn.Linear(width, len(COLOURS) + len(SHAPES)), nn.Linear(width, len(MOTIONS))
    parameters = [p for module in (model, object_head, motion_head) for p in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    tokens = tokenizer()(data.captions)
    things = torch.arange(batch_size) % len(OBJECTS)
    pairs = torch.arange(batch_size)
    start = time.monotonic()
    model.train()
    for step in range(steps):
        rows = torch.randint(len(tokens) // len(OBJECTS), (batch_size,)) * len(OBJECTS) + things
        images = normalise(data.images[rows])
        images = images * (1 + 0.1 * torch.randn(batch_size, 1, 1, 1)) + 0.1 * torch.randn(batch_size, 3, 1, 1)
        image, text, scale = model(images, tokens[rows])
        logits = scale * image @ text.T
        contrast = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2

        colour, shape = object_head(_HEAD_GAIN * image).tensor_split([len(COLOURS)], dim=1)
        looks = F.cross_entropy(colour, things // len(SHAPES)) + F.cross_entropy(shape, things % len(SHAPES))
        # A sum over a clamped count: a tiny batch may hold no caption that names a motion.
        motions = data.motions[rows]
        named = (motions >= 0).sum().clamp(min=1)
        moves = F.cross_entropy(motion_head(_HEAD_GAIN * text), motions, ignore_index=-1, reduction="sum") / named

        optimizer.zero_grad()
        torch.autograd.backward(contrast + auxiliary * (looks + moves))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if (step + 1) % 50 == 0 or step + 1 == steps:
            losses = contrast.item(), looks.item(), moves.item(), time.monotonic() - start
            _log.info("step %d: contrast %.3f, looks %.3f, motion %.3f, %.0f s", step + 1, *losses)


@torch.no_grad()
def evaluate(model: Any, *, workers: int | None = None) -> dict[str, float]:
    """Measures a model on held-out frames and on the class texts.

    Returns:
        `object_accuracy`: zero-shot accuracy over the 64 objects, 0 to 1; and for every pair of motions that
        are each other's reversal `cosine/<forward>-<backward>`: of their mean class texts, -1 to 1. A cosine
        near 1 means that the text tower does not tell the two apart.
    """
    model.eval()
    encode = tokenizer()

    def text_features(texts: list[str]) -> Tensor:
        return F.normalize(model.encode_text(encode(texts)), dim=-1)

    held_out = render_frames(_HELD_OUT_FRAMES, seed=_HELD_OUT_SEED, workers=workers)
    frames = torch.cat([model.encode_image(normalise(part)) for part in held_out.images.chunk(6)])
    objects = text_features([f"a photo of a {colour} {shape}." for colour, shape in OBJECTS])
    correct = (frames @ objects.T).argmax(1) == torch.arange(len(frames)) % len(OBJECTS)
    metrics = {"object_accuracy": correct.float().mean().item()}

    mean = {
        motion: text_features([f"a video of {SyntheticClass(*thing, motion).name}." for thing in OBJECTS]).mean(0)
        for motion in PARTNERS
    }
    for forward, backward in list(PARTNERS.items())[: len(PARTNERS) // 2]:
        metrics[f"cosine/{forward}-{backward}"] = F.cosine_similarity(mean[forward], mean[backward], dim=0).item()
    return metrics


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _log.info("%s", auto_cli(pretrain, as_positional=False))
