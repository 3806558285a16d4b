"""Transformer blocks of open_clip with less work: the same parameters, names and results."""

from __future__ import annotations

import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import pick


class Attention(nn.MultiheadAttention):
    """`nn.MultiheadAttention`, batch first, as linear maps around `scaled_dot_product_attention`.

    It takes the arguments that open_clip's blocks pass.

    torch's own forward leaves the fused kernel when weights are frozen under autocast, which on a CPU makes bfloat16
    several times slower than float32, and copies between its (L, N, D) and our (N, L, D).
    """

    @override
    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attention of `(N, Q, D)` to `(N, L, D)`; key and value have to be the same.

        Args:
            query, key, value: as above.
            need_weights: has to be false.
            attn_mask: added to the logits, `(Q, L)` or `(N, Q, L)`.
        """
        assert key is value
        assert not need_weights
        heads, width = self.num_heads, self.embed_dim
        if query is key:
            parts = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            q = F.linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width])
            parts = (q, *F.linear(key, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1))
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        if attn_mask is not None:
            attn_mask = attn_mask.to(q.dtype)  # autocast leaves the mask as it is
            attn_mask = attn_mask if attn_mask.ndim == 2 else attn_mask.unsqueeze(1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2)), None


class SmoothGate(QuickGELU):
    """Quick GELU, `x * sigmoid(1.702 x)`, through the fused SiLU: fewer passes, one saved tensor instead of two."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return F.silu(1.702 * x) / 1.702


class ReadOnce(ResidualAttentionBlock):
    """A last block of which one token of each sequence is read: the others' queries and MLP are left out."""

    @override
    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """The output `(N, 1, D)` for one token of each sequence `(N, L, D)`.

        Args:
            q_x: the sequences.
            k_x, v_x: as in open_clip's block; unused.
            attn_mask: added to the logits, `(L, L)`.
            at: position of that token, int64 `(N,)`; the first, the class token, where it is `None`.
        """
        normed = self.ln_1(q_x)
        if attn_mask is not None:
            attn_mask = attn_mask[:1] if at is None else attn_mask[at].unsqueeze(1)
        attended = self.attention(pick(normed, at), normed, normed, attn_mask=attn_mask)
        x = pick(q_x, at) + self.ls_1(attended)
        out: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return out


def economise(blocks: nn.ModuleList, *, read_once: bool) -> None:
    """Gives the blocks of a tower the classes above, in place; blocks of another kind stay as they are.

    Args:
        blocks: in order.
        read_once: whether one token of the last block's output is read.
    """
    # As torch's parametrizations do: another class, so that copies, hooks and the state dict go on working.
    for block in blocks:
        if type(block) is ResidualAttentionBlock:
            for part in block.modules():
                if type(part) is nn.MultiheadAttention:
                    part.__class__ = Attention
                elif type(part) is QuickGELU:
                    part.__class__ = SmoothGate
    if read_once and type(blocks[-1]) is ResidualAttentionBlock:
        blocks[-1].__class__ = ReadOnce
