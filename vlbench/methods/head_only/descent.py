"""Gradient descent on a few tensors, in batches of features that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from vlbench.methods.head_only.features import TrainingFeatures

SMALLEST_EPS = 1e-8
"""Smallest `eps` of AdamW in a descent: with a smaller one, roots of the squares that are taken as 0 would count."""


def descend(
    optimizer: Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    training: TrainingFeatures,
    *,
    batch_size: int,
    seed: int,
    epochs: int | None = None,
    steps: int | None = None,
    shuffle: bool = True,
) -> list[float]:
    """Minimises a loss with a learning rate that falls to 0 along half a cosine, step by step.

    An epoch takes each video once, as its next pass shows it; the last batch of an epoch may be smaller.

    Args:
        optimizer: Optimizer of the tensors, with the peak learning rate.
        loss: Function from unit features `(B, D)` and labels `(B,)` to the scalar that is minimised.
        training: Features of the training videos.
        batch_size: Number B of videos of a step.
        seed: Seed of the order of the videos.
        epochs: Number of epochs; `steps` where it is `None`.
        steps: Number of steps, whatever the number of videos.
        shuffle: Whether every epoch has another order of the videos.

    Returns:
        The loss of every step.
    """
    generator = torch.Generator().manual_seed(seed)
    videos, passes = training.passes.shape[:2]
    units = torch.nn.functional.normalize(training.passes, dim=-1)
    per_epoch = -(-videos // batch_size)
    total = steps if epochs is None else epochs * per_epoch
    assert total is not None
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses, order = [], torch.arange(videos)
    with _without_denormals():
        for step in range(total):
            epoch, within = divmod(step, per_epoch)
            if within == 0 and shuffle:
                order = torch.randperm(videos, generator=generator)
            rows = order[within * batch_size : (within + 1) * batch_size].to(units.device)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * (1 + math.cos(math.pi * step / total)) / 2
            value = loss(units[rows, epoch % passes], training.labels[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.detach())
    return torch.stack(losses).tolist() if losses else []


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Takes numbers below 1.2e-38 as 0: squares of small gradients, which x86 computes up to a hundred times slower.

    Beside weights, and beside an `eps` of `SMALLEST_EPS` in AdamW, they are below the last bit.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Part of the rows `(M, C)` of logits whose largest is that of the label `(M,)`, in [0, 1]."""
    return float((logits.argmax(dim=-1) == labels).double().mean())


def first_best(values: Sequence[float]) -> int:
    """Position of the largest value, the first of equals."""
    return max(range(len(values)), key=values.__getitem__)
