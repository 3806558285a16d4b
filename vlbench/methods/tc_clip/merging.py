"""Bipartite merging of tokens, by rounds: many tokens become few that stand for all of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def merge_rounds(tokens: int, count: int, at_once: int) -> list[int]:
    """Number of pairs that each round merges.

    Args:
        tokens: Number S of tokens at the beginning.
        count: Number k of tokens that are to be left.
        at_once: Largest number r of pairs of the first rounds, of which there are `(S - k) // r`.

    Example:
        >>> merge_rounds(928, 96, 100)
        [100, 100, 100, 100, 100, 100, 100, 100, 32]
    """
    rounds: list[int] = []
    full = max(0, tokens - count) // at_once
    while tokens > count:
        limit = at_once if len(rounds) < full else tokens - count
        pairs = min(limit, tokens // 2)
        rounds.append(pairs)
        tokens -= pairs
    return rounds


def merged(tokens: Tensor, count: int, at_once: int) -> Tensor:
    """Tokens `(B, k, D)` that stand for tokens `(B, S, D)`, whose order matters; those themselves where S is k or less.

    In a round, each token at an even position chooses the nearest one, by the cosine, at an odd position; the nearest
    pairs become one, the mean of all tokens that are in them. Then come the even tokens that are left, the nearest to
    another one first, and the odd ones. The choice has no gradient, the means have.

    Args:
        tokens: Tokens `(B, S, D)`.
        count: Number k of tokens that are left.
        at_once: Largest number of pairs of the first rounds, see `merge_rounds`.
    """
    with torch.autocast(tokens.device.type, enabled=False):  # bfloat16 would tie cosines
        merging = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        sizes = torch.ones_like(merging[..., :1])
        for pairs in merge_rounds(tokens.shape[1], count, at_once):
            merging, sizes = _merge(merging, sizes, pairs)
        return merging.to(tokens.dtype)


def _merge(tokens: Tensor, sizes: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Tokens `(B, S - pairs, D)` after a round, and how many each stands for, `(B, S - pairs, 1)`.

    Args:
        tokens: Tokens `(B, S, D)` before the round.
        sizes: Number of tokens that each stands for, `(B, S, 1)`.
        pairs: Number of pairs that become one.
    """
    with torch.no_grad():
        unit = F.normalize(tokens, dim=-1)
        nearness, partner = (unit[:, ::2] @ unit[:, 1::2].mT).max(dim=-1)
        order = nearness.argsort(dim=-1, descending=True)
        leaving, staying = order[:, :pairs], order[:, pairs:]
        odd = torch.arange(tokens.shape[1] // 2, device=tokens.device)
        # A product with zeros and ones adds up in the same order every time, unlike scatter_add on a GPU.
        joins = (odd[:, None] == partner.gather(1, leaving)[:, None]).to(tokens.dtype)  # (B, odd, pairs)
    sums = sizes * tokens
    joined = sums[:, 1::2] + joins @ _rows(sums[:, ::2], leaving)
    counts = sizes[:, 1::2] + joins @ _rows(sizes[:, ::2], leaving)
    left = torch.cat([_rows(tokens[:, ::2], staying), joined / counts], dim=1)
    return left, torch.cat([_rows(sizes[:, ::2], staying), counts], dim=1)


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    """Rows `(B, R, D)` of `(B, S, D)`."""
    return x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
