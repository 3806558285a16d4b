"""Which options of a method, of the data and of the trainer differ from those of the method's paper."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass

from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods.parts.prompts import templates


def constructor_options(method: object) -> dict[str, tuple[object, object]]:
    """Current and default value of every argument of a method's constructor, as scikit-learn's `get_params` finds them.

    A method keeps each argument in an attribute of its name. An argument that is a dataclass, such as the schedule, is
    given field by field.

    Raises:
        ConfigError: If the method does not keep an argument.
    """
    options: dict[str, tuple[object, object]] = {}
    for name, parameter in inspect.signature(type(method)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(method, name):
            raise ConfigError(
                f"{type(method).__name__} does not keep its argument {name}, so that records could not say whether it "
                f"is the paper's: set self.{name} = {name} in the constructor"
            )
        value, default = getattr(method, name), parameter.default
        if is_dataclass(value):
            for field in fields(value):
                options[field.name] = getattr(value, field.name), getattr(default, field.name, parameter.empty)
        else:
            options[name] = value, default
    return options


def deviations(method: object, paper: Mapping[str, object], left_out: Collection[str]) -> dict[str, object]:
    """Options whose value is not the paper's, by their names.

    Args:
        method: Method whose arguments are compared.
        paper: The paper's value of each option; several where the paper has several, as a frozenset; a function of the
            method where the value depends on another option. An option that is not named is the paper's by default.
        left_out: Options that cannot be a deviation.
    """
    different: dict[str, object] = {}
    for name, (value, default) in constructor_options(method).items():
        expected = paper.get(name, default)
        if name in left_out or expected is inspect.Parameter.empty:
            continue
        if callable(expected):
            expected = expected(method)
        allowed = expected if isinstance(expected, frozenset) else (expected,)
        if name == "prompts":  # a name and its templates are the same prompts
            same = templates(value) in [templates(prompts) for prompts in allowed]  # type: ignore[arg-type]
        else:
            same = value in allowed
        if not same:
            different[name] = value
    return different


def recipe_deviations(
    method: object,
    recipe: Mapping[str, object],
    run: Mapping[str, object],
    training: TrainingFacts | None,
    tested: str | None,
) -> dict[str, object]:
    """Options of the data and the trainer whose value is not the paper's, by their names.

    Args:
        method: Method of the run.
        recipe: The paper's value of each option, see `VideoTextMethod.PAPER_RECIPE`.
        run: Settings of the data and the trainer, by their names.
        training: Facts about the training; `None` if there was none, and nothing that depends on it is compared.
        tested: Name of the tested dataset; `None` in a training.
    """
    different: dict[str, object] = {}
    for name, expected in recipe.items():
        if name not in run or (callable(expected) and training is None):
            continue
        stated = expected(method, training, tested) if callable(expected) else expected
        allowed = stated if isinstance(stated, frozenset) else frozenset({stated})
        if allowed and not any(_same(run[name], value) for value in allowed):
            different[name] = run[name]
    return different


def _same(value: object, expected: object) -> bool:
    """Whether two values are one; rounded numbers, such as 1.142857 for 256/224, are."""
    if isinstance(value, int | float) and isinstance(expected, int | float):
        return math.isclose(value, expected, rel_tol=1e-4)
    return value == expected
