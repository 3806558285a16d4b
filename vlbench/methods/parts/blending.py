"""Weights that are a mixture of two: `(1 - w) θ + w θ_0`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from vlbench.ranges import SHARES


class OriginalWeights:
    """Weights θ_0 of a backbone as it was loaded, of which an evaluation takes a share, as WiSE-FT (arXiv 2109.01903).

    No module: the original weights do not belong in a state dict. A method makes it before anything trains or is added,
    and gives `blended` as its `evaluation_weights`.

    Args:
        backbone: Module whose parameters that train are kept; they have their original values.
        share: Part w of the original weights in an evaluation, in [0, 1]; nothing is kept for 0.
        always: Whether the original weights are kept whatever the share, for a training that needs them too.

    Attributes:
        values: Original values by the names of the backbone's parameters.

    Raises:
        ConfigError: If the share is outside its range; the message calls it `original_share`.
    """

    def __init__(self, backbone: nn.Module, share: float, *, always: bool = False) -> None:
        SHARES.check("original_share", share)
        kept = backbone.named_parameters() if share or always else ()
        self.values = {name: value.detach().clone() for name, value in kept if value.requires_grad}

    def to(self, device: torch.device) -> None:
        """Keeps the original weights on a device, for a use in every step of a training."""
        self.values = {name: value.to(device) for name, value in self.values.items()}

    def blended(self, backbone: nn.Module, share: float, *, trains: bool = False) -> AbstractContextManager[None]:
        """Context in which each parameter of the backbone that trains is a mixture with its original value.

        What is frozen stays: it may be known by the digest of its weights.

        Args:
            backbone: Module whose original weights these are.
            share: Part w of the original weights in the mixture, in [0, 1].
            trains: Whether the mixture has gradients, for a use in a training.
        """
        tuned = {
            name: value for name, value in backbone.named_parameters() if value.requires_grad and name in self.values
        }
        return blended(tuned, self.values, share, trains=trains)


@contextmanager
def blended(
    parameters: Mapping[str, nn.Parameter], original: Mapping[str, Tensor], share: float, *, trains: bool = False
) -> Iterator[None]:
    """Inside, each parameter is a mixture of itself and its original value; then it is what it was before.

    Args:
        parameters: Parameters θ, by their names.
        original: Original values θ_0 of the same names, on any device.
        share: Part w of the original values in the mixture, in [0, 1]; 0 leaves the parameters alone.
        trains: Whether parameters that train have gradients inside; they are frozen otherwise.
    """
    before = {name: parameter.detach().clone() for name, parameter in parameters.items() if share}
    frozen = [parameters[name] for name in before if parameters[name].requires_grad and not trains]
    try:
        with torch.no_grad():
            for name in before:
                parameters[name].lerp_(original[name].to(parameters[name]), share)
        for parameter in frozen:
            parameter.requires_grad_(False)  # torch multiplies by trained weights in another order: rounding differs
        torch.clear_autocast_cache()  # which knows a parameter by its place and not by its value
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
        for parameter in frozen:
            parameter.requires_grad_(True)
        torch.clear_autocast_cache()
