"""ViCLIP: CLIP's towers, with all patches of all frames attending to each other (InternVid, arXiv 2307.06942)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import IMAGENET_MEAN, IMAGENET_STD
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from vlbench.backbones.base import BackboneIdentity, DualEncoder, Layout, Tower, weights_digest
from vlbench.backbones.blocks import economise
from vlbench.backbones.weight_files import check_keys, read_released
from vlbench.backbones.text import TextTower
from vlbench.errors import CheckpointError, ConfigError

TemporalResizing = Literal["cut_or_pad", "interpolate"]


@dataclass(frozen=True)
class ViCLIPSizes:
    """Sizes of both towers.

    Attributes:
        embed_dim: D of the common space.
        image_size: side of a frame, in pixels.
        patch_size: side of a patch, in pixels.
        width, layers, heads: of the video tower.
        text_width, text_layers, text_heads: of the text tower.
        frames: length of the table of temporal positions.
        context: longest text, in tokens.
        vocabulary: number of tokens.
    """

    embed_dim: int
    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    frames: int = 8
    context: int = 32
    vocabulary: int = 49408


SIZES = {
    "ViCLIP-B-16": ViCLIPSizes(512, 224, 16, 768, 12, 12, 512, 12, 8),
    "ViCLIP-L-14": ViCLIPSizes(768, 224, 14, 1024, 24, 16, 768, 12, 12),
}
"""The released models."""


class Joint(Layout):
    """One sequence a clip: its class token, then the patches, frames inside: `(B, 1 + N·T, D)`.

    Two grids, `(B, 1, 1, D)` and `(B, T, N, D)`; only the first where the sequence is the class token alone.

    Attributes:
        frames: T of the clips now passing through; the encoder sets it.
    """

    def __init__(self) -> None:
        self.frames = 1

    @override
    def split(self, tokens: Tensor) -> list[Tensor]:
        token, patches = tokens[:, :1].unsqueeze(1), tokens[:, 1:]
        return [token, patches.unflatten(1, (-1, self.frames)).transpose(1, 2)] if patches.shape[1] else [token]

    @override
    def join(self, grids: Sequence[Tensor]) -> Tensor:
        token, *patches = grids
        return torch.cat([token.flatten(1, 2), *(grid.transpose(1, 2).flatten(1, 2) for grid in patches)], dim=1)


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        # Unlike CLIP's, these LayerNorms work in the type of their input.
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, act_layer=QuickGELU, norm_layer=nn.LayerNorm) for _ in range(layers)
        )
        economise(self.resblocks, read_once=True)


class _Vision(nn.Module):
    """The video tower; parameters have the released names."""

    def __init__(self, sizes: ViCLIPSizes, resizing: TemporalResizing) -> None:
        super().__init__()
        width, patch = sizes.width, sizes.patch_size
        self.resizing = resizing
        self.grad_checkpointing = False
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) / width**0.5)
        self.positional_embedding = nn.Parameter(torch.randn((sizes.image_size // patch) ** 2 + 1, width) / width**0.5)
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, sizes.frames, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _Transformer(width, sizes.layers, sizes.heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, sizes.embed_dim) / width**0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features `(B, D)` of clips `(B, T, 3, H, W)`."""
        x = self.conv1(pixels.transpose(1, 2)).flatten(3).transpose(1, 3)  # (B, N, T, D)
        x = (
            x
            + self.positional_embedding[1:, None]
            + temporal_positions(self.temporal_positional_embedding, pixels.shape[1], self.resizing)
        )
        token = (self.class_embedding + self.positional_embedding[0]).expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([token, x.flatten(1, 2)], dim=1))
        for block in self.transformer.resblocks:
            x = checkpoint(block, x, use_reentrant=False) if self.grad_checkpointing else block(x)
        features: Tensor = self.ln_post(x[:, 0]) @ self.proj
        return features


class _Text(nn.Module):
    """The text tower; parameters have the released names."""

    def __init__(self, sizes: ViCLIPSizes) -> None:
        super().__init__()
        width = sizes.text_width
        self.token_embedding = nn.Embedding(sizes.vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(torch.randn(sizes.context, width) * 0.01)
        self.transformer = _Transformer(width, sizes.text_layers, sizes.text_heads)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, sizes.embed_dim) / width**0.5)


class ViCLIP(DualEncoder):
    """ViCLIP of InternVid: one feature a clip, not one a frame.

    The class token and all patches of all frames attend jointly; each patch carries the position in its frame and the
    frame's position in the clip. Frames are normalised with ImageNet's constants; texts longer than 32 tokens are cut,
    as released. The random dropping of patches, which belongs to its pre-training, is left out.

    Args:
        model: `ViCLIP-B-16` or `ViCLIP-L-14`.
        pretrained: the released file, or what `vlbench weights import viclip` made of it; `None` for random weights.
        temporal_resizing: what becomes of the 8 temporal positions when clips have another number of frames:
            `cut_or_pad`, the first ones or zeros behind them, as released, or `interpolate`, linearly. One frame gets
            their mean.
        sizes: of a model that was not released.

    Raises:
        ConfigError: if the model is unknown.
        CheckpointError: if the weights cannot be read or do not fit.
    """

    def __init__(
        self,
        model: str = "ViCLIP-B-16",
        pretrained: str | None = None,
        temporal_resizing: TemporalResizing = "cut_or_pad",
        sizes: ViCLIPSizes | None = None,
    ) -> None:
        super().__init__()
        if sizes is None and model not in SIZES:
            raise ConfigError(f"model is {model!r}; allowed: {', '.join(SIZES)}, or any name with sizes")
        sizes = sizes or SIZES[model]
        self.embed_dim = sizes.embed_dim
        self.text_width = sizes.text_width
        self.image_size = sizes.image_size
        self.vision_encoder = _Vision(sizes, temporal_resizing)
        self.text_encoder = _Text(sizes)
        # Released as the temperature `temp`, 0.01; prediction divides cosines by it as well.
        self._logit_scale = nn.Parameter(torch.tensor(math.log(100.0)))
        if pretrained is not None:
            state = read_viclip(pretrained)
            check_keys(self.state_dict(), state, f"{pretrained} as {model}")
            self.load_state_dict(state)
        self._image = Tower(list(self.vision_encoder.transformer.resblocks), sizes.width, Joint())
        tokenizer = open_clip.get_tokenizer("ViT-B-32")
        self._text = TextTower(self.text_encoder, tokenizer, lambda tokens: tokens.argmax(dim=-1), truncate=True)
        for key, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(key, torch.tensor(default).view(3, 1, 1), persistent=False)
        self.identity = BackboneIdentity(model, pretrained, weights_digest(self))

    @property
    @override
    def image(self) -> Tower:
        return self._image

    @property
    @override
    def text(self) -> TextTower:
        return self._text

    @property
    @override
    def visual(self) -> nn.Module:
        return self.vision_encoder

    @property
    @override
    def logit_scale(self) -> nn.Parameter:
        return self._logit_scale

    @override
    def encode_frames(self, pixels: Tensor, *, visual: nn.Module | None = None) -> Tensor:
        layout = self._image.layout
        assert isinstance(layout, Joint)
        layout.frames = pixels.shape[1]
        features: Tensor = (visual or self.visual)(pixels)
        return features.unsqueeze(1)

    @override
    def set_grad_checkpointing(self, enabled: bool) -> None:
        self.vision_encoder.grad_checkpointing = enabled


def temporal_positions(table: Tensor, frames: int, resizing: TemporalResizing) -> Tensor:
    """Positions `(1, frames, D)` from the learned `(1, T, D)`; see `ViCLIP`."""
    length = table.shape[1]
    if frames == length:
        return table
    if frames == 1:
        return table.mean(dim=1, keepdim=True)
    if resizing == "interpolate":
        return F.interpolate(table.transpose(1, 2), frames, mode="linear", align_corners=False).transpose(1, 2)
    return table[:, :frames] if frames < length else F.pad(table, (0, 0, 0, frames - length))


def read_viclip(path: str | Path) -> dict[str, Tensor]:
    """A state dict for `ViCLIP`, float32, from the released file or an imported one.

    Raises:
        CheckpointError: if the file is missing, damaged or holds something else.
    """
    if str(path).endswith(".safetensors"):
        try:
            return {key: value.float() for key, value in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    content: Any = read_released(path)
    content = content.get("model", content)
    if not isinstance(content, dict) or not {"temp", "vision_encoder.proj", "text_encoder.text_projection"} <= set(
        content
    ):
        raise CheckpointError(
            f"{path} is no ViCLIP file: vision_encoder.proj, text_encoder.text_projection and temp are needed, "
            "below the key 'model' or by themselves"
        )
    state = {key: value.float() for key, value in content.items() if key != "temp"}
    return {**state, "_logit_scale": -content["temp"].float().log()}


def infer_sizes(state: dict[str, Tensor]) -> ViCLIPSizes:
    """The sizes these weights have; heads are 64 wide, as in the released models, for no weight tells their number.

    Raises:
        CheckpointError: naming every missing, unexpected and misshapen key.
    """

    def shape(key: str) -> torch.Size:
        if key not in state:
            raise CheckpointError(f"the ViCLIP file does not fit the model:\n  missing: {key}")
        return state[key].shape

    def layers(tower: str) -> int:
        return len({key.split(".")[3] for key in state if key.startswith(f"{tower}.transformer.resblocks.")})

    width, embed_dim = shape("vision_encoder.proj")
    patch = shape("vision_encoder.conv1.weight")[-1]
    positions = shape("vision_encoder.positional_embedding")[0] - 1
    context, text_width = shape("text_encoder.positional_embedding")
    sizes = ViCLIPSizes(
        embed_dim,
        math.isqrt(positions) * patch,
        patch,
        width,
        layers("vision_encoder"),
        max(1, width // 64),
        text_width,
        layers("text_encoder"),
        max(1, text_width // 64),
        shape("vision_encoder.temporal_positional_embedding")[1],
        context,
        shape("text_encoder.token_embedding.weight")[0],
    )
    with torch.device("meta"):
        check_keys(ViCLIP("these sizes", sizes=sizes).state_dict(), state, "the ViCLIP file")
    return sizes
