"""What a parser lets pass and no constructor could use: null and scalars in wrong places, and the Trainer's ranges."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse import Namespace

from vlbench.cli.declaration import check_given_once, options_of
from vlbench.cli.usage import explain, plain_types
from vlbench.errors import ConfigError, user_error
from vlbench.protocols.suites import Suite
from vlbench.ranges import PROCESSES, SEEDS, Range

_RANGES: dict[str, tuple[Range, str]] = {
    "trainer.max_epochs": (Range(1, 1_000_000), "Lightning's default"),
    "trainer.min_epochs": (Range(0, 1_000_000), "none"),
    "trainer.max_steps": (Range(-1), ""),
    "trainer.min_steps": (Range(0), "none"),
    "trainer.accumulate_grad_batches": (Range(1, 1_048_576), ""),
    "trainer.gradient_clip_val": (Range(0), "no clipping"),
    "trainer.log_every_n_steps": (Range(0), "Lightning's default"),
    "trainer.check_val_every_n_epoch": (Range(1), "no validation by epochs"),
    "trainer.val_check_interval": (Range(0, above=True), "Lightning's default"),
    "trainer.num_sanity_val_steps": (Range(-1), "Lightning's default"),
    "trainer.num_nodes": (Range(1, 100_000), ""),
    "trainer.devices": (Range(-1, PROCESSES.high), "Lightning's default"),
    "trainer.reload_dataloaders_every_n_epochs": (Range(0), ""),
    "trainer.overfit_batches": (Range(0), ""),
    **{
        f"trainer.limit_{loop}_batches": (Range(0), "Lightning's default")
        for loop in ("train", "val", "test", "predict")
    },
    "checkpoint_minutes": (Range(0, 1_000_000), ""),
    "checkpoint.save_top_k": (Range(-1, 1_000_000), ""),
    "checkpoint.every_n_epochs": (Range(1), "Lightning's default"),
    "checkpoint.every_n_train_steps": (Range(1), "Lightning's default"),
}
"""Ranges of options that no class of ours keeps, and what null stands for; Lightning fails late, or not at all."""


def check_ranges(config: Namespace) -> None:
    """Refuses numbers that Lightning's Trainer and its checkpoints cannot work with.

    Args:
        config: Options of a command, as the parser has read them.

    Raises:
        ConfigError: Naming the option and its range.
    """
    for name, (allowed, null) in _RANGES.items():
        if name not in config:
            continue
        value = config[name]
        if isinstance(value, str) and value.lstrip("-").isdecimal():
            value = int(value)  # devices may be a word too
        if value is None or isinstance(value, int | float):
            allowed.check(name, value, null)


def checked_seed(seed: object) -> int:
    """The seed of a run; Lightning's `true`, which draws one, and `false` would leave records without it.

    Args:
        seed: Value of the option `seed_everything`, as it was given.

    Raises:
        ConfigError: If it is no integer, or out of its range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        value = str(seed).lower() if isinstance(seed, bool) else repr(seed)
        raise ConfigError(f"seed_everything is {value}; allowed: an integer, which records name")
    SEEDS.check("seed_everything", seed)
    return seed


def check_types(config: Namespace | Mapping[str, Any], classes: Mapping[str, type]) -> None:
    """Refuses null and scalars where a constructor expects something else, which the parser takes for granted.

    Args:
        config: Options of a command, as the parser has read them.
        classes: Base class of each group of options that is a class.

    Raises:
        ConfigError: Naming the option and what is allowed.
    """
    for name, base in classes.items():
        value = config[name]
        if isinstance(value, Namespace) or is_dataclass(value):
            _check(f"--{name}", value, base)
        else:
            given = "null" if value is None else repr(value)
            raise ConfigError(f"--{name} is {given}; allowed: a group of options")


def check_lists(words: Sequence[str], config: Namespace) -> None:
    """Refuses a list that the command line gives twice; of other options the last value counts, as of configurations.

    Args:
        words: Words of the command line after the name of the command.
        config: Options of the command, as the parser has read them.

    Raises:
        ConfigError: Naming the option.
    """
    names = [option.replace(".init_args", "") for option in options_of(words) if option != "--config"]
    # What is kept is a list too, which may be written with commas.
    check_given_once(name for name in names if isinstance(_value(config, name), list) or name == "--record.keep")


def _value(config: Namespace, option: str) -> object:
    """Value of an option, wherever a class has it; `None` without."""
    value: Any = config
    for name in option[2:].split("."):
        inner = value.get("init_args") if isinstance(value, Namespace) and name not in value else None
        value = inner if isinstance(inner, Namespace) else value
        value = value.get(name) if isinstance(value, Namespace) else None
    return value


def read_suite(path: Path) -> Suite:
    """The suite of a YAML file.

    Args:
        path: File of the suite.

    Raises:
        ConfigError: If the file says something that no suite has, in one sentence.
    """
    try:
        suite = Suite.read(path)
        check_types({"suite": suite}, {"suite": Suite})
        return suite
    except ConfigError as error:
        problem = user_error(error.__cause__) if error.__cause__ is not None else error
        text = explain(str(error.__cause__), Suite.parser()) if problem is None else str(problem)
        raise ConfigError(f"{path} is not a suite: {re.sub(r'(--)?suite[.]', '', text)}") from error


def _check(option: str, value: Any, kind: Any) -> None:
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if value is None and not {type(None), Any} & set(kinds):
        raise ConfigError(f"{option} is null; allowed: {', '.join(map(_described, kinds))}")
    if isinstance(value, Namespace) or is_dataclass(value):
        values = vars(value)
        owner = next((each for each in kinds if get_origin(each) is None), object)
        if "class_path" in values:
            owner, values = resolve_name(values["class_path"]), vars(values.get("init_args") or Namespace())
        for name, inner in _hints(owner).items():
            if name in values:
                _check(f"{option}.{name}", values[name], inner)
    elif value is not None and all(is_dataclass(each) for each in kinds):
        raise ConfigError(f"{option} is {value!r}; allowed: {', '.join(map(_described, kinds))}")
    elif isinstance(value, dict):
        for inner in (get_args(each)[1] for each in kinds if get_origin(each) is dict):
            for name, part in value.items():
                _check(f"{option}.{name}", part, inner)
    elif isinstance(value, list):
        for element in (get_args(each)[0] for each in kinds if get_origin(each) is list):
            for part in value:
                _check(option, part, element)


def _hints(owner: Any) -> dict[str, Any]:
    try:
        return get_type_hints(owner if is_dataclass(owner) else owner.__init__)
    except NameError:  # a class of the user's with types that only exist for a type checker
        return {}


def _described(kind: Any) -> str:
    """A type in the words of a configuration; of a group of options their names."""
    if is_dataclass(kind):
        return f"a group of {', '.join(field.name for field in fields(kind))}"
    return plain_types(kind.__name__ if get_origin(kind) is None else str(kind))
