"""How many floating-point operations a method takes, counted without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vlbench.clips.batch import ClipBatch
from vlbench.methods.base import VideoTextMethod
from vlbench.tools.memory import prepare


class Operations(NamedTuple):
    """Floating-point operations of a method; a multiplication and an addition are two.

    Attributes:
        view: Operations of a view of a test video, without those of the classes, which are computed once.
        step: Operations of a training step that do not depend on its number of clips, such as those of the classes.
        clip: Operations of a training clip, beside those of the step.
    """

    view: float
    step: float
    clip: float


class _Counted(TorchDispatchMode):
    """Mode that counts the operations for which torch has a formula; its own counter follows modules and their
    gradients too, which tensors without values do not have."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


class _Sizes(TorchFunctionMode):
    """Functions with the products that are counted and the size of their result, and no more.

    Gradients that a forward pass asks for need values. Of layer norms and biases nothing is counted, and attention is
    one operation: torch computes their sizes in Python, which takes several times as long.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.autograd.grad:
            return tuple(torch.empty_like(tensor) for tensor in tree_leaves(args[1]))
        if func is F.layer_norm:
            return torch.empty_like(args[0])
        if func is F.linear:
            return args[0] @ args[1].t()
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_efficient_attention(*args[:3], None, False)[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def _sizes() -> Iterator[None]:
    """Context in which training steps on the meta device run, where torch knows no autocast."""
    autocast = torch.autocast

    def known(device_type: str, *args: Any, **options: Any) -> AbstractContextManager[Any]:
        return nullcontext() if device_type == "meta" else autocast(device_type, *args, **options)

    with patch("torch.autocast", known), _Sizes():
        yield


def count(method: VideoTextMethod, *, frames: int, classes: int) -> Operations:
    """Operations of a method's tests and of its trainings.

    The backward pass is taken for one forward pass, of the gradients that pass through, and for the part of another one
    that the parameters that train have of all parameters of the image tower.

    Args:
        method: Method on the meta device; it is of no other use afterwards.
        frames: Number T of frames of a clip.
        classes: Number C of training classes.
    """
    trains = any(parameter.requires_grad for parameter in method.parameters())
    tower = list(method.backbone.visual.parameters())  # adapters that stand inside blocks are among them
    trained = sum(parameter.numel() for parameter in tower if parameter.requires_grad)
    passes = 2 + trained / max(1, sum(parameter.numel() for parameter in tower))
    size = method.backbone.image_size

    def video_of(number: int) -> Tensor:
        return torch.empty(number, frames, 3, size, size, dtype=torch.uint8, device="meta")

    def clips(number: int) -> ClipBatch:
        labels = torch.empty(number, dtype=torch.int64, device="meta")
        return ClipBatch(video_of(number), labels, [str(index) for index in range(number)], {})

    with _sizes():
        with _Counted() as view, torch.no_grad():
            method.encode_frames(method.backbone.normalize(video_of(1)))
        if not trains:
            return Operations(view.total, 0, 0)
        prepare(method, classes)
        forward = []
        for number in (8, 16):  # groups of clips that share a draw divide them
            with _Counted() as counted:
                method.training_loss(clips(number))
            forward.append(counted.total)
    a_clip = (forward[1] - forward[0]) / 8
    return Operations(view.total, passes * max(0, forward[0] - 8 * a_clip), passes * a_clip)
