"""What a suite's file says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vlbench.datasets.specs import Selection
from vlbench.errors import ConfigError
from vlbench.ranges import COUNTS, SEEDS, Range
from vlbench.yaml_files import read_yaml

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class MethodConfig:
    """A method of a suite.

    Attributes:
        configs: Configurations of the method, by name.
        trains: Whether there is something to train; otherwise it is only tested.
        checkpoint: File with the weights to test, from `vlbench weights import` or `export`; needs `trains: false`.
        pretrained_from: Weights that the backbone starts from: the name of an earlier training of the suite, such as
            `zero_shot-kinetics400-vifi_clip-seed0-fit`, or a checkpoint, `FILE.ckpt`. It becomes the method's option
            `pretrained_from`.
        grid: Values of the method's options, by their names, such as `{lr: [0.001, 0.01]}`: one training for each
            combination, of which the one that is best on the held-out training videos is tested.

    Raises:
        ConfigError: If a method with a checkpoint also trains, or a grid has nothing to choose among.
    """

    configs: list[str]
    trains: bool = True
    checkpoint: str | None = None
    pretrained_from: str | None = None
    grid: dict[str, list[bool | int | float | str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.grid and not self.trains:
            raise ConfigError(
                f"grid is {self.grid} with trains: false; a grid is of trainings: leave it out, or let the method train"
            )
        for option, values in self.grid.items():
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"the grid of {option} is {values}; allowed: one or more values, each once")
        if self.checkpoint is not None and self.trains:
            raise ConfigError(
                f"checkpoint is {self.checkpoint!r} with trains: true; a suite tests given weights or trains its own: "
                "say trains: false, or leave the checkpoint out"
            )


@dataclass(frozen=True)
class ProtocolConfig:
    """A protocol of a suite.

    Attributes:
        protocol: Versioned name of the protocol.
        datasets: Data configurations, by name; a list is a dataset's own followed by what is special about it here,
            such as `[data/ucf101.yaml, views/5x3.yaml]`. Tested on and, unless `train` says otherwise, trained on.
        methods: The methods of this protocol alone, beside the suite's; of two with one name this one counts.
        train: Data configuration of the training; only `zero_shot`, which needs it.
        shots: Videos a class; only `few_shot`, 2, 4, 8 and 16 by default, and `base_to_novel`, 16 by default.
        seeds: One training each, or how many seeds there are from 0 on; 0 by default, 1 to 3, the published lists, for
            `base_to_novel`.
        splits: Test splits; only `zero_shot`, 1 to 3 by default.
        views: Configurations, by name, each of which is a test of its own of the same weights; by default one test with
            the views of the other configurations.
        selection: `heldout` and `best_on_test` also test the epoch chosen in this way, beside the last one.
        half_classes: Also evaluate on random halves of the classes; only `zero_shot`.
        sweep: Whether all shots and seeds of a method run in one process, which leaves a record each and no
            checkpoint; only `few_shot`, for heads on a bank of features.
    """

    protocol: str
    datasets: list[str | list[str]]
    methods: dict[str, MethodConfig] = field(default_factory=dict)
    train: str | None = None
    shots: list[int] | None = None
    seeds: list[int] | int | None = None
    splits: list[int] | None = None
    views: list[str] = field(default_factory=list)
    selection: Selection = "last"
    half_classes: bool = False
    sweep: bool = False

    def __post_init__(self) -> None:
        if not all(self.datasets):
            raise ConfigError(f"datasets are {self.datasets}; allowed: names, and lists of one or more names")
        for name, allowed in (("shots", COUNTS), ("seeds", SEEDS), ("splits", Range(1, 1_000))):
            values = getattr(self, name)
            for value in [values] if isinstance(values, int) else values or ():
                (COUNTS if isinstance(values, int) else allowed).check(name, value)

    def seeds_or(self, default: tuple[int, ...]) -> tuple[int, ...]:
        """The seeds of the trainings.

        Args:
            default: Seeds where the suite names none.
        """
        if isinstance(self.seeds, int):
            return tuple(range(self.seeds))
        return tuple(self.seeds or default)


@dataclass(frozen=True)
class Suite:
    """A set of protocols for a set of methods.

    Attributes:
        protocols: What the methods go through.
        methods: Methods of every protocol, by the name they get in stage names.
        overlays: Configurations that come last for every method, such as a backbone and a trainer.

    Example:
        >>> suite = Suite(
        ...     protocols=[ProtocolConfig("few_shot@1", ["data/ucf101.yaml"], shots=[2, 16])],
        ...     methods={"msta": MethodConfig(["msta_fewshot.yaml"])},
        ... )
        >>> from vlbench.protocols.plans import plan
        >>> [stage.name for stage in plan(suite)][:2]
        ['few_shot-ucf101-msta-2shot-seed0-fit', 'few_shot-ucf101-msta-2shot-seed0-test']
    """

    protocols: list[ProtocolConfig]
    methods: dict[str, MethodConfig] = field(default_factory=dict)
    overlays: list[str] = field(default_factory=list)

    @classmethod
    def parser(cls) -> ArgumentParser:
        """The parser of a suite's file, whose content is the option `suite`."""
        from jsonargparse import ArgumentParser

        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, "suite")
        return parser

    @classmethod
    def read(cls, path: Path) -> Suite:
        """The suite of a YAML file.

        Args:
            path: File of the suite.

        Raises:
            ConfigError: If the file says something that no suite has.
        """
        parser = cls.parser()
        content = read_yaml(path)
        try:
            values = parser.parse_object({"suite": content})
            suite = parser.instantiate(values).suite
        except Exception as error:
            raise ConfigError(f"{path} is not a suite: {error}") from error
        assert isinstance(suite, cls)
        return suite
