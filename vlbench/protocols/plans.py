"""Protocols as pure functions from methods, datasets, shots and seeds to stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import PurePath
from typing import NamedTuple

from vlbench.datasets.specs import Selection, Subset
from vlbench.errors import ConfigError
from vlbench.files import check_name
from vlbench.protocols.stages import Stage
from vlbench.protocols.suites import MethodConfig, ProtocolConfig, Suite

_BASE, _NOVEL = Subset(classes="base"), Subset(classes="novel")


@dataclass(frozen=True)
class Case:
    """One method under one protocol of a suite.

    Attributes:
        protocol: The protocol's entry in the suite.
        name: Name of the method.
        method: Configuration of the method.
        overlays: Configurations that come last.
    """

    protocol: ProtocolConfig
    name: str
    method: MethodConfig
    overlays: tuple[str, ...] = ()

    def datasets(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The name that each dataset gets in stage names, and its configurations."""
        for entry in self.protocol.datasets:
            configs = (entry,) if isinstance(entry, str) else tuple(entry)
            yield PurePath(configs[0]).stem, configs

    def trainings(
        self, stem: str, dataset: tuple[str, ...], train: Subset, test: Subset, seed: int
    ) -> tuple[Stage, ...]:
        """The stages of a training; the last one leaves the weights.

        A method with a grid has a training for each combination of its values, and then a choice of the best on the
        held-out training videos.

        Args:
            stem: Stem of the stages' names.
            dataset: Configurations of the dataset.
            train: Subset of the dataset that is trained on.
            test: Subset that a training validates on, if on test videos at all.
            seed: Seed of the training.
        """
        configs = (*self.method.configs, *dataset, *self.overlays)
        name, selection = self.protocol.protocol, self.protocol.selection
        fit = Stage(
            f"{stem}-fit", "fit", configs, train, (test,), seed, name,
            selection=selection, pretrained_from=self.method.pretrained_from,
        )  # fmt: skip
        grid = self.method.grid
        if not grid:
            return (fit,)
        if selection != "last":
            raise ConfigError(
                f"{stem}: selection is {selection} with a grid, whose values are compared after the last epoch; "
                "allowed: last"
            )
        fits = []
        for values in product(*grid.values()):
            options = tuple(zip(grid, values, strict=True))
            named = "-".join(f"{option}{value}" for option, value in options)
            # A training that keeps its best epoch by held-out videos refuses to begin without any.
            fits.append(replace(fit, name=f"{stem}-{named}-fit", selection="heldout", options=options))
        candidates = tuple(each.name for each in fits)
        return (*fits, Stage(f"{stem}-choose", "choose", (), train, (), seed, name, candidates=candidates))

    def sweep(self, stem: str, dataset: tuple[str, ...], draws: tuple[tuple[int, int], ...]) -> Stage:
        """A training and a test on all classes for every draw of shots and seed, in one process."""
        if self.method.grid:
            raise ConfigError(f"{stem}: sweep is true with a grid; leave one of them out")
        if self.protocol.views or self.protocol.selection != "last":
            raise ConfigError(
                f"{stem}: sweep is true with views or a selection of epochs; a sweep tests the views of its bank after "
                "one training each: leave both out, or sweep"
            )
        configs = (*self.method.configs, *dataset, *self.overlays)
        name, start = self.protocol.protocol, self.method.pretrained_from
        return Stage(stem, "sweep", configs, Subset(), (Subset(),), 0, name, pretrained_from=start, draws=draws)

    def tests(
        self, stem: str, dataset: tuple[str, ...], test: tuple[Subset, ...], fit: Stage | None, train: bool = True
    ) -> Iterator[Stage]:
        """A test for each setting of views, and for each selection of an epoch.

        Args:
            stem: Stem of the stages' names.
            dataset: Configurations of the dataset.
            test: Subsets, in one pass.
            fit: Stage that leaves the weights, the last one of a training; `None` for weights that are given.
            train: Whether the training videos are of the same dataset.
        """
        entry = self.protocol
        settings: list[str | None] = [*entry.views] or [None]
        selections: Iterable[Selection] = ("last",) if fit is None else dict.fromkeys(("last", entry.selection))
        for views, selection in product(settings, selections):
            parts = (stem, "test", views and PurePath(views).stem, selection != "last" and selection)
            yield Stage(
                "-".join(part for part in parts if part),
                "test",
                (*self.method.configs, *dataset, *([views] if views else []), *self.overlays),
                fit.train if fit is not None and train else None,
                test,
                0 if fit is None else fit.seed,
                entry.protocol,
                weights_from=None if fit is None else fit.name,
                checkpoint=self.method.checkpoint,
                selection=selection,
                half_classes=entry.half_classes,
                pretrained_from=self.method.pretrained_from,
            )


def few_shot(case: Case) -> Iterator[Stage]:
    """Train on K videos of every class, test on all classes of the first split; only that split, because the published
    training lists overlap the test lists of the others.

    A method that trains nothing is tested once: neither shots nor seeds change it.
    """
    entry, all_classes = case.protocol, Subset()
    for label, dataset in case.datasets():
        stem = f"few_shot-{label}-{case.name}"
        if not case.method.trains:
            yield from case.tests(stem, dataset, (all_classes,), None)
            continue
        draws = tuple(product(entry.shots or (2, 4, 8, 16), entry.seeds_or((0,))))
        if entry.sweep:
            yield case.sweep(stem, dataset, draws)
            continue
        for shots, seed in draws:
            stem = f"few_shot-{label}-{case.name}-{shots}shot-seed{seed}"
            trainings = case.trainings(stem, dataset, Subset(shots=shots, seed=seed), all_classes, seed)
            yield from trainings
            yield from case.tests(stem, dataset, (all_classes,), trainings[-1])


def base_to_novel(case: Case) -> Iterator[Stage]:
    """Train on K videos of every base class, test the base and the novel half in one pass, each against its own names.

    Published training lists have 16 shots and the seeds 1 to 3.
    """
    entry = case.protocol
    for label, dataset in case.datasets():
        stem = f"base_to_novel-{label}-{case.name}"
        if not case.method.trains:
            yield from case.tests(stem, dataset, (_BASE, _NOVEL), None)
            continue
        for shots, seed in product(entry.shots or (16,), entry.seeds_or((1, 2, 3))):
            stem = f"base_to_novel-{label}-{case.name}-{shots}shot-seed{seed}"
            trainings = case.trainings(stem, dataset, _BASE.with_(shots=shots, seed=seed), _BASE, seed)
            yield from trainings
            yield from case.tests(stem, dataset, (_BASE, _NOVEL), trainings[-1])


def zero_shot(case: Case) -> Iterator[Stage]:
    """Train on all of one dataset, test on others, all splits of each in one pass.

    Raises:
        ConfigError: If there is nothing to train on, or a test set would also be trained on or choose the epoch.
    """
    entry = case.protocol
    tests = list(case.datasets())
    splits = tuple(Subset(split=split) for split in entry.splits or (1, 2, 3))
    seeds: list[tuple[Stage, ...]] = [()]
    if case.method.trains:
        if entry.train is None:
            raise ConfigError("zero_shot@1: train is missing; give the dataset to train on, data/kinetics400.yaml")
        if entry.train in [config for _, configs in tests for config in configs]:
            raise ConfigError(f"zero_shot@1: {entry.train} is trained on and tested on; give other test datasets")
        if entry.selection == "best_on_test":
            raise ConfigError("zero_shot@1: selection is best_on_test; allowed: last, heldout")
        stem = f"zero_shot-{PurePath(entry.train).stem}-{case.name}"
        seeds = [
            case.trainings(f"{stem}-seed{seed}", (entry.train,), Subset(), Subset(), seed)
            for seed in entry.seeds_or((0,))
        ]
    for trainings in seeds:
        yield from trainings
        fit = trainings[-1] if trainings else None
        for label, dataset in tests:
            stem = f"zero_shot-{label}-{case.name}{'' if fit is None else f'-seed{fit.seed}'}"
            yield from case.tests(stem, dataset, splits, fit, train=False)


def fully_supervised(case: Case) -> Iterator[Stage]:
    """Train on all training videos, test on all test videos, with each setting of views."""
    for label, dataset in case.datasets():
        stem = f"fully_supervised-{label}-{case.name}"
        if not case.method.trains:
            yield from case.tests(stem, dataset, (Subset(),), None)
            continue
        for seed in case.protocol.seeds_or((0,)):
            trainings = case.trainings(f"{stem}-seed{seed}", dataset, Subset(), Subset(), seed)
            yield from trainings
            yield from case.tests(f"{stem}-seed{seed}", dataset, (Subset(),), trainings[-1])


class Protocol(NamedTuple):
    """A protocol.

    Attributes:
        stages: What it does with a method.
        options: The options of its entry that not every protocol has.
    """

    stages: Callable[[Case], Iterator[Stage]]
    options: frozenset[str]


PROTOCOLS: dict[str, Protocol] = {
    "few_shot@1": Protocol(few_shot, frozenset({"shots", "sweep"})),
    "base_to_novel@1": Protocol(base_to_novel, frozenset({"shots"})),
    "zero_shot@1": Protocol(zero_shot, frozenset({"train", "splits", "half_classes"})),
    "fully_supervised@1": Protocol(fully_supervised, frozenset()),
}
"""Protocols by versioned name: a change that changes numbers is a new version."""


def plan(suite: Suite) -> list[Stage]:
    """All stages of a suite; a stage comes after the one whose weights it needs.

    Trainings that differ in nothing but the protocol they are for are one stage.

    Raises:
        ConfigError: If a protocol is unknown or cannot be planned, two stages have one name, a name cannot be a file's,
            or a stage starts from a training that does not come before it.
    """
    for name in {name for entry in suite.protocols for name in {**suite.methods, **entry.methods}}:
        check_name("the name of a method of the suite", name)
    stages = _shared(
        stage
        for entry in suite.protocols
        for name, method in {**suite.methods, **entry.methods}.items()
        for stage in _protocol(entry).stages(Case(entry, name, method, tuple(suite.overlays)))
    )
    names = [stage.name for stage in stages]
    for name in names:
        check_name("the name of a stage, made of protocol, dataset and method,", name)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"the suite has two stages named {twice[0]}; list each protocol, dataset, shot and seed once")
    return stages


def _protocol(entry: ProtocolConfig) -> Protocol:
    if entry.protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {entry.protocol!r}; allowed: {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[entry.protocol]
    for option in sorted(frozenset().union(*(known.options for known in PROTOCOLS.values())) - protocol.options):
        if getattr(entry, option):
            readers = [name for name, known in PROTOCOLS.items() if option in known.options]
            raise ConfigError(
                f"{entry.protocol} has no option {option}; leave it out (it is one of {', '.join(readers)})"
            )
    return protocol


def _shared(stages: Iterable[Stage]) -> list[Stage]:
    """The stages without trainings that repeat an earlier one."""
    first: dict[Stage, str] = {}
    instead: dict[str | None, str] = {}
    kept = []
    for each in stages:
        candidates = tuple(instead[name] for name in each.candidates)
        stage = replace(each, pretrained_from=_start(each, instead), candidates=candidates)
        if stage.leaves_weights:
            training = replace(stage, name="", protocol="")
            known = training in first
            instead[stage.name] = first.setdefault(training, stage.name)
            if known:
                continue
        kept.append(replace(stage, weights_from=instead.get(stage.weights_from)))
    return kept


def _start(stage: Stage, trainings: Mapping[str | None, str]) -> str | None:
    """What a stage starts from: the stage of that training, or the file that it names."""
    if stage.pretrained_from is None or stage.start_file is not None:
        return stage.pretrained_from
    if stage.pretrained_from not in trainings:
        raise ConfigError(
            f"{stage.name} starts from {stage.pretrained_from}, which is no training that comes before it; allowed: a "
            f"file, FILE.ckpt, {', '.join(sorted(filter(None, trainings))) or 'and no training comes before it'}"
        )
    return trainings[stage.pretrained_from]
