"""Transformer blocks whose parts have roles; they adopt the parts of a loaded model under the names they have there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.layouts import Layout

Position = int | Tensor
"""Which one token of every sequence is meant: the same in all of them, or int64 `(N,)`."""


def pick(x: Tensor, at: Position | None) -> Tensor:
    """The tokens that are read of sequences.

    Args:
        x: Sequences `(N, L, D)`.
        at: Position of the one token that is read, or `None` for all.

    Returns:
        `(N, 1, D)`, or x itself.
    """
    if at is None:
        return x
    return x[:, at : at + 1] if isinstance(at, int) else x.gather(1, at.view(-1, 1, 1).expand(-1, -1, x.shape[-1]))


class Parts(nn.Module):
    """The parameters and parts of a loaded module under their own names, without its forward pass.

    A state dict of it has the keys of the loaded one, and both share their parameters.
    """

    def __init__(self, loaded: nn.Module) -> None:
        super().__init__()
        for name, parameter in loaded.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, part in loaded.named_children():
            self.add_module(name, part)
        self.training = loaded.training


class Attention(Parts):
    """Multi-head attention `softmax(q kᵀ / √d) v`, with the parameters of an `nn.MultiheadAttention`.

    Where the module has parts `query_norm` and `key_norm`, queries and keys pass through them before they become heads.

    Torch's own forward pass leaves the fused kernel when weights are frozen under autocast, which on a CPU makes
    bfloat16 several times slower than float32, and copies between its (L, N, D) and our (N, L, D).

    Args:
        loaded: The module whose parameters are adopted; the rest is taken from it too where it is an `Attention`.
        causal: Whether a token attends only to itself and to those before it.
        layer_scale: Factor on the output, which stays registered in the block.
    """

    in_proj_weight: Tensor
    in_proj_bias: Tensor | None
    out_proj: nn.Module
    query_norm: nn.Module
    key_norm: nn.Module
    heads: int
    causal: bool
    _layer_scale: tuple[nn.Module]

    def __init__(self, loaded: nn.Module, *, causal: bool = False, layer_scale: nn.Module | None = None) -> None:
        super().__init__(loaded)
        if "in_proj_bias" not in self._parameters:
            self.register_parameter("in_proj_bias", None)
        if isinstance(loaded, Attention):
            self.heads, self.causal, self._layer_scale = loaded.heads, loaded.causal, loaded._layer_scale
        else:
            heads: Any = loaded.num_heads
            self.heads, self.causal = heads, causal
            # In a tuple: registered twice, its parameter would be twice in the state dict.
            self._layer_scale = (layer_scale or nn.Identity(),)

    def packed(self) -> tuple[Tensor, Tensor | None]:
        """Weights `(3 D, D)` and biases `(3 D)` of queries, keys and values, in this order."""
        return self.in_proj_weight, self.in_proj_bias

    def project(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `(N, Q, D)` of x, keys and values `(N, L, D)` of the context; `None` takes x."""
        weight, bias = self.packed()
        if context is None:
            q, k, v = F.linear(x, weight, bias).chunk(3, dim=-1)
        else:
            width = len(weight) // 3
            of_queries, of_others = (None, None) if bias is None else (bias[:width], bias[width:])
            q = F.linear(x, weight[:width], of_queries)
            k, v = F.linear(context, weight[width:], of_others).chunk(2, dim=-1)
        return q, k, v

    def compared(self, q: Tensor, k: Tensor, at: Position | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Queries `(N, Q, H, d)` and keys `(N, L, H, d)` as their products are taken: here, as they are projected."""
        return q, k

    def output(self, mixed: Tensor) -> Tensor:
        """The output `(N, Q, D)` of values `(N, Q, D)` that attention has mixed, before the layer scale."""
        out: Tensor = self.out_proj(mixed)
        return out

    def attend(self, q: Tensor, k: Tensor, v: Tensor, at: Position | None = None) -> Tensor:
        """The output `(N, Q, D)` for queries, keys and values of `project`; see `forward` for `at`."""
        if "query_norm" in self._modules:
            q, k = self.query_norm(q), self.key_norm(k)
        mask = None
        if self.causal and at is not None:
            keys = torch.arange(k.shape[1], device=k.device)
            mask = (keys <= torch.as_tensor(at, device=k.device).view(-1, 1))[:, None, None]
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        q, k, v = (part.transpose(1, 2) for part in (*self.compared(q, k, at), v))
        causal = self.causal and mask is None
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        out: Tensor = self._layer_scale[0](self.output(mixed.transpose(1, 2).flatten(-2)))
        return out

    def forward(self, x: Tensor, context: Tensor | None = None, at: Position | None = None) -> Tensor:
        """Attention of x to a context.

        Args:
            x: Tokens `(N, Q, D)` that the queries are made of.
            context: Tokens `(N, L, D)` that keys and values are made of; `None` takes x.
            at: Position in the context of the only query, which causal attention and rotary positions need to know
                where Q is not L.

        Returns:
            `(N, Q, D)`.
        """
        return self.attend(*self.project(x, context), at)


class QuickGELU(nn.Module):
    """Quick GELU `x * sigmoid(1.702 x)` through the fused SiLU: fewer passes, one saved tensor instead of two."""

    def forward(self, x: Tensor) -> Tensor:
        """The activations, of the shape of x."""
        return F.silu(1.702 * x) / 1.702


class MLP(Parts):
    """The two linear maps of a CLIP block, `c_fc` and `c_proj`, around their activation `gelu`.

    Args:
        loaded: The module whose parts are adopted; the factor is taken from it too where it is an `MLP`.
        layer_scale: Factor on the output, which stays registered in the block.
    """

    c_fc: nn.Module
    gelu: nn.Module
    c_proj: nn.Module
    _layer_scale: tuple[nn.Module]

    def __init__(self, loaded: nn.Module, *, layer_scale: nn.Module | None = None) -> None:
        super().__init__(loaded)
        self._layer_scale = loaded._layer_scale if isinstance(loaded, MLP) else (layer_scale or nn.Identity(),)
        from open_clip.transformer import QuickGELU as LoadedQuickGELU  # late, see openclip.py

        if type(self.gelu) is LoadedQuickGELU:
            self.gelu = QuickGELU()

    def forward(self, x: Tensor) -> Tensor:
        """The output `(..., D)` for tokens `(..., D)`."""
        out: Tensor = self._layer_scale[0](self.c_proj(self.gelu(self.c_fc(x))))
        return out


class Block(Parts):
    """A pre-norm transformer block, `x + attention(norm1(x))` and then `x + mlp(norm2(x))`.

    Its parts are registered under the names of the model they were loaded from and reached by their roles, so that a
    method can write its own block as an equation and `Tower.replace` one by it; keys of the state dict stay. A part is
    exchanged by its role as well: `self.attention = LoRA(self.attention)`.

    Example:
        >>> class ResidualAdapterBlock(Block):
        ...     def __init__(self, loaded: Block, adapter: nn.Module) -> None:
        ...         super().__init__(loaded)
        ...         self.adapter = adapter
        ...
        ...     def forward(self, x, clip):
        ...         x = x + self.attention(self.norm1(x))
        ...         x = x + self.adapter(x)
        ...         return x + self.mlp(self.norm2(x))

    Args:
        loaded: The block whose parts are adopted.
        roles: Name in `loaded` of each role that has another name there; those of `loaded` where it is a `Block`.
    """

    roles: Mapping[str, str] = MappingProxyType({})
    norm1: nn.Module
    attention: nn.Module
    norm2: nn.Module
    mlp: nn.Module

    def __init__(self, loaded: nn.Module, roles: Mapping[str, str] | None = None) -> None:
        super().__init__(loaded)
        self.roles = dict(roles or (loaded.roles if isinstance(loaded, Block) else {}))

    @override
    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(self.roles.get(name, name))

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(self.roles.get(name, name), value)

    def forward(self, x: Tensor, clip: Layout) -> Tensor:  # noqa: ARG002 - for the blocks of methods
        """The block's output.

        Args:
            x: Tokens `(N, L, D)` in the order that the tower gives them.
            clip: Number of frames of the clips and the order of their tokens.

        Returns:
            `(N, L, D)`.
        """
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ReadOnceBlock(Block):
    """A last block of which one token of each sequence is read: queries and MLP of the others are left out."""

    @override
    def forward(self, x: Tensor, clip: Layout, at: Position | None = None) -> Tensor:
        """The block's output for the token at a position, `(N, 1, D)`, or for all tokens where it is `None`."""
        if at is None:
            return super().forward(x, clip)
        y = self.norm1(x)
        x = pick(x, at) + self.attention(pick(y, at), y, at)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def adopt_blocks(loaded: nn.ModuleList, *, causal: bool) -> nn.ModuleList:
    """Blocks with the parts of open_clip's `ResidualAttentionBlock`s; one token is read of the last one.

    Args:
        loaded: open_clip's blocks in order.
        causal: Whether a token attends only to itself and to those before it.
    """
    blocks = nn.ModuleList()
    part: Any
    for index, part in enumerate(loaded, start=1):
        kind = ReadOnceBlock if index == len(loaded) else Block
        block = kind(part, {"norm1": "ln_1", "attention": "attn", "norm2": "ln_2"})
        block.attention = Attention(part.attn, causal=causal, layer_scale=part.ls_1)
        block.mlp = MLP(part.mlp, layer_scale=part.ls_2)
        blocks.append(block)
    return blocks
