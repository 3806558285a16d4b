"""Protocols as pure functions from methods, datasets, shots and seeds to stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from vlbench.data.specs import Subset
from vlbench.errors import ConfigError
from vlbench.protocols.stages import Stage


@dataclass(frozen=True)
class MethodConfig:
    """A method of a suite.

    Attributes:
        configs: its configurations, by name.
        trains: whether there is something to train; otherwise it is only tested.
        checkpoint: file with the weights to test, from `vlbench weights import` or `export`; needs `trains: false`.

    Raises:
        ConfigError: if a method with a checkpoint also trains.
    """

    configs: list[str]
    trains: bool = True
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.trains:
            raise ConfigError(
                f"checkpoint is {self.checkpoint!r} with trains: true; a suite tests given weights or trains its own: "
                "say trains: false, or leave the checkpoint out"
            )


@dataclass(frozen=True)
class ProtocolConfig:
    """A protocol of a suite.

    Attributes:
        protocol: versioned name.
        datasets: data configurations, by name.
        shots: videos a class; for `few_shot`.
        seeds: one run each.
    """

    protocol: str
    datasets: list[str]
    shots: list[int] = field(default_factory=lambda: [2, 4, 8, 16])
    seeds: list[int] = field(default_factory=lambda: [0])


@dataclass(frozen=True)
class Suite:
    """A set of protocols for a set of methods.

    Attributes:
        methods: by the name they get in stage names.
        protocols: what each of them goes through.
        overlays: configurations that come last for every method, such as a backbone and a trainer.
    """

    methods: dict[str, MethodConfig]
    protocols: list[ProtocolConfig]
    overlays: list[str] = field(default_factory=list)


def few_shot(
    name: str, method: MethodConfig, dataset: str, overlays: Sequence[str], shots: Iterable[int], seeds: Iterable[int]
) -> list[Stage]:
    """Train on K videos of every class, test on all classes of the first split; only that split, because the published
    training lists overlap the test lists of the others.

    A method that trains nothing is tested once: neither shots nor seeds change it.
    """
    protocol = "few_shot@1"
    label = PurePath(dataset).stem
    everything = (*method.configs, dataset, *overlays)
    if not method.trains:
        return [
            Stage(
                f"few_shot-{label}-{name}-test", "test", everything, None, Subset(), 0, protocol,
                checkpoint=method.checkpoint,
            )
        ]  # fmt: skip
    stages = []
    for k in shots:
        for seed in seeds:
            stem = f"few_shot-{label}-{name}-{k}shot-seed{seed}"
            train = Subset(shots=k, seed=seed)
            fit = Stage(f"{stem}-fit", "fit", everything, train, Subset(), seed, protocol)
            stages += [fit, Stage(f"{stem}-test", "test", everything, train, Subset(), seed, protocol, fit.name)]
    return stages


PROTOCOLS: Mapping[str, Callable[..., list[Stage]]] = {"few_shot@1": few_shot}
"""Plans by versioned name."""


def plan(suite: Suite) -> list[Stage]:
    """All stages of a suite; a stage comes after the one whose weights it needs.

    Raises:
        ConfigError: if a protocol is unknown or two stages have one name.
    """
    stages: list[Stage] = []
    for protocol in suite.protocols:
        if protocol.protocol not in PROTOCOLS:
            raise ConfigError(f"unknown protocol {protocol.protocol!r}; allowed: {', '.join(PROTOCOLS)}")
        for dataset in protocol.datasets:
            for name, method in suite.methods.items():
                stages += PROTOCOLS[protocol.protocol](
                    name, method, dataset, suite.overlays, protocol.shots, protocol.seeds
                )
    names = [stage.name for stage in stages]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"the suite has two stages named {twice[0]}; list each protocol, dataset, shot and seed once")
    return stages
