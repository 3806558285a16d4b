"""Scores under other protocols from the scores of views, and what the choices of a protocol move: numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vlbench.evaluation.stored_scores import Floats, Integers

FUSIONS = ("probabilities", "logits", "cosines", "softmax_of_mean")
"""What may be averaged over the views of a video, see `vlbench.methods.parts.fusion`."""


def view_subsets(clips: int, crops: int, sampling: str, right_edge: str = "exact") -> dict[str, list[int]]:
    """The views that another test would look at, by its clips and crops: exactly the same frames and squares.

    Args:
        clips: Number of clips of the videos that were scored.
        crops: Number of crops of each clip, 1 or 3; the views are in the order crop by crop.
        sampling: Rule that picked the frames of a clip.
        right_edge: Place of the second of three crops.

    Returns:
        Clips and crops, such as `4x3` -> positions of the views; those of the test itself come last.

    Example:
        >>> view_subsets(3, 1, "uniform")
        {'1x1': [0], '2x1': [0, 2], '3x1': [0, 1, 2]}
    """
    # The centre is the last of three crops; `quarters` puts it up to three pixels elsewhere.
    squares = {crops: list(range(crops)), **({1: [2]} if crops == 3 and right_edge == "exact" else {})}
    return {
        f"{k}x{number}": [crop * clips + clip for crop in squares[number] for clip in _clips(clips, k, sampling)]
        for number, k in product(sorted(squares), range(1, clips + 1))
        if _clips(clips, k, sampling)
    }


def _clips(clips: int, k: int, sampling: str) -> list[int]:
    """The clips out of `clips` that a test of k clips would look at; empty where it would look elsewhere."""
    if k == clips:
        return list(range(clips))
    if sampling == "dense":
        return [1] if (clips, k) == (3, 1) else []  # the centred window; others start at rounded places
    if sampling != "uniform":
        return []
    if k == 1:
        return [0]
    step, rest = divmod(clips - 1, k - 1)
    # The starts are multiples of a pitch, rounded down: halving it is exact, a third of it is not.
    exact = k == 2 or (rest == 0 and step & (step - 1) == 0)
    return list(range(0, clips, step)) if exact and rest == 0 else []


def fused(scores: Floats, scale: float, how: str) -> Floats:
    """Scores `(N, C)` of videos from the scores of their views, in single precision as a test computes them.

    Args:
        scores: Scores `(N, V, C)` of V views with C classes.
        scale: Factor that makes scores logits.
        how: What is averaged over the views, one of `FUSIONS`.
    """
    return _finished(_of_views(list(scores.swapaxes(0, 1)), scale, how), how)


def _of_views(views: Sequence[Floats], scale: float, how: str) -> list[Floats]:
    """What is averaged over the views, `(N, C)` of each."""
    if how == "softmax_of_mean":
        return [_softmax(view) for view in views]
    if how == "cosines":
        return list(views)
    logits = [view * np.float32(scale) for view in views]
    return logits if how == "logits" else [_softmax(view) for view in logits]


def _finished(views: Sequence[Floats], how: str) -> Floats:
    mean = views[0]
    if len(views) > 1:
        mean = views[0] + views[1]
        for view in views[2:]:
            mean += view
        mean /= np.float32(len(views))
    return _softmax(mean) if how == "softmax_of_mean" else mean


def _softmax(scores: Floats) -> Floats:
    powers: Floats = scores - scores.max(axis=-1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def right_videos(
    scores: Floats, labels: Integers, scale: float, views: Sequence[Sequence[int]], fusions: Sequence[str]
) -> Integers:
    """Numbers of videos whose best class is the right one, int64 `(W, F)`: of W subsets of the views, F ways to fuse.

    Args:
        scores: Scores `(N, V, C)` of all views.
        labels: Labels of the videos, int64 `(N,)`.
        scale: Factor that makes scores logits.
        views: Positions of the views of each subset.
        fusions: Ways to fuse, of `FUSIONS`.
    """
    counts = np.zeros((len(views), len(fusions)), np.int64)
    each = [np.ascontiguousarray(view) for view in scores.swapaxes(0, 1)]
    for column, how in enumerate(fusions):
        every = _of_views(each, scale, how)
        for row, subset in enumerate(views):
            best = _finished([every[view] for view in subset], how).argmax(axis=1)
            counts[row, column] = int((best == labels).sum())
    return counts


def leading_shares(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """For every pair of methods the share of the universes in which the first has the higher accuracy, `(M, M)`.

    Both directions and the share of ties sum to 1.

    Args:
        accuracies: Accuracies `(M, U)` of M methods in U universes.
    """
    return np.stack([(row > accuracies).mean(axis=1) for row in accuracies])


def main_effects(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each choice moves alone, in a table with a value for every combination of choices.

    Args:
        values: Values of the universes, a dimension for each choice.

    Returns:
        For each choice the share of the variance of the values that the means of its options have, and the difference
        between the largest and the smallest of these means. What the shares leave of 1 is moved by choices together.
        The shares are 0 where nothing varies.

    Example:
        >>> shares, spans = main_effects(np.array([[1.0, 2.0], [1.0, 2.0]]))
        >>> shares.tolist(), spans.tolist()
        ([0.0, 1.0], [0.0, 1.0])
    """
    axes = range(values.ndim)
    means = [values.mean(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    total = values.var()
    shares = np.array([mean.var() / total if total > 1e-12 else 0.0 for mean in means])
    return shares, np.array([mean.max() - mean.min() for mean in means])
