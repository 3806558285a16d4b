"""How many floating-point operations a test takes, counted by torch's formulas without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vlbench.evaluation.evaluator import EvaluatedMethod
from vlbench.evaluation.measures import Cost


class CountedOperations(TorchDispatchMode):
    """Mode that counts the operations for which torch has a formula; its own counter follows modules and their
    gradients too, which tensors without values do not have.

    Attributes:
        total: Number of operations so far; a multiplication and an addition are two.
    """

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
def sizes_only() -> Iterator[None]:
    """Context in which training steps on the meta device run, where torch knows no autocast."""
    autocast = torch.autocast

    def known(device_type: str, *args: Any, **options: Any) -> AbstractContextManager[Any]:
        return nullcontext() if device_type == "meta" else autocast(device_type, *args, **options)

    with patch("torch.autocast", known), _Sizes():
        yield


class _Tested(nn.Module):
    """A method as a module whose forward pass is the test of one view.

    Args:
        method: Method that a test is of.
    """

    def __init__(self, method: EvaluatedMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, frames: int, lists: Sequence[Sequence[str]]) -> list[Cost]:
        """Operations of a view and of the classes, for each list of names of classes."""
        method = self.method
        size = method.backbone.image_size
        clip = torch.empty(1, frames, 3, size, size, dtype=torch.uint8, device="meta")
        with CountedOperations() as encoding:
            features = method.encode_frames(method.backbone.normalize(clip))
        costs = []
        for names in lists:
            with CountedOperations() as classes:
                state = method.encode_classes(names)
            with CountedOperations() as scoring:
                method.score(method.pool_frames(features, state), state)
            costs.append(Cost(encoding.total + scoring.total, classes.total))
        return costs


def count_test(method: EvaluatedMethod, frames: int, lists: Sequence[Sequence[str]]) -> list[Cost]:
    """Operations of a method's test, one entry for each list of classes; the method stays as it is.

    A view is counted from its pixels to its scores, so that text that depends on the video is part of it. Parameters
    and buffers have sizes and no values meanwhile. What cannot be counted so gives a reason and no error: a test does
    not fail for it.

    Args:
        method: Method in evaluation mode, with the weights that it evaluates with.
        frames: Number T of frames of a view.
        lists: Names of the classes of each test set.
    """
    module = _Tested(method)
    state: dict[str, Tensor] = {
        name: nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for name, parameter in module.named_parameters()
    }
    state |= {name: torch.empty_like(buffer, device="meta") for name, buffer in module.named_buffers()}
    # Code that torch compiled has no single operations to count.
    eager = torch.compiler.set_stance("force_eager")
    try:
        with torch.inference_mode(False), torch.no_grad(), eager, sizes_only():
            costs: list[Cost] = functional_call(module, state, (frames, lists))
            return costs
    except Exception as error:  # whatever a method does with values that are not there
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return [Cost(reason=reason) for _ in lists]
