"""MoTE's temporal head: a transformer over time whose MLPs are mixtures of temporal experts (arXiv 2410.10589)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlbench.errors import ConfigError

TAUS = (-9.6, -4.8, -2.4, -1.2, -0.6, 0.6, 1.2, 2.4, 4.8, 9.6, math.inf)
"""Temperatures of weight merging; infinity merges uniformly, negative ones favour the first experts."""

Route = int | Tensor
"""How one layer uses its experts: the index of one, or weights `(E,)` that merge them."""


MLPWeights = tuple[Tensor, Tensor, Tensor, Tensor]
"""Weights of an MLP: up weight `(4C, C)` and bias, down weight `(C, 4C)` and bias."""


def quick_gelu(x: Tensor) -> Tensor:
    """`x * sigmoid(1.702 x)`, CLIP's activation."""
    return x * torch.sigmoid(1.702 * x)


def expert_probabilities(experts: int) -> Tensor:
    """Probabilities `(E,)` that training draws an expert with: softmax(1, ..., E)."""
    return torch.arange(1, experts + 1, dtype=torch.float32).softmax(dim=0)


def merge_weights(experts: int, tau: float) -> Tensor:
    """Weights `(E,)` of the merged branch: softmax([1, ..., E] / tau)."""
    return (torch.arange(1, experts + 1, dtype=torch.float32) / tau).softmax(dim=0)


class ExpertMLP(nn.Module):
    """E parallel MLPs of which one, or a merge of all in weight space, is computed.

    Args:
        width: Width C of the frame features.
        experts: Number E of experts.
    """

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.mote_fusion_weight = nn.Parameter(torch.zeros(experts), requires_grad=False)
        self.fc_up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(experts))
        self.fc_dn = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(experts))

    def evaluation_route(self) -> Tensor:
        """Weights `(E,)` used outside training: softmax of the fusion weight, which stays zero, so the uniform mean."""
        return self.mote_fusion_weight.softmax(dim=0)

    def merged(self, weights: Tensor) -> MLPWeights:
        """Up weight `(4C, C)` and bias, down weight `(C, 4C)` and bias of the merged expert."""

        def merge(layers: nn.ModuleList, name: str) -> Tensor:
            stacked = torch.stack([getattr(layer, name) for layer in layers])
            return torch.einsum("e,e...->...", weights.to(stacked), stacked)

        up, down = self.fc_up, self.fc_dn
        return merge(up, "weight"), merge(up, "bias"), merge(down, "weight"), merge(down, "bias")

    def weights(self, route: Route) -> MLPWeights:
        """Weights of the expert that a route names, or of the merged one."""
        if isinstance(route, Tensor):
            return self.merged(route)
        up, down = self.fc_up[route], self.fc_dn[route]
        return up.weight, up.bias, down.weight, down.bias  # type: ignore[return-value]

    def plain(self) -> PlainMLP:
        """The merged expert that evaluation uses, as an MLP that does not train."""
        up_weight, up_bias, down_weight, down_bias = self.merged(self.evaluation_route())
        mlp = PlainMLP(up_weight.shape[1], device="meta")  # which draws no random numbers
        for layer, weight, bias in ((mlp.c_fc, up_weight, up_bias), (mlp.c_proj, down_weight, down_bias)):
            layer.weight, layer.bias = (nn.Parameter(value, requires_grad=False) for value in (weight, bias))
        return mlp


class PlainMLP(nn.Module):
    """The MLP without experts: the released code's baseline, and what merged experts become.

    Args:
        width: Width C of the frame features.
        device: Device of the weights; `None` is torch's default.
    """

    def __init__(self, width: int, device: str | None = None) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, device=device)
        self.c_proj = nn.Linear(4 * width, width, device=device)

    def weights(self, route: Route) -> MLPWeights:  # noqa: ARG002 - there is one
        """Weights of the MLP."""
        return self.c_fc.weight, self.c_fc.bias, self.c_proj.weight, self.c_proj.bias


class TemporalBlock(nn.Module):
    """Pre-norm attention over time, then the (mixture) MLP."""

    def __init__(self, width: int, heads: int, experts: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-12)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-12)
        self.mlp = ExpertMLP(width, experts) if experts else PlainMLP(width)

    def forward(self, x: Tensor, weights: MLPWeights) -> Tensor:
        """The output `(B, T, C)` for frame features x, the MLP having the given weights."""
        up_weight, up_bias, down_weight, down_bias = weights
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = quick_gelu(F.linear(self.ln_2(x), up_weight, up_bias))
        return x + F.linear(y, down_weight, down_bias)


class _Blocks(nn.Module):
    """Holds the blocks under the released checkpoints' names."""

    def __init__(self, width: int, heads: int, layers: int, experts: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(TemporalBlock(width, heads, experts) for _ in range(layers))


class TemporalHead(nn.Module):
    """The transformer over frame features.

    Args:
        width: Width C of the frame features.
        heads: Attention heads; MoTE has (text width) / 64.
        layers: Number L of blocks; 4 for ViT-B/16, 6 for ViT-L/14.
        experts: Number E of experts a block; 0 gives plain MLPs.
        positions: Number of learned frame positions; the released code has the text context's length.

    Attributes:
        merge_table: Merging weights `(temperatures, E)`, a row for each of `TAUS`.

    Raises:
        ConfigError: If the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, layers: int, experts: int, positions: int = 77) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"the temporal head has width {width} and {heads} heads; heads must divide the width")
        self.experts = experts
        self.frame_position_embeddings = nn.Embedding(positions, width)
        self.transformer = _Blocks(width, heads, layers, experts)
        # On the device before training begins: a step copies nothing to it but the batch.
        table = torch.stack([merge_weights(experts, tau) for tau in TAUS])
        self.register_buffer("merge_table", table, persistent=False)
        self.merge_table: Tensor
        self.apply(self._initialize)

    @staticmethod
    def _initialize(module: nn.Module) -> None:
        """Normal(0, 0.02) weights, zero biases; every expert gets its own draw."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.MultiheadAttention):
            nn.init.normal_(module.in_proj_weight, std=0.02)
            nn.init.zeros_(module.in_proj_bias)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def compile_blocks(self) -> None:
        """Has torch.compile compile the blocks, in place; the choice of experts stays outside, it is another a step."""
        for block in self.transformer.resblocks:
            block.compile()

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.transformer.resblocks)

    def evaluation_routes(self) -> list[Route]:
        """The merge of every layer outside training."""
        mlps = [block.mlp for block in self.transformer.resblocks]
        return [mlp.evaluation_route() if isinstance(mlp, ExpertMLP) else 0 for mlp in mlps]

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside, each layer has the merge of its experts as one plain MLP; then it has its experts again."""
        layers = [(block, block.mlp) for block in self.transformer.resblocks if isinstance(block.mlp, ExpertMLP)]
        try:
            with torch.no_grad(), torch.autocast(self.merge_table.device.type, enabled=False):
                for block, mlp in layers:
                    block.mlp = mlp.plain()
            yield
        finally:
            for block, mlp in layers:
                block.mlp = mlp

    def draw_experts(self, generator: torch.Generator) -> list[Route]:
        """One expert a layer for the whole batch, from softmax(1, ..., E)."""
        if not self.experts:
            return [0] * self.layers
        probabilities = expert_probabilities(self.experts)
        return torch.multinomial(probabilities, self.layers, replacement=True, generator=generator).tolist()

    def draw_merges(self, generator: torch.Generator) -> list[Route]:
        """Merging weights of one random temperature a layer."""
        if not self.experts:
            return [0] * self.layers
        picks = torch.randint(len(TAUS), (self.layers,), generator=generator).tolist()
        return [self.merge_table[pick] for pick in picks]

    def forward(self, frames: Tensor, routes: Sequence[Route], factor: Tensor | None = None) -> Tensor:
        """Adds the temporal output to the frame features.

        Args:
            frames: Frame features x, `(B, T, C)`.
            routes: Route of each layer, in order.
            factor: Modulation `(B,)` of the temporal output, 1 if absent.

        Returns:
            `x + factor * y`, `(B, T, C)`, where y, the blocks' output, itself contains x.

        Raises:
            ConfigError: If there are more frames than positions.
        """
        length, positions = frames.shape[1], self.frame_position_embeddings.num_embeddings
        if length > positions:
            raise ConfigError(f"a clip has {length} frames; the temporal head has {positions} positions")
        y = frames + self.frame_position_embeddings.weight[:length]
        block: TemporalBlock
        for block, route in zip(self.transformer.resblocks, routes, strict=True):  # type: ignore[assignment]
            y = block(y, block.mlp.weights(route))
        if factor is not None:
            y = factor[:, None, None] * y
        return frames + y


def modulation(
    video: Tensor, test_classes: Tensor, train_classes: Tensor, *, scale: float = 0.05, k: int = 5
) -> Tensor:
    """Temporal feature modulation: how much of the temporal output a video on these classes keeps.

    `exp(-(1 - s) / scale)`, s being the mean, over the k test classes nearest to the video, of their largest cosine to
    the k training classes nearest to it.

    Args:
        video: Unit mean frame features `(B, C)`.
        test_classes: Unit class features `(n, C)`.
        train_classes: Unit class features `(m, C)`.
        scale: 0.05 in the paper.
        k: 5 in the paper; clipped to the number of classes on either side, where the released code fails below five.

    Returns:
        `(B,)`, in (0, 1].
    """
    nearest_test = test_classes[(video @ test_classes.T).topk(min(k, len(test_classes))).indices]
    nearest_train = train_classes[(video @ train_classes.T).topk(min(k, len(train_classes))).indices]
    similarity = torch.einsum("bgc,bsc->bgs", nearest_test, nearest_train).amax(dim=2).mean(dim=1)
    return torch.exp(-(1 - similarity) / scale)
