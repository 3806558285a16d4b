"""Any CLIP ViT of open_clip as a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import BackboneIdentity, DualEncoder, FrameMajor, Tower, weights_digest
from vlbench.backbones.blocks import economise
from vlbench.backbones.text import TextTower
from vlbench.errors import CheckpointError, ConfigError


def create_clip(model: str, pretrained: str | None) -> nn.Module:
    """A model of open_clip by name.

    Raises:
        ConfigError: if open_clip does not know the name.
        CheckpointError: if the weights cannot be loaded.
    """
    if model not in open_clip.list_models():
        raise ConfigError(
            f"open_clip has no model {model!r}; `python -c 'import open_clip; print(open_clip.list_models())'` "
            "lists those it has, the usual ones here are ViT-B-32-quickgelu, ViT-B-16-quickgelu, ViT-L-14-quickgelu"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is not None and pretrained not in tags and not Path(pretrained).is_file():
        raise CheckpointError(
            f"pretrained is {pretrained!r}: neither a file nor a tag of {model}; tags: {', '.join(tags) or 'none'}"
        )
    try:
        created: nn.Module = open_clip.create_model(model, pretrained=pretrained, device=torch.get_default_device())
    except Exception as error:
        if pretrained is None:
            raise
        # open_clip passes on whatever its downloader or the state dict raised.
        raise CheckpointError(
            f"cannot load the weights {pretrained!r} of {model}: {error}. Without a network, give a file that "
            "holds them (pretrained: /path/to/weights)"
        ) from error
    return created


class CLIPEncoder(DualEncoder):
    """A CLIP of open_clip: frames are encoded one by one, texts with a causal mask.

    The model's blocks are changed to compute no more than is read here, so its own `encode_text` no longer works.

    Args:
        clip: the model.
        tokenizer: called with texts and `context_length`, gives int64 ids padded with 0.
        name: architecture, for the identity.
        pretrained: where the weights came from, for the identity.

    Raises:
        ConfigError: if the model is no CLIP with two transformers.
    """

    def __init__(self, clip: nn.Module, tokenizer: Any, *, name: str, pretrained: str | None) -> None:
        super().__init__()
        visual = clip.visual
        if not isinstance(clip, open_clip.CLIP) or not isinstance(visual, VisionTransformer):
            raise ConfigError(f"{name} is a {type(clip).__name__} with a {type(visual).__name__}; only CLIP ViTs work")
        if clip.text_pool_type not in ("argmax", "eos"):
            raise ConfigError(f"{name} pools its text by {clip.text_pool_type!r}; allowed: argmax, eos")
        self.clip = clip
        self.embed_dim = int(visual.output_dim)
        self.text_width = int(clip.transformer.width)
        self.image_size = int(visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size)
        economise(visual.transformer.resblocks, read_once=visual.attn_pool is None and visual.pool_type == "tok")
        economise(clip.transformer.resblocks, read_once=True)
        self._image = Tower(visual.transformer.resblocks, int(visual.transformer.width), FrameMajor())
        self._text = TextTower(clip, tokenizer, self._ends)
        for key, default in (("mean", open_clip.OPENAI_DATASET_MEAN), ("std", open_clip.OPENAI_DATASET_STD)):
            values = torch.tensor(getattr(visual, f"image_{key}", None) or default)
            self.register_buffer(key, values.view(3, 1, 1), persistent=False)
        self.identity = BackboneIdentity(name, pretrained, weights_digest(clip))

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
        visual = self.clip.visual
        assert isinstance(visual, nn.Module)
        return visual

    @property
    @override
    def logit_scale(self) -> nn.Parameter:
        scale = self.clip.logit_scale
        assert isinstance(scale, nn.Parameter)
        return scale

    @override
    def encode_frames(self, pixels: Tensor, *, visual: nn.Module | None = None) -> Tensor:
        batch, frames = pixels.shape[:2]
        layout = self._image.layout
        assert isinstance(layout, FrameMajor)
        layout.frames = frames
        features: Tensor = (visual or self.visual)(pixels.flatten(0, 1))
        frame_features: Tensor = features.unflatten(0, (batch, frames))
        return frame_features

    def _ends(self, tokens: Tensor) -> Tensor:
        if self.clip.text_pool_type == "argmax":  # the end token has the highest id
            return tokens.argmax(dim=-1)
        is_end: Tensor = tokens == self.clip.text_eos_id
        return is_end.int().argmax(dim=-1)

    @override
    def set_grad_checkpointing(self, enabled: bool) -> None:
        self.clip.visual.set_grad_checkpointing(enabled)


class OpenCLIP(CLIPEncoder):
    """Any CLIP ViT of open_clip.

    Args:
        model: architecture name, such as `ViT-B-16-quickgelu`. Weights trained by OpenAI need a `-quickgelu` name:
            under the plain name every activation would be another function.
        pretrained: tag of released weights (`openai`, `laion2b_s34b_b88k`, ...), a local file, or `None` for
            random weights.

    Raises:
        ConfigError: if the model is unknown or is no CLIP with two transformers.
        CheckpointError: if the weights cannot be loaded.
    """

    def __init__(self, model: str, pretrained: str | None = None) -> None:
        if pretrained == "openai" and model.startswith("ViT-") and not model.endswith("-quickgelu"):
            raise ConfigError(
                f"model is {model!r} with pretrained 'openai': these weights were trained with quick GELU; "
                f"use model: {model}-quickgelu"
            )
        super().__init__(
            create_clip(model, pretrained), open_clip.get_tokenizer(model), name=model, pretrained=pretrained
        )
