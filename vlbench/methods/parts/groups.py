"""Parameter groups of AdamW whose learning rate and weight decay depend on what a parameter is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn


def matrices_decay(_name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is no bias, no norm and no other vector or scalar."""
    return parameter.ndim >= 2


def all_but_vectors_decay(_name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is no bias, no norm and no other vector; the logit scale is none."""
    return parameter.ndim != 1


def trained_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    factor: Callable[[str], float] = lambda _: 1.0,
    decays: Callable[[str, nn.Parameter], bool] = lambda *_: True,
    **options: Any,
) -> list[dict[str, Any]]:
    """AdamW's groups of the parameters that train, one for each pair of learning rate and weight decay.

    Args:
        named: Parameters with their names; those without a gradient are left out.
        lr: Peak learning rate of the parameters whose factor is 1.
        weight_decay: Weight decay of AdamW.
        factor: Factor on the learning rate of a parameter, by its name.
        decays: Whether a parameter has a weight decay.
        **options: Further options of AdamW, the same for all groups, such as `betas`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            key = lr * factor(name), weight_decay if decays(name, parameter) else 0.0
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay, **options}
        for (rate, decay), parameters in groups.items()
    ]
