"""A method on a fixed list of classes as one module: pixels in, class probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vlbench.deploy.interface import Output
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import ClassState
from vlbench.methods.base import VideoTextMethod


class FixedClasses(nn.Module):
    """A method on fixed classes: pixels of the views of videos in, class probabilities out.

    The state of the classes is computed once. Make and use the module inside `method.evaluation_weights()`, in which
    experts are merged, low-rank terms are part of the weights and original weights are blended in:

        with method.evaluation_weights():
            module = FixedClasses(method, names, frames=8)
            probabilities = module(pixels)

    Args:
        method: Method with its weights, in evaluation mode.
        class_names: Names of the classes, in the order of the output's columns.
        frames: Number T of frames of a view.

    Attributes:
        output: What a row of the output is: `probabilities`, or `scores` of a method that states no probability.

    Raises:
        ConfigError: If the method cannot score these classes.
    """

    def __init__(self, method: VideoTextMethod, class_names: Sequence[str], frames: int) -> None:
        super().__init__()
        _check_classes(method, tuple(class_names))
        self.method = method
        self.class_names = tuple(class_names)
        self.frames = frames
        self.probability = method.probability
        self.output: Output = "scores" if self.probability.source is None else "probabilities"
        with torch.no_grad(), torch.autocast(method.backbone.mean.device.type, enabled=False):
            self._state = _mapped(self._kept, Tensor, method.encode_classes(self.class_names))

    def _kept(self, value: Tensor) -> _Buffer:
        """Registers a tensor of the state of the classes as a buffer."""
        name = f"classes_{len(self._buffers)}"
        self.register_buffer(name, value.clone())
        return _Buffer(name)

    def forward(self, pixels: Tensor) -> Tensor:
        """Class probabilities or scores of videos, float32 `(B, C)`.

        Args:
            pixels: Views of the videos, uint8 `(B, V, T, 3, S, S)` in 0..255, or one view of each, `(B, T, 3, S, S)`.

        Raises:
            ConfigError: If the pixels have another shape or type.
        """
        self._check(pixels)
        views = pixels.unsqueeze(1) if pixels.ndim == 5 else pixels
        count, method = views.shape[:2], self.method
        classes = _mapped(lambda buffer: self.get_buffer(buffer.name), _Buffer, self._state)
        features = method.encode_frames(method.backbone.normalize(views.flatten(0, 1)))
        scores = method.score(method.pool_frames(features, classes), classes).float().unflatten(0, count)
        source, factor = self.probability.source, self.probability.factor
        values = scores.mean(dim=1) if source == "cosines" else method.fuse_views(scores)
        return values if source is None or factor is None else (factor * values).softmax(dim=-1)

    def _check(self, pixels: Tensor) -> None:
        size = self.method.backbone.image_size
        view = (self.frames, 3, size, size)
        if pixels.dtype != torch.uint8 or pixels.ndim not in (5, 6) or pixels.shape[-4:] != view:
            wanted = ", ".join(map(str, view))
            raise ConfigError(
                f"pixels are {str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}; allowed: uint8 of the"
                f" shape (videos, views, {wanted}), or (videos, {wanted}) for one view of each"
            )


def _check_classes(method: VideoTextMethod, names: tuple[str, ...]) -> None:
    """Whether a method can score classes.

    Raises:
        ConfigError: If it cannot.
    """
    if len(set(names)) != len(names) or not names:
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise ConfigError(
            f"the classes have {twice[0]!r} more than once; name each class once" if twice else
            "there are no classes; name one or more"
        )  # fmt: skip
    scored = method.fixed_classes
    if scored is not None and scored != names:
        raise ConfigError(
            f"{method.name} has no open vocabulary: it scores its {len(scored)} training classes in their order, and"
            f" {len(names)} others or in another order are given; leave --classes out"
        )


@dataclass(frozen=True)
class _Buffer:
    """Place of a tensor in the state of the classes: the name of a buffer."""

    name: str


def _mapped(function: Callable[[Any], Any], kind: type, state: ClassState) -> ClassState:
    """The state of classes with a function applied to what is of one kind in it."""
    if isinstance(state, kind):
        return function(state)
    if is_dataclass(state) and not isinstance(state, type):
        values = {field.name: _mapped(function, kind, getattr(state, field.name)) for field in fields(state)}
        return replace(state, **values)
    if isinstance(state, tuple):
        parts = [_mapped(function, kind, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if isinstance(state, list):
        return [_mapped(function, kind, part) for part in state]
    if isinstance(state, dict):
        return {name: _mapped(function, kind, part) for name, part in state.items()}
    return state
