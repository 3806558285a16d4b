"""Any CLIP ViT of open_clip as a backbone.

The library is imported where a model is built: that takes a fifth of the time that the command line needs to answer.
(jsonargparse executes what is imported for types alone, so not even these name its classes.)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import Capabilities, DualEncoder
from vlbench.backbones.blocks import Parts, adopt_blocks
from vlbench.backbones.identity import BackboneIdentity, weights_digest
from vlbench.backbones.layouts import FrameMajor
from vlbench.backbones.text import TextTower, first_id, highest_id
from vlbench.backbones.towers import Tower
from vlbench.errors import CheckpointError, ConfigError


def create_clip(model: str, pretrained: str | None) -> nn.Module:
    """A model of open_clip by name.

    Raises:
        ConfigError: If open_clip does not know the name.
        CheckpointError: If the weights cannot be loaded.
    """
    import open_clip

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
    device = torch.empty(0).device  # torch.get_default_device() of torch 2.6 does not see `with torch.device(..)`
    try:
        created: nn.Module = open_clip.create_model(model, pretrained=pretrained, device=device)
    except Exception as error:
        if pretrained is None:
            raise
        # open_clip passes on whatever its downloader or the state dict raised.
        raise CheckpointError(
            f"cannot load the weights {pretrained!r} of {model}: {error}. Without a network, give a file that "
            "holds them (pretrained: /path/to/weights)"
        ) from error
    return created


class Transformer(Parts):
    """The blocks of a tower, `resblocks`; `Tower.run` computes them.

    Args:
        loaded: open_clip's module of the same name, whose parts are adopted.
        causal: Whether a token attends only to itself and to those before it.
    """

    def __init__(self, loaded: Any, *, causal: bool) -> None:
        super().__init__(loaded)
        self.resblocks = adopt_blocks(loaded.resblocks, causal=causal)


class ImageParts(Parts):
    """A ViT before and after its blocks: patches and positions, and the projection of the class token.

    Args:
        loaded: open_clip's module, whose parts are adopted.
    """

    class_embedding: Tensor
    positional_embedding: Tensor
    proj: Tensor
    conv1: nn.Module
    ln_pre: nn.Module
    transformer: Transformer
    ln_post: nn.Module

    def __init__(self, loaded: Any) -> None:
        super().__init__(loaded)
        self.transformer = Transformer(loaded.transformer, causal=False)

    def embed(self, frames: Tensor) -> Tensor:
        """Tokens `(B, 1 + N, D)` of frames `(B, 3, H, W)`, the class token first."""
        x = self.conv1(frames).flatten(2).transpose(1, 2)  # (B, N, D)
        token = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([token, x], dim=1) + self.positional_embedding.to(x.dtype)
        tokens: Tensor = self.ln_pre(x)
        return tokens

    def project(self, x: Tensor) -> Tensor:
        """Features `(B, D)` of the class tokens `(B, 1, D)` after the last block."""
        features: Tensor = self.ln_post(x.squeeze(1)) @ self.proj
        return features


class CLIPEncoder(DualEncoder):
    """A CLIP of open_clip: frames are encoded one by one, texts with a causal mask.

    Args:
        clip: The model, whose parts are adopted.
        tokenizer: Called with texts and `context_length`, gives int64 ids padded with 0.
        name: Architecture, for the identity.
        pretrained: Tag or file of the weights, for the identity.

    Attributes:
        clip: The adopted parts; their state dict is the model's.

    Raises:
        ConfigError: If the model is no CLIP with two transformers.
    """

    capabilities = Capabilities(blocks=True, class_token=True, causal_text=True, frames_encoded_one_by_one=True)

    def __init__(self, clip: nn.Module, tokenizer: Any, *, name: str, pretrained: str | None) -> None:
        import open_clip
        from open_clip.transformer import VisionTransformer

        super().__init__()
        visual = clip.visual
        if not isinstance(clip, open_clip.CLIP) or not isinstance(visual, VisionTransformer):
            raise ConfigError(f"{name} is a {type(clip).__name__} with a {type(visual).__name__}; only CLIP ViTs work")
        _check_parts(clip, visual, name)
        self.embed_dim = int(visual.output_dim)
        self.text_width = int(clip.transformer.width)
        self.image_size = int(visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size)
        self.clip = Parts(clip)
        self.clip.visual = ImageParts(visual)
        self.clip.transformer = Transformer(clip.transformer, causal=True)
        self._image = Tower(self.clip.visual.transformer.resblocks, int(visual.transformer.width))
        ends = highest_id if clip.text_pool_type == "argmax" else partial(first_id, end=int(clip.text_eos_id))
        self._text = TextTower(self.clip, tokenizer, ends)
        for key, default in (("mean", open_clip.OPENAI_DATASET_MEAN), ("std", open_clip.OPENAI_DATASET_STD)):
            values = torch.tensor(getattr(visual, f"image_{key}", None) or default)
            self.register_buffer(key, values.view(3, 1, 1), persistent=False)
        self.identity = BackboneIdentity(name, pretrained, weights_digest(self.clip.named_parameters()))

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
    def encode_frames(self, pixels: Tensor, *, adapted: bool = True) -> Tensor:
        batch, frames = pixels.shape[:2]
        parts: Any = self.visual
        x = parts.embed(pixels.flatten(0, 1))  # (B·T, 1 + N, D)
        x = self._image.run(x, FrameMajor(frames), read=0, adapted=adapted)
        features: Tensor = parts.project(x).unflatten(0, (batch, frames))
        return features


def _check_parts(clip: Any, visual: Any, name: str) -> None:
    """Refuses what the towers here would compute differently from open_clip.

    Raises:
        ConfigError: Naming the part.
    """
    from open_clip.transformer import ResidualAttentionBlock

    if clip.text_pool_type not in ("argmax", "eos"):
        raise ConfigError(f"{name} pools its text by {clip.text_pool_type!r}; allowed: argmax, eos")
    if visual.attn_pool is not None or visual.pool_type != "tok":
        pooling = "attention" if visual.attn_pool is not None else repr(visual.pool_type)
        raise ConfigError(f"{name} pools its image tokens by {pooling}; allowed: 'tok', the class token")
    if not isinstance(visual.patch_dropout, nn.Identity):
        raise ConfigError(f"{name} drops patches in training; only CLIP ViTs with patch_dropout 0 work")
    if clip.attn_mask is None:
        raise ConfigError(f"{name} has a text tower without a causal mask; only causal ones work")
    kinds = {type(block) for tower in (visual, clip) for block in tower.transformer.resblocks}
    if kinds != {ResidualAttentionBlock}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds - {ResidualAttentionBlock}))
        raise ConfigError(f"{name} has blocks of {names}; only those of ResidualAttentionBlock work")


class OpenCLIP(CLIPEncoder):
    """Any CLIP ViT of open_clip.

    Args:
        model: Architecture name, such as `ViT-B-16-quickgelu`. Weights trained by OpenAI need a `-quickgelu` name:
            under the plain name every activation would be another function.
        pretrained: Tag of released weights (`openai`, `laion2b_s34b_b88k`, ...), a local file, or `None` for
            random weights.

    Raises:
        ConfigError: If the model is unknown or is no CLIP with two transformers.
        CheckpointError: If the weights cannot be loaded.
    """

    def __init__(self, model: str, pretrained: str | None = None) -> None:
        import open_clip

        if pretrained == "openai" and model.startswith("ViT-") and not model.endswith("-quickgelu"):
            raise ConfigError(
                f"model is {model!r} with pretrained 'openai': these weights were trained with quick GELU; "
                f"use model: {model}-quickgelu"
            )
        super().__init__(
            create_clip(model, pretrained), open_clip.get_tokenizer(model), name=model, pretrained=pretrained
        )
