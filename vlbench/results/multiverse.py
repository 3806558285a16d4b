"""Accuracies of methods in every universe of a comparison, and what follows from them; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vlbench.evaluation.universes import leading_shares, main_effects


@dataclass(frozen=True)
class Choice:
    """A choice of a protocol.

    Attributes:
        name: Name of the choice, such as `prompts`.
        options: Options of the choice, at least one.
    """

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Multiverse:
    """Accuracies of some methods in every universe: a combination of one option of each choice.

    Attributes:
        setting: Protocol, dataset, training videos a class and classes of the comparison.
        methods: Names of the methods.
        choices: Choices that have more than one option.
        accuracies: Top-1 in per cent, float64 `(M, ...)` with a dimension for each choice.
        recorded: Position in each choice of the universe nearest to the records: what they were tested with.
        notes: Sentences on options that were left out, and on methods that do not have a choice.
    """

    setting: str
    methods: tuple[str, ...]
    choices: tuple[Choice, ...]
    accuracies: NDArray[np.float64]
    recorded: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def flat(self) -> NDArray[np.float64]:
        """Accuracies `(M, U)` of U universes."""
        return self.accuracies.reshape(len(self.methods), -1)

    @property
    def universes(self) -> int:
        """Number of universes."""
        return int(self.flat.shape[1])

    @cached_property
    def at_records(self) -> NDArray[np.float64]:
        """Accuracies `(M,)` in the universe nearest to the records."""
        return np.array([of_method[self.recorded] for of_method in self.accuracies])

    @cached_property
    def leading(self) -> NDArray[np.float64]:
        """Share of the universes in which a method has the higher accuracy than another one, `(M, M)`."""
        return leading_shares(self.flat)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of each method in each universe, int64 `(M, U)`; methods with equal accuracies have equal ranks."""
        return np.stack([1 + (self.flat > row).sum(axis=0) for row in self.flat])

    @cached_property
    def effects(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shares of the variance and spans in points, each `(M, K)` for K choices; see `main_effects`."""
        shares, spans = zip(*map(main_effects, self.accuracies), strict=True)
        return np.stack(shares), np.stack(spans)

    @cached_property
    def best_on_test(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Points that the epoch which is the best on the test videos adds to the last one: the mean over the universes
        and the points at the records' options, each `(M,)`; `None` without such a choice."""
        for axis, choice in enumerate(self.choices):
            if choice.name == "epoch" and {"last", "best_on_test"} <= {*choice.options}:
                best, last = (
                    np.take(self.accuracies, choice.options.index(name), axis=axis + 1)
                    for name in ("best_on_test", "last")
                )
                rest = tuple(place for other, place in enumerate(self.recorded) if other != axis)
                gain = best - last
                return gain.reshape(len(self.methods), -1).mean(axis=1), np.array(
                    [of_method[rest] for of_method in gain]
                )
        return None

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Positions of every two methods, the pair whose order is the least settled first."""
        numbers = range(len(self.methods))
        every = [(a, b) for a in numbers for b in numbers if a < b]
        yield from sorted(every, key=lambda pair: abs(self.leading[pair] - self.leading[pair[::-1]]))

    def each(self) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
        """The options of each universe, and the accuracies `(M,)` in it."""
        options = product(*(choice.options for choice in self.choices))
        yield from zip(options, self.flat.T, strict=True)

    def index(self, **options: str) -> tuple[int, ...]:
        """Position of the universe with some options; choices that are not named have the records' option.

        Args:
            options: Option of a choice, by the choice's name with `_` for the space.
        """
        named = {name.replace("_", " "): option for name, option in options.items()}
        return tuple(
            choice.options.index(named[choice.name]) if choice.name in named else place
            for choice, place in zip(self.choices, self.recorded, strict=True)
        )
