"""ViCLIP: CLIP's towers, with all patches of all frames attending to each other (InternVid, arXiv 2307.06942)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import Capabilities
from vlbench.backbones.identity import BackboneIdentity, weights_digest
from vlbench.backbones.image_sizes import check_image_size
from vlbench.backbones.joint import JointEncoder
from vlbench.backbones.layouts import Joint
from vlbench.backbones.preprocess import IMAGENET
from vlbench.backbones.text import TextTower, highest_id
from vlbench.backbones.towers import Tower
from vlbench.backbones.viclip_parts import TemporalResizing, TextParts, ViCLIPSizes, VideoParts
from vlbench.backbones.weight_files import check_keys, read_imported, read_released
from vlbench.errors import CheckpointError, ConfigError
from vlbench.settings import flat

SIZES = {
    "ViCLIP-B-16": ViCLIPSizes(512, 224, 16, 768, 12, 12, 512, 12, 8),
    "ViCLIP-L-14": ViCLIPSizes(768, 224, 14, 1024, 24, 16, 768, 12, 12),
}
"""The released models."""


class ViCLIP(JointEncoder):
    """ViCLIP of InternVid: one feature a clip, not one a frame.

    The class token and all patches of all frames attend jointly; each patch carries the position in its frame and the
    frame's position in the clip. Frames are normalised with ImageNet's constants; texts longer than 32 tokens are cut,
    as released. The random dropping of patches, which belongs to its pre-training, is left out.

    Args:
        model: Name of the model, `ViCLIP-B-16` or `ViCLIP-L-14`.
        pretrained: The released file, or what `vlbench weights import viclip` made of it; `None` for random weights.
        temporal_resizing: What becomes of the 8 temporal positions when clips have another number of frames:
            `cut_or_pad`, the first ones or zeros behind them, as released, or `interpolate`, linearly. One frame gets
            their mean.
        image_size: Side of the frames, in pixels; another than that of the weights has the positions interpolated, and
            `None` takes that of the weights.
        sizes: Sizes of a model that was not released.

    Raises:
        ConfigError: If the model is unknown, or patches do not divide the frames.
        CheckpointError: If the weights cannot be read or do not fit.
    """

    capabilities = Capabilities(blocks=True, class_token=True, causal_text=True, frames_encoded_one_by_one=False)
    layout = Joint
    read = 0

    def __init__(
        self,
        model: str = "ViCLIP-B-16",
        pretrained: str | None = None,
        temporal_resizing: TemporalResizing = "cut_or_pad",
        image_size: int | None = None,
        sizes: ViCLIPSizes | None = None,
    ) -> None:
        import open_clip  # late, see openclip.py

        super().__init__()
        self.temporal_resizing = temporal_resizing
        if sizes is None and model not in SIZES:
            raise ConfigError(f"model is {model!r}; allowed: {', '.join(SIZES)}, or any name with sizes")
        sizes = sizes or SIZES[model]
        self.sizes = sizes
        self.embed_dim = sizes.embed_dim
        self.text_width = sizes.text_width
        self.image_size = sizes.image_size if image_size is None else image_size
        check_image_size(self.image_size, sizes.patch_size, sizes.image_size)
        self.trained_size = sizes.image_size
        self.frames = sizes.frames
        self.vision_encoder = VideoParts(sizes, self.image_size // sizes.patch_size, temporal_resizing)
        self.text_encoder = TextParts(
            sizes.embed_dim, sizes.text_width, sizes.text_layers, sizes.text_heads,
            context=sizes.context, vocabulary=sizes.vocabulary,
        )  # fmt: skip
        # Released as the temperature `temp`, 0.01; prediction divides cosines by it as well.
        self._logit_scale = nn.Parameter(torch.tensor(math.log(100.0)))
        if pretrained is not None:
            state = read_viclip(pretrained)
            check_keys(self.state_dict(), state, f"{pretrained} as {model}")
            self.load_state_dict(state)
        self._image = Tower(self.vision_encoder.transformer.resblocks, sizes.width)
        tokenizer = open_clip.get_tokenizer("ViT-B-32")
        self._text = TextTower(self.text_encoder, tokenizer, highest_id, truncate=True)
        self.use_preprocess(IMAGENET)
        self.identity = BackboneIdentity(model, pretrained, weights_digest(self.named_parameters()))

    @override
    def settings(self) -> dict[str, object]:
        options = {"temporal_resizing": self.temporal_resizing, "image_size": self.image_size, "long_texts": "cut"}
        return {**super().settings(), **options, **dict(flat("sizes", self.sizes))}


def read_viclip(path: str | Path) -> dict[str, Tensor]:
    """A state dict for `ViCLIP`, float32, from the released file or an imported one.

    Raises:
        CheckpointError: If the file is missing, damaged or holds something else.
    """
    if str(path).endswith(".safetensors"):
        return read_imported(path)
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
        CheckpointError: If they lack a key, or do not fit; names the first missing, unexpected and misshapen keys.
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
