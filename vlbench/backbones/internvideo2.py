"""InternVideo2-CLIP, small family: a video tower that pools by attention, and MobileCLIP's text tower."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import Capabilities
from vlbench.backbones.identity import BackboneIdentity, weights_digest
from vlbench.backbones.image_sizes import check_image_size
from vlbench.backbones.internvideo2_parts import InternVideo2Sizes, PlainTokenizer, TemporalPositions, VideoParts
from vlbench.backbones.joint import JointEncoder
from vlbench.backbones.layouts import JointByFrame
from vlbench.backbones.preprocess import IMAGENET
from vlbench.backbones.text import TextTower, highest_id
from vlbench.backbones.towers import Tower
from vlbench.backbones.viclip_parts import TextParts
from vlbench.backbones.weight_files import check_keys, read_imported, read_tensors
from vlbench.errors import CheckpointError, ConfigError
from vlbench.settings import flat

SIZES = {
    "InternVideo2-CLIP-S-14": InternVideo2Sizes(512, 768, 224, 14, 384, 12, 6),
    "InternVideo2-CLIP-B-14": InternVideo2Sizes(512, 768, 224, 14, 768, 12, 12),
    "InternVideo2-CLIP-L-14": InternVideo2Sizes(512, 768, 224, 14, 1024, 24, 16),
}
"""The released models."""


class InternVideo2(JointEncoder):
    """InternVideo2-CLIP: one feature a clip, pooled from all tokens by attention.

    The class token and all patches of all frames attend jointly, behind root-mean-square norms; each patch has a
    position of its own in the clip. Frames are squashed to squares and normalised with ImageNet's constants; texts lose
    their punctuation, and those longer than 77 tokens are cut, as released.

    Args:
        model: Name of the model, such as `InternVideo2-CLIP-B-14`.
        pretrained: A released file that holds both towers, or what `vlbench weights import internvideo2` made of files;
            `None` for random weights.
        temporal_positions: What becomes of the positions when clips have another number of frames than the 8 they are
            for: `fixed`, such clips are refused, as released, or `interpolated`, linearly. One frame gets their mean.
        image_size: Side of the frames, in pixels; another than that of the weights has the positions interpolated, and
            `None` takes that of the weights.
        sizes: Sizes of a model that was not released.

    Raises:
        ConfigError: If the model is unknown.
        CheckpointError: If the weights cannot be read or do not fit.
    """

    capabilities = Capabilities(
        blocks=True, class_token=False, causal_text=True, frames_encoded_one_by_one=False, plain_attention=False
    )
    layout = JointByFrame

    def __init__(
        self,
        model: str = "InternVideo2-CLIP-B-14",
        pretrained: str | None = None,
        temporal_positions: TemporalPositions = "fixed",
        image_size: int | None = None,
        sizes: InternVideo2Sizes | None = None,
    ) -> None:
        super().__init__()
        if sizes is None and model not in SIZES:
            raise ConfigError(f"model is {model!r}; allowed: {', '.join(SIZES)}, or any name with sizes")
        sizes = sizes or SIZES[model]
        self.sizes = sizes
        self.temporal_positions = temporal_positions
        self.image_size = sizes.image_size if image_size is None else image_size
        check_image_size(self.image_size, sizes.patch_size, sizes.image_size)
        self.trained_size = sizes.image_size
        self.frames = sizes.frames
        self.embed_dim = sizes.embed_dim
        self.text_width = sizes.text_width
        self.vision_encoder = VideoParts(sizes, self.image_size // sizes.patch_size, temporal_positions)
        self.text_encoder = TextParts(
            sizes.embed_dim, sizes.text_width, sizes.text_layers, sizes.text_heads,
            context=sizes.context, vocabulary=sizes.vocabulary, activation=nn.GELU,
        )  # fmt: skip
        # Released as the temperature `temp`, at least 0.01.
        self._logit_scale = nn.Parameter(torch.tensor(math.log(100.0)))
        if pretrained is not None:
            state = read_internvideo2(pretrained)
            check_keys(self.state_dict(), state, f"{pretrained} as {model}")
            self.load_state_dict(state)
        self._image = Tower(self.vision_encoder.blocks, sizes.width)
        self._text = TextTower(self.text_encoder, PlainTokenizer(), highest_id, truncate=True)
        self.use_preprocess(replace(IMAGENET, resize_mode="squash"))
        self.identity = BackboneIdentity(model, pretrained, weights_digest(self.named_parameters()))

    @override
    def settings(self) -> dict[str, object]:
        options = {"temporal_positions": self.temporal_positions, "image_size": self.image_size, "long_texts": "cut"}
        return {**super().settings(), **options, **dict(flat("sizes", self.sizes))}


_TOWERS = ("vision_encoder.blocks.", "vision_align.", "text_encoder.transformer.")
"""Beginnings of keys without which a file is part of a model only."""

_KEYS = ("module", "model")
"""Keys that released files have their tensors below, or none of them."""

_NAMES = (
    (r"^temp$", "_logit_scale"),
    (r"^vision_align\.", "vision_encoder.align."),
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_encoder.conv1."),
    (r"^vision_encoder\.clip_projector\.(cross_attn\.)?", "vision_encoder.pooling."),
    (r"(pooling\.[qkv])_bias$", r"\1.bias"),
    (r"(vision_encoder\.blocks\.\d+\.)norm([12])\.", r"\1ln_\2."),
    (r"(vision_encoder\.blocks\.\d+\.)ls([12])\.", r"\1ls_\2."),
    (r"\.attn\.q_norm\.", ".attn.query_norm."),
    (r"\.attn\.k_norm\.", ".attn.key_norm."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"^text_encoder\.embedding_layer\.", "text_encoder.token_embedding."),
    (r"^text_encoder\.positional_embedding\.pos_embed\.pos_embed$", "text_encoder.positional_embedding"),
    (r"^text_encoder\.transformer\.(?=\d)", "text_encoder.transformer.resblocks."),
    (r"\.pre_norm_mha\.0\.", ".ln_1."),
    (r"\.pre_norm_mha\.1\.qkv_proj\.", ".attn.in_proj_"),
    (r"\.pre_norm_mha\.1\.out_proj\.", ".attn.out_proj."),
    (r"\.pre_norm_ffn\.0\.", ".ln_2."),
    (r"\.pre_norm_ffn\.1\.", ".mlp.c_fc."),
    (r"\.pre_norm_ffn\.4\.", ".mlp.c_proj."),
    (r"^text_encoder\.final_layer_norm\.", "text_encoder.ln_final."),
    (r"^text_encoder\.projection_layer$", "text_encoder.text_projection"),
)
"""Released names, in the order in which they become those of `InternVideo2`."""

_BASE = r"(cls_token|pos_embed|patch_embed\.|blocks\.|clip_projector\.)"
"""Beginnings of the keys that are taken of a file with the video tower alone; decoders and a head are left out."""


def read_internvideo2(
    path: str | Path, vision: str | Path | None = None, text: str | Path | None = None
) -> dict[str, Tensor]:
    """A state dict for `InternVideo2`, float32, from released files or an imported one.

    Args:
        path: Released file, which may hold only what its training changed, or an imported one.
        vision: Released file of the video tower that a partial one belongs to.
        text: Released file of the text tower that a partial one belongs to.

    Raises:
        CheckpointError: If a file is missing, damaged or holds something else, or a tower comes from no file.
    """
    if str(path).endswith(".safetensors"):
        return read_imported(path)
    released: dict[str, Tensor] = {}
    if vision is not None:
        released |= {
            f"vision_encoder.{key}": value
            for key, value in read_tensors(vision, *_KEYS).items()
            if re.match(_BASE, key)
        }
    if text is not None:
        released |= {key: value for key, value in read_tensors(text, *_KEYS).items() if key.startswith("text_encoder.")}
    released |= read_tensors(path, *_KEYS)
    lacking = [start for start in _TOWERS if not any(key.startswith(start) for key in released)]
    if lacking or "temp" not in released:
        raise CheckpointError(
            f"{path} holds no whole InternVideo2-CLIP: {', '.join(f'{start}*' for start in lacking) or 'temp'} is "
            "missing; a file of a training holds what trained, and `vlbench weights import internvideo2` takes the "
            "files it started from as --vision and --text"
        )
    state = {_renamed(key): value.float() for key, value in released.items()}
    state["_logit_scale"] = -state["_logit_scale"].clamp(min=0.01).log()
    positions = "text_encoder.positional_embedding"
    return {key: value.flatten(0, -2) if key == positions else value for key, value in state.items()}


def _renamed(key: str) -> str:
    for pattern, name in _NAMES:
        key = re.sub(pattern, name, key)
    return key


def released_model(state: Mapping[str, Tensor]) -> str | None:
    """The name of the released model that weights are of; `None` where none has their width.

    Args:
        state: State dict for `InternVideo2`.

    Raises:
        CheckpointError: If they are as wide as one and do not fit it; names the first keys that do not.
    """
    widths = {sizes.width: name for name, sizes in SIZES.items()}
    name = widths.get(len(state.get("vision_encoder.conv1.weight", ())))
    if name is not None:
        with torch.device("meta"):
            check_keys(InternVideo2(name).state_dict(), state, f"the file as {name}")
    return name
