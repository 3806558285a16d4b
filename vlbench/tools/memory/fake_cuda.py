"""Tensors that pretend to be on a GPU: shapes, dtypes and devices without memory or arithmetic."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vlbench.errors import ConfigError

_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_READS = (_aten._local_scalar_dense.default, _aten.nonzero.default, _aten.equal.default)
_PRODUCTS = (
    _aten.mm.default, _aten.addmm.default, _aten.bmm.default, _aten.mv.default, _aten.convolution.default
)  # fmt: skip
# A GPU takes floating-point numbers of one dtype for these; torch does not look when it works out shapes alone.
_OF_ONE_DTYPE = (
    *_PRODUCTS, _aten.native_layer_norm.default, _aten.index_put.default, _aten.index_put_.default,
    _aten._index_put_impl_.default, _aten.index_copy.default, _aten.index_copy_.default, _aten.index_add.default,
    _aten.index_add_.default, _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_flash_attention.default,
)  # fmt: skip


class FakeCUDA(TorchDispatchMode):
    """Mode in which operations on a pretended GPU are pretended and those on the CPU are computed.

    Operations that mix the two devices raise, as they do on a real GPU, and so do products, LayerNorms and indexed
    writes that mix dtypes.

    Attributes:
        to_device: Shapes of the tensors that were copied from the CPU to the GPU.
        to_host: Names of the operations that made the CPU wait for the GPU.
        products: Dtypes of the matrix products and convolutions on the GPU.
        bytes: Bytes of the tensors that are alive on the GPU.
        peak: Largest number of bytes that were alive at once; may be set back.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.to_device: list[tuple[int, ...]] = []
        self.to_host: list[str] = []
        self.products: set[torch.dtype] = set()
        self.bytes = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Computes or pretends one operation, and notes what it costs."""
        kwargs = kwargs or {}
        pretended = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FakeTensor)]
        if not pretended and not _is_gpu(kwargs.get("device")):
            return func(*args, **kwargs)
        if func in _COPIES:
            into, source = (args[0].device, args[1]) if func is _COPIES[1] else (kwargs.get("device"), args[0])
            if source.device.type == "cpu" and _is_gpu(into):
                self.to_device.append(tuple(source.shape))
            if source.device.type == "cuda" and into is not None and not _is_gpu(into):
                self.to_host.append("copy")
        if func in _READS and args[0].device.type == "cuda":
            self.to_host.append(str(func))
        if func in _PRODUCTS:
            self.products.add(args[1].dtype)
        if func in _OF_ONE_DTYPE:
            dtypes = {leaf.dtype for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and leaf.is_floating_point()}
            if len(dtypes) > 1:
                raise RuntimeError(f"{func} got tensors of {sorted(map(str, dtypes))}; a GPU takes one dtype")
        with self.mode:
            results = func(*args, **kwargs)
        for result in tree_leaves(results):
            if isinstance(result, FakeTensor) and result.device.type == "cuda":
                self._count(result.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._alive:
            return
        address, size = storage._cdata, storage.nbytes()
        self._alive.add(address)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self.bytes -= size

    def pretend(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape and dtype on the pretended GPU."""
        with self.mode:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

    def move(self, module: nn.Module) -> None:
        """Has a module's parameters and buffers be on the pretended GPU; what is shared stays shared."""
        moved: dict[int, Tensor] = {}
        for part in module.modules():
            for tensors in (part._parameters, part._buffers):
                for name, tensor in tensors.items():
                    if tensor is None:
                        continue
                    if id(tensor) not in moved:
                        value = self.pretend(tensor)
                        trains = isinstance(tensor, nn.Parameter)
                        moved[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if trains else value
                    tensors[name] = moved[id(tensor)]  # type: ignore[assignment]


class _GPUFunctions(TorchFunctionMode):
    """Functions that torch does otherwise without a GPU, or not at all.

    Attention as a GPU computes it, where torch would take the implementation that keeps every weight; and gradients
    that a forward pass asks for, which have the shapes of what they are of.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.autograd.grad and any(isinstance(output, FakeTensor) for output in tree_leaves(args[0])):
            return tuple(torch.empty_like(tensor) for tensor in tree_leaves(args[1]))
        if func is not F.scaled_dot_product_attention or not isinstance(args[0], FakeTensor):
            return func(*args, **kwargs)
        causal = bool(kwargs.get("is_causal", False))
        q, k, v = args[:3]
        if torch.is_autocast_enabled("cuda"):
            q, k, v = (tensor.to(torch.get_autocast_dtype("cuda")) for tensor in args[:3])
        if q.dtype is torch.float32:
            mask = kwargs.get("attn_mask")
            return _aten._scaled_dot_product_efficient_attention(q, k, v, mask, q.requires_grad, 0.0, causal)[0]
        return _aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)[0]


def can_pretend() -> bool:
    """Whether torch can pretend a GPU and compute gradients there: torch 2.10 or newer, or a machine with a GPU."""
    return torch.cuda.is_available() or torch.__version__ >= "2.10"


@contextmanager
def fake_cuda() -> Iterator[FakeCUDA]:
    """Context in which tensors on a pretended GPU can be computed with, also under CUDA's autocast.

    Raises:
        ConfigError: If torch would end the process, see `can_pretend`.
    """
    if not can_pretend():
        raise ConfigError(
            f"torch {torch.__version__} cannot pretend a GPU on a machine without one; "
            "allowed: torch 2.10 or newer, or a machine with a GPU"
        )
    with ExitStack() as stack:
        if not torch.cuda.is_available():
            for name, value in (
                ("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
                ("torch.cuda.is_bf16_supported", lambda: True),
                ("torch.cuda._lazy_init", lambda: None),
            ):
                stack.enter_context(patch(name, value))
        stack.enter_context(_GPUFunctions())
        yield stack.enter_context(FakeCUDA())


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"
