"""Random numbers of a training step that are the same on any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.names import name_bytes


def drawn_groups(
    batch: ClipBatch, size: int, option: str, *, seed: int, step: int
) -> Iterator[tuple[slice, np.random.Generator]]:
    """Groups of the clips that a process takes at once, each with a generator for its draws.

    The draws are a function of seed, step and the clips' ids, so that a resumed training has the same ones.

    Args:
        batch: Clips of a process.
        size: Number of clips of a group; it divides the number of clips.
        option: Name of the option that is the size, for the error.
        seed: Seed of the draws.
        step: Number of the optimizer step.

    Raises:
        ConfigError: If groups do not divide the clips that a process takes at once.
    """
    if len(batch.ids) % size and not batch.failures:
        raise ConfigError(
            f"{option} is {size}, and a process takes {len(batch.ids)} clips at once; give a data.batch_size that is a "
            f"multiple of it, or another {option}"
        )
    for first in range(0, len(batch.ids), size):
        names = "\0".join(batch.ids[first : first + size])
        digest = hashlib.blake2b(name_bytes(names), digest_size=8).digest()
        yield slice(first, first + size), np.random.default_rng([seed, step, int.from_bytes(digest, "big")])
