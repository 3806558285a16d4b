"""Single frames with captions, as the tiny CLIP sees them during pre-training.

Frames are drawn at the clips' size and then shrunk like a test video, so that pre-training and evaluation see
the same blur. Every object comes equally often.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from vlbench.synthetic.captions import View, caption
from vlbench.synthetic.classes import COLOURS, MOTIONS, SHAPES, SyntheticClass
from vlbench.synthetic.render import FRAMES, sample_scene
from vlbench.synthetic.tiny_clip import IMAGE_SIZE

OBJECTS: tuple[tuple[str, str], ...] = tuple(product(COLOURS, SHAPES))
"""All 64 pairs of a colour and a shape; frame i of a `FrameSet` shows object i modulo 64."""

RADIUS = (0.15, 0.34)  # wider than the clips', since a grown object is larger than any that stands still
_VISIBLE = 0.12  # opacity below which a frame is drawn anew: it shows nothing that a caption could be about


@dataclass(frozen=True)
class FrameSet:
    """Frames and their captions.

    Attributes:
        images: RGB frames, uint8 `(N, 3, 32, 32)`.
        captions: Captions of the N frames.
        motions: Index into `MOTIONS` where the caption names the motion, else -1; int64 `(N,)`.
    """

    images: Tensor
    captions: list[str]
    motions: Tensor


def render_frames(count: int, *, seed: int, workers: int | None = None) -> FrameSet:
    """Renders frames in parallel; what they show depends on the seed alone.

    Args:
        count: Number of frames, rounded up to a multiple of 64.
        seed: Seed of the draw.
        workers: Processes; `None` for one a core, 1 for none besides this one.
    """
    blocks = range(-(-count // len(OBJECTS)))
    if workers == 1:
        parts = [_block(seed, block) for block in blocks]
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(partial(_block, seed), blocks, chunksize=8))
    return FrameSet(
        torch.cat([images for images, _, _ in parts]),
        [text for _, texts, _ in parts for text in texts],
        torch.tensor([motion for _, _, motions in parts for motion in motions]),
    )


def _block(seed: int, block: int) -> tuple[Tensor, list[str], list[int]]:
    """One frame of every object."""
    rng = np.random.default_rng([seed, block])
    keys = list(MOTIONS)
    images, texts, motions = [], [], []
    for colour, shape in OBJECTS:
        image, cls, view = _visible_frame(rng, colour, shape, keys)
        text, moving = caption(rng, cls, view)
        images.append(image)
        texts.append(text)
        motions.append(keys.index(cls.motion) if moving else -1)
    full = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    small = transforms.resize(
        full, [IMAGE_SIZE, IMAGE_SIZE], interpolation=transforms.InterpolationMode.BICUBIC, antialias=True
    )
    return small.contiguous(), texts, motions


def _visible_frame(
    rng: np.random.Generator, colour: str, shape: str, keys: list[str]
) -> tuple[NDArray[np.uint8], SyntheticClass, View]:
    while True:
        motion = keys[rng.integers(len(keys))]
        at = int(rng.integers(FRAMES))
        scene = sample_scene(rng, colour=colour, shape=shape, motion=motion, radius=RADIUS)
        if scene.course.opacity[at] >= _VISIBLE:
            seen = scene.course.x, scene.course.y, scene.object.radius, scene.course.opacity
            view = View(*(float(values[at]) for values in seen))
            return scene.draw(rng, [at])[0], SyntheticClass(colour, shape, motion), view
