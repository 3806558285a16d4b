"""Weights that are a mixture of two: `(1 - w) θ + w θ_0`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def blended(parameters: Mapping[str, nn.Parameter], original: Mapping[str, Tensor], share: float) -> Iterator[None]:
    """Inside, each parameter is a mixture of itself and its original value, and frozen; then it is what it was before.

    Args:
        parameters: Parameters θ, by their names.
        original: Original values θ_0 of the same names, on any device.
        share: Part w of the original values in the mixture, in [0, 1]; 0 leaves the parameters alone.
    """
    before = {name: parameter.detach().clone() for name, parameter in parameters.items() if share}
    trained = [parameters[name] for name in before if parameters[name].requires_grad]
    try:
        with torch.no_grad():
            for name in before:
                parameters[name].lerp_(original[name].to(parameters[name]), share)
        for parameter in trained:
            parameter.requires_grad_(False)  # torch multiplies by trained weights in another order: rounding differs
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
        for parameter in trained:
            parameter.requires_grad_(True)
