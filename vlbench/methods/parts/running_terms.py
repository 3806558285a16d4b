"""Means of a loss's terms over the steps between two entries of a log."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class RunningTerms:
    """Sums of a loss's terms, kept on the device until a log asks for their means.

    A step adds and waits for nothing: the processes meet, and the host reads, once for each entry of the log.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._count = 0

    def update(self, terms: Mapping[str, Tensor]) -> None:
        """Adds the terms of a batch.

        Args:
            terms: Scalars by name, the same names in every batch.
        """
        self._names = tuple(terms)
        values = torch.stack([value.detach().float() for value in terms.values()])
        self._sum = values if self._sum is None else self._sum + values
        self._count += 1

    def means(self, strategy: Strategy) -> dict[str, Tensor]:
        """Means over the batches since the last call and over the processes, scalars on the CPU; starts anew.

        Args:
            strategy: Strategy of the Trainer, which every process calls this with at the same step.
        """
        assert self._sum is not None
        mean = strategy.reduce(self._sum / self._count, reduce_op="mean")
        self._sum, self._count = None, 0
        return dict(zip(self._names, mean.cpu().unbind(), strict=True))
