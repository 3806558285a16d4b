"""Attention whose projections have low-rank terms (LoRA, arXiv 2106.09685, as in CLIP-LoRA, arXiv 2405.18541)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.blocks import Attention, Block, Parts, ReadOnceBlock


class LowRank(nn.Module):
    """The term `s B A drop(x)` of a linear map; A is Kaiming uniform at the beginning and B is 0.

    Args:
        width: Width D of what goes in and comes out.
        rank: Rank r of the term.
        scale: Factor s on the term.
        dropout: Part of the values of x that training sets to 0, in [0, 1).

    Attributes:
        merged: Whether the term is part of the map's weights at the moment, and is not to be added.
    """

    def __init__(self, width: int, rank: int, *, scale: float, dropout: float) -> None:
        super().__init__()
        self.scale = scale
        self.merged = False
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(width, rank, bias=False)  # torch begins with Kaiming uniform, a² = 5
        self.up = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def added(self, out: Tensor, x: Tensor) -> Tensor:
        """Output `(..., D)` of the map for tokens x with the term, of that without it."""
        return out if self.merged else out + self.up(self.scale * self.down(self.dropout(x)))

    def matrix(self) -> Tensor:
        """The term as a matrix `s B A`, `(D, D)`."""
        return self.scale * self.up.weight @ self.down.weight


class LowRankLinear(Parts):
    """A linear map with a low-rank term: `W x + b + s B A drop(x)`.

    Args:
        loaded: The linear map whose weights are adopted.
        low_rank: Low-rank term of the map.
    """

    weight: Tensor
    bias: Tensor
    low_rank: LowRank

    def __init__(self, loaded: nn.Module, low_rank: LowRank) -> None:
        super().__init__(loaded)
        self.low_rank = low_rank

    def forward(self, x: Tensor) -> Tensor:
        """The output `(..., D)` for tokens `(..., D)`."""
        return self.low_rank.added(F.linear(x, self.weight, self.bias), x)


class LowRankAttention(Attention):
    """Attention with low-rank terms on some of its projections.

    Args:
        loaded: The attention whose parameters are adopted.
        parts: Projections with a term: a string of `q`, `k`, `v` and `o`, the output's.
        rank: Rank r of the terms.
        scale: Factor s on the terms.
        dropout: Part of the values of a term's input that training sets to 0, in [0, 1).

    Attributes:
        low_rank: Terms on queries, keys and values, by their letters.
    """

    def __init__(self, loaded: Attention, *, parts: str, rank: int, scale: float, dropout: float) -> None:
        super().__init__(loaded)
        width = self.in_proj_weight.shape[1]

        def term() -> LowRank:
            return LowRank(width, rank, scale=scale, dropout=dropout)

        self.low_rank = nn.ModuleDict({part: term() for part in "qkv" if part in parts})
        if "o" in parts:
            self.out_proj = LowRankLinear(self.out_proj, term())

    def terms(self) -> dict[str, LowRank]:
        """The terms by the letters of their projections."""
        terms = {part: term for part, term in self.low_rank.items() if isinstance(term, LowRank)}
        return {**terms, "o": self.out_proj.low_rank} if isinstance(self.out_proj, LowRankLinear) else terms

    @override
    def project(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().project(x, context)
        context = x if context is None else context
        terms = self.terms()
        q = terms["q"].added(q, x) if "q" in terms else q
        k = terms["k"].added(k, context) if "k" in terms else k
        v = terms["v"].added(v, context) if "v" in terms else v
        return q, k, v

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside, the terms are part of the weights, `W + s B A`; then the weights are the same ones as before."""
        terms = self.terms()
        originals: list[tuple[nn.Module, str, Tensor]] = [(self, "in_proj_weight", self.in_proj_weight)]
        with torch.no_grad(), torch.autocast(self.in_proj_weight.device.type, enabled=False):
            thirds = zip("qkv", self.in_proj_weight.chunk(3), strict=True)
            merged = [torch.cat([third + terms[part].matrix() if part in terms else third for part, third in thirds])]
            if isinstance(self.out_proj, LowRankLinear):
                originals.append((self.out_proj, "weight", self.out_proj.weight))
                merged.append(self.out_proj.weight + terms["o"].matrix())
        try:
            for (module, name, _), weight in zip(originals, merged, strict=True):
                setattr(module, name, nn.Parameter(weight, requires_grad=False))
            for term in terms.values():
                term.merged = True
            yield
        finally:
            for module, name, weight in originals:
                setattr(module, name, weight)
            for term in terms.values():
                term.merged = False


class LowRankBlock(ReadOnceBlock):
    """A block whose attention has low-rank terms.

    Args:
        loaded: The block whose parts are adopted.
        parts: Projections with a term: a string of `q`, `k`, `v` and `o`.
        rank: Rank r of the terms.
        scale: Factor s on the terms.
        dropout: Part of the values of a term's input that training sets to 0, in [0, 1).
    """

    def __init__(self, loaded: Block, *, parts: str, rank: int, scale: float, dropout: float) -> None:
        super().__init__(loaded)
        assert isinstance(self.attention, Attention)
        self.attention = LowRankAttention(self.attention, parts=parts, rank=rank, scale=scale, dropout=dropout)
