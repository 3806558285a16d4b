"""Entropic optimal transport between the frames of videos and the descriptors of classes, by Sinkhorn's rounds."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Stop = Literal["video", "batch"]
"""What the change that ends the rounds is a mean over: the classes of each `video` by itself, or the whole `batch`."""

_EPSILON = 0.1
_ROUNDS = 100
_THRESHOLD = 0.01


@torch.no_grad()
def transport_plans(similarities: Tensor, stop: Stop = "video") -> Tensor:
    """Plans `P = diag(r) K diag(c)` with uniform marginals, K being `exp((similarity - 1) / 0.1)`, without a graph.

    A round is `r = (1 / T) / (K c)` and then `c = (1 / N) / (Kᵀ r)`, from ones. There are at most 100; the one in which
    r changes by less than 0.01 in the mean is the last.

    Args:
        similarities: Cosines `(B, C, T, N)` of frames and descriptors, for each video and each class.
        stop: What the change of r is a mean over, beside its T entries.

    Returns:
        Plans of the shape of the similarities, which add up to about 1 each.

    Example:
        >>> transport_plans(torch.eye(2)[None, None]).round(decimals=2)
        tensor([[[[0.5000, 0.0000],
                  [0.0000, 0.5000]]]])
    """
    kernel = ((similarities - 1) / _EPSILON).exp()
    frames, descriptors = kernel.shape[-2:]
    r, c = torch.ones_like(kernel[..., 0]), torch.ones_like(kernel[..., 0, :])
    over = (1, 2) if stop == "video" else (0, 1, 2)
    running = torch.ones_like(r[:, :1, :1], dtype=torch.bool)
    for _ in range(_ROUNDS):
        before = r
        new_r = (1 / frames) / (kernel @ c[..., None])[..., 0]
        new_c = (1 / descriptors) / (new_r[..., None, :] @ kernel)[..., 0, :]
        r, c = torch.where(running, new_r, r), torch.where(running, new_c, c)
        running = running & ((r - before).abs().mean(dim=over, keepdim=True) >= _THRESHOLD)
        # A GPU had better compute on than wait for the answer, and an exported program cannot ask.
        if running.device.type == "cpu" and not torch.compiler.is_compiling() and not running.any():
            break
    return r[..., None] * kernel * c[..., None, :]


def set_similarity(frames: Tensor, descriptors: Tensor, stop: Stop = "video") -> Tensor:
    """OST's similarity of videos and classes `(B, C)`: by transport, and of the means, which are not made unit again.

    `Σ_tn P_tn (f_t · d_n) + mean_t f_t · mean_n d_n`, in [-2, 2]; the plan P has no gradient.

    Args:
        frames: Unit features `(B, T, D)` of the frames.
        descriptors: Unit features `(C, N, D)` of the descriptors.
        stop: What the change that ends the solver's rounds is a mean over.
    """
    cosines = torch.einsum("btd,cnd->bctn", frames, descriptors)
    moved = (transport_plans(cosines, stop) * cosines).sum(dim=(-2, -1))
    return moved + frames.mean(dim=1) @ descriptors.mean(dim=1).T
