"""The parts of timm's transformers in their roles; parameters keep the names that timm gives them.

What is random in training, the dropping of paths, belongs to a pre-training and is left out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Attention, Block, Parts, Position, ReadOnceBlock
from vlbench.backbones.towers import Tower


class Rotary(nn.Module):
    """Rotary positions: pairs of a head's channels are turned by angles that a patch's row and column give.

    Tokens before the patches, such as a class token, are not turned, nor are tokens that a method puts behind them. The
    two halves of the pairs come out one behind the other: products of queries and keys depend on no order of channels.

    Args:
        loaded: Rotary embedding of timm with the angles of a frame's patches.
        prefix: Number of tokens before the patches.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, loaded: Any, prefix: int) -> None:
        super().__init__()
        sin, cos = loaded.get_embed()[:, None].chunk(2, dim=-1)  # (N, 1, d), each angle twice
        self.register_buffer("cos", _unturned(cos[..., ::2], before=prefix, value=1), persistent=False)
        self.register_buffer("sin", _unturned(sin[..., ::2], before=prefix, value=0), persistent=False)

    def forward(self, x: Tensor, at: Position | None = None) -> Tensor:
        """Turned queries or keys.

        Args:
            x: Queries or keys `(N, L, H, d)`.
            at: Position of the only token; `None` where they are all of a sequence.

        Returns:
            `(N, L, H, d)`.
        """
        behind = x.shape[1] - len(self.cos) if at is None else 0
        cos, sin = (
            _unturned(table, behind=behind, value=value) if at is None else _rows(table, at)
            for table, value in ((self.cos, 1), (self.sin, 0))
        )
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def _unturned(table: Tensor, *, before: int = 0, behind: int = 0, value: float) -> Tensor:
    """A table `(N, 1, d/2)` with rows of one value before and behind it."""
    return F.pad(table, (0, 0, 0, 0, before, behind), value=value) if before or behind else table


def _rows(table: Tensor, at: Position) -> Tensor:
    """The rows of a table `(N, 1, d/2)` at one position, `(1, 1, d/2)`, or at one of each sequence."""
    return table[at : at + 1] if isinstance(at, int) else table[at][:, None]


class TimmAttention(Attention):
    """Attention with the parameters of timm's: projected together or apart, rotary positions, norms of heads.

    Args:
        loaded: The module whose parameters are adopted; the rest is taken from it too where it is a `TimmAttention`.
        layer_scale: Factor on the output, which stays registered in the block.
        rotary: Rotary positions, which stay registered in the trunk; `None` where there are none.
    """

    _rotary: tuple[Rotary | None]

    def __init__(
        self, loaded: nn.Module, *, layer_scale: nn.Module | None = None, rotary: Rotary | None = None
    ) -> None:
        super().__init__(loaded, layer_scale=layer_scale)
        self._rotary = loaded._rotary if isinstance(loaded, TimmAttention) else (rotary,)

    @override
    def packed(self) -> tuple[Tensor, Tensor | None]:
        parts: Any = self
        bias = parts.qkv.bias
        if "q_bias" in self._parameters:  # EVA's keys have none
            bias = torch.cat([parts.q_bias, torch.zeros_like(parts.q_bias), parts.v_bias])
        return parts.qkv.weight, bias

    @override
    def project(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if "qkv" in self._modules:
            return super().project(x, context)
        parts: Any = self
        context = x if context is None else context
        return parts.q_proj(x), parts.k_proj(context), parts.v_proj(context)

    @override
    def compared(self, q: Tensor, k: Tensor, at: Position | None) -> tuple[Tensor, Tensor]:
        parts: Any = self
        q, k = parts.q_norm(q), parts.k_norm(k)
        (rotary,) = self._rotary
        return (q, k) if rotary is None else (rotary(q, at), rotary(k))

    @override
    def output(self, mixed: Tensor) -> Tensor:
        parts: Any = self
        out: Tensor = parts.proj(parts.norm(mixed))
        return out


class ScaledMLP(Parts):
    """The two linear maps `fc1` and `fc2` of timm's MLP around their activation `act`, and a factor on the output.

    Args:
        loaded: The module whose parts are adopted; the factor is taken from it too where it is a `ScaledMLP`.
        layer_scale: Factor on the output, which stays registered in the block.
    """

    _layer_scale: tuple[nn.Module]

    def __init__(self, loaded: nn.Module, *, layer_scale: nn.Module | None = None) -> None:
        super().__init__(loaded)
        self._layer_scale = loaded._layer_scale if isinstance(loaded, ScaledMLP) else (layer_scale or nn.Identity(),)

    def forward(self, x: Tensor) -> Tensor:
        """The output `(..., D)` for tokens `(..., D)`."""
        parts: Any = self
        out: Tensor = self._layer_scale[0](parts.fc2(parts.act(parts.fc1(x))))
        return out


class TimmImage(Parts):
    """A transformer of timm before and after its blocks: patches and positions, pooling and projection.

    Args:
        loaded: open_clip's module around timm's, whose parts are adopted.

    Attributes:
        read: Position of the token that the feature is read from; `None` where all are pooled.
    """

    trunk: nn.Module
    head: nn.Module
    read: int | None

    def __init__(self, loaded: Any) -> None:
        super().__init__(loaded)
        source = loaded.trunk
        trunk: Any = Parts(source)
        self.trunk = trunk
        prefix = int(source.num_prefix_tokens)
        rotary = None
        if getattr(source, "rope", None) is not None:
            rotary = trunk.rope = Rotary(source.rope, prefix)
        trunk.blocks = _adopt_blocks(source.blocks, rotary)
        self.width = int(source.embed_dim)
        self.read = 0 if source.global_pool == "token" else None
        self._prefix = tuple(name for name in ("cls_token", "reg_token") if name in trunk._parameters)
        self._positions_of_patches = bool(source.no_embed_class)
        # An Eva pools what a query asks of all tokens, and the mean of the patches.
        with_prefix = getattr(source, "pool_include_prefix", source.attn_pool is not None)
        self._first_pooled = 0 if with_prefix else prefix

    def tower(self) -> Tower:
        """The blocks of the trunk."""
        trunk: Any = self.trunk
        return Tower(trunk.blocks, self.width, norm=trunk.norm_pre)

    def embed(self, frames: Tensor, further: Tensor | None = None) -> Tensor:
        """Tokens of frames before the first block.

        Args:
            frames: Normalised frames `(B, 3, H, W)`.
            further: Further positions `(B, 1, D)`, added to all tokens of a frame; `None` adds none.

        Returns:
            `(B, P + N, D)`, P before the patches, such as a class token, and patches.
        """
        trunk: Any = self.trunk
        x = trunk.patch_embed(frames)  # (B, N, D)
        prefix = [getattr(trunk, name).expand(x.shape[0], -1, -1) for name in self._prefix]
        positions = trunk._parameters.get("pos_embed", 0)
        if self._positions_of_patches:
            x = torch.cat([*prefix, x + positions], dim=1)
        else:
            x = (torch.cat([*prefix, x], dim=1) if prefix else x) + positions
        if further is not None:
            x = x + further.to(x.dtype)
        tokens: Tensor = trunk.norm_pre(x)
        return tokens

    def project(self, x: Tensor) -> Tensor:
        """Features `(B, D)` of the tokens after the last block, `(B, 1, D)` where one is read."""
        trunk: Any = self.trunk
        x = trunk.norm(x)
        if self.read is not None:
            x = x.squeeze(1)
        else:
            x = x[:, self._first_pooled :]
            x = trunk.attn_pool(x) if "attn_pool" in trunk._modules else x.mean(dim=1)
        features: Tensor = self.head(trunk.head(trunk.fc_norm(x)))
        return features


def _adopt_blocks(loaded: nn.Module, rotary: Rotary | None) -> nn.ModuleList:
    """Blocks with the parts of timm's; where one token is read, the last one computes no other."""
    blocks = nn.ModuleList()
    parts: list[Any] = list(loaded.children())
    for index, part in enumerate(parts, start=1):
        kind = ReadOnceBlock if index == len(parts) else Block
        block = kind(part, {"attention": "attn"})
        block.attention = TimmAttention(part.attn, layer_scale=getattr(part, "ls1", None), rotary=rotary)
        scale = getattr(part, "ls2", None)
        if scale is not None and not isinstance(scale, nn.Identity):
            block.mlp = ScaledMLP(part.mlp, layer_scale=scale)
        blocks.append(block)
    return blocks
