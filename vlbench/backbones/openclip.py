"""Any model of open_clip as a backbone.

The library is imported where a model is built: that takes a fifth of the time that the command line needs to answer.
(jsonargparse executes what is imported for types alone, so not even these name its classes.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder, TextEncoder
from vlbench.backbones.blocks import Parts
from vlbench.backbones.catalogue import architecture, check_weights, recorded_preprocess
from vlbench.backbones.identity import BackboneIdentity, weights_digest
from vlbench.backbones.image_sizes import resize_images, side_of
from vlbench.backbones.layouts import FrameMajor
from vlbench.backbones.openclip_parts import ImageParts, Transformer, text_reading
from vlbench.backbones.preprocess import CLIP, Normalization, Preprocess
from vlbench.backbones.roles import NO_BLOCKS, capabilities, obstacle
from vlbench.backbones.text import TextTower
from vlbench.backbones.timm_parts import TimmImage
from vlbench.backbones.tokenizers import ModelTokenizer, shortened
from vlbench.backbones.towers import Tower
from vlbench.backbones.weight_files import check_positions
from vlbench.backbones.whole_text import WholeText, text_sizes
from vlbench.errors import CheckpointError, ConfigError


class CLIPEncoder(DualEncoder):
    """A model of open_clip: frames are encoded one by one.

    The towers of open_clip's own transformers, and of timm's, become blocks with roles, which methods extend. Any other
    model is kept whole and its own `encode_image` and `encode_text` compute the features; `capabilities` tell the two
    apart.

    Args:
        clip: The model, whose parts are adopted.
        tokenizer: Called with texts and `context_length`, gives int64 ids, which CLIP's tokenizer pads with 0.
        name: Architecture, for the identity.
        pretrained: Tag or file of the weights, for the identity.
        preprocess: What the weights were trained to see; by default what OpenAI's CLIP was.
        image_size: Side of the frames, in pixels; another than that of the weights has the positions interpolated, and
            `None` takes that of the weights.

    Attributes:
        clip: The adopted parts or the model; their state dict is the model's.

    Raises:
        ConfigError: If the model takes no frames of the size.
    """

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        pretrained: str | None,
        preprocess: Preprocess = CLIP,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        model: Any = clip
        self.trained_size = side_of(model.visual.image_size)
        self.image_size = self.trained_size if image_size is None else image_size
        resize_images(clip, self.image_size, name)
        self.embed_dim, self.text_width = text_sizes(model)
        self.use_preprocess(preprocess)
        self._tokenizer = tokenizer
        self.without_roles = obstacle(clip)
        self.capabilities = NO_BLOCKS
        self._texts: TextEncoder
        if self.without_roles is None:
            self._adopt(clip)
        else:
            self.clip = clip
            self._texts = WholeText(clip, tokenizer)
        self._keep_averages()
        self.identity = BackboneIdentity(name, pretrained, weights_digest(self.clip.named_parameters()))

    def _adopt(self, clip: Any) -> None:
        """Takes the parts of a model and gives its blocks their roles."""
        self.clip = Parts(clip)
        image = self.clip.visual = image_parts(clip.visual)
        self._image = image.tower()
        source, module = clip, self.clip
        if hasattr(clip, "text"):
            source = clip.text
            module = self.clip.text = Parts(source)
        causal = source.attn_mask is not None
        module.transformer = Transformer(source.transformer, causal=causal)
        ends, padded = text_reading(source, causal=causal)
        cuts = getattr(self._tokenizer, "cuts", False)
        self._text = TextTower(module, self._tokenizer, ends, truncate=cuts, padded=padded)
        self._texts = self._text
        self.capabilities = capabilities(image, causal_text=causal)

    @property
    @override
    def image(self) -> Tower:
        return self._image if self.without_roles is None else super().image

    @property
    @override
    def text(self) -> TextTower:
        return self._text if self.without_roles is None else super().text

    @property
    @override
    def texts(self) -> TextEncoder:
        return self._texts

    @property
    @override
    def visual(self) -> nn.Module:
        visual = self.clip.visual
        assert isinstance(visual, nn.Module)
        return visual

    @property
    @override
    def logit_scale(self) -> nn.Parameter:
        return cast(nn.Parameter, self.clip.logit_scale)  # a tensor while other weights stand in for the model's

    @override
    def settings(self) -> dict[str, object]:
        settings = super().settings() | self.deviations()
        bias = getattr(self.clip, "logit_bias", None)
        if bias is not None and not bias.is_meta:
            # No score holds it: added to every class alike it changes neither ranks nor softmax probabilities.
            settings["logit_bias"] = round(float(bias.detach()), 6)
        if getattr(self._tokenizer, "cuts", False):
            settings["long_texts"] = "cut"
        if getattr(self._tokenizer, "folder", None) is not None:
            settings["tokenizer"] = self._tokenizer.digest
        return settings

    @override
    def set_grad_checkpointing(self, enabled: bool) -> None:
        if enabled or self.without_roles is None:
            super().set_grad_checkpointing(enabled)

    @override
    def train(self, mode: bool = True) -> CLIPEncoder:
        """Training mode, in which batch norms keep the averages of the weights: features depend on no other clip."""
        super().train(mode)
        self._keep_averages()
        return self

    def _keep_averages(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    @override
    def encode_frames(self, pixels: Tensor, *, adapted: bool = True) -> Tensor:
        self.check_size(pixels)
        if self.without_roles is None:
            parts: Any = self.visual
            features: Tensor = parts.project(self._tokens(pixels, None, adapted=adapted))
        else:
            model: Any = self.clip
            features = model.encode_image(pixels.flatten(0, 1), normalize=False)
        unflattened: Tensor = features.unflatten(0, pixels.shape[:2])
        return unflattened

    @override
    def class_tokens(self, pixels: Tensor, *, positions: Tensor | None = None) -> Tensor:
        if self.without_roles is not None or not self.capabilities.class_token:
            return super().class_tokens(pixels, positions=positions)
        self.check_size(pixels)
        tokens: Tensor = self._tokens(pixels, positions, adapted=True).squeeze(1).unflatten(0, pixels.shape[:2])
        return tokens

    def _tokens(self, pixels: Tensor, positions: Tensor | None, *, adapted: bool) -> Tensor:
        """Tokens `(B·T, L, D)` after the last block, those that are read."""
        batch, frames = pixels.shape[:2]
        parts: Any = self.visual
        if positions is not None:
            positions = positions.repeat(batch, 1).unsqueeze(1)  # (B·T, 1, D)
        x = parts.embed(pixels.flatten(0, 1), positions)
        return self._image.run(x, FrameMajor(frames), read=parts.read, adapted=adapted)


def image_parts(visual: nn.Module) -> ImageParts | TimmImage:
    """The parts of an image tower of open_clip in their roles.

    Args:
        visual: open_clip's own ViT, or its module around a transformer of timm.
    """
    return TimmImage(visual) if hasattr(visual, "trunk") else ImageParts(visual)


class OpenCLIP(CLIPEncoder):
    """Any model of open_clip, by the name of its architecture; see `vlbench backbones list`.

    Args:
        model: Name of the architecture, such as `ViT-B-16-quickgelu`. Weights that were trained with quick GELU, such
            as OpenAI's, need a `-quickgelu` name: under the plain name every activation would be another function.
        pretrained: Tag of released weights (`openai`, `laion2b_s34b_b88k`, ...), a local file, or `None` for
            random weights.
        preprocess: What the weights were trained to see; null takes what open_clip records of the tag, or of all tags
            of the architecture where they agree.
        normalization: Constants of the pixels: `own`, those of `preprocess`, or `clip` or `imagenet` in their place,
            for methods whose released weights were trained so.
        text_files: Folder with the files of a tokenizer of the Hugging Face hub, and with `config.json` where the text
            model is the hub's too; null takes them from the hub.
        image_size: Side of the frames, in pixels; another than that of the weights has the positions interpolated, and
            null takes that of the weights.

    Raises:
        ConfigError: If the architecture is unknown or takes no frames of the size, the preprocessing of a file is
            unknown, or files of texts are missing.
        CheckpointError: If the weights cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        preprocess: Preprocess | None = None,
        normalization: Normalization = "own",
        text_files: str | None = None,
        image_size: int | None = None,
    ) -> None:
        config = architecture(model)
        check_weights(model, pretrained)
        preprocess = (preprocess or recorded_preprocess(model, pretrained)).with_constants(normalization)
        tokenizer = ModelTokenizer(model, config, text_files)
        if not torch.empty(0).is_meta:
            tokenizer.load()  # before weights are downloaded
        clip = create_clip(model, pretrained, text_files=text_files)
        super().__init__(
            clip, tokenizer, name=model, pretrained=pretrained, preprocess=preprocess, image_size=image_size
        )


def create_clip(model: str, pretrained: str | None, *, text_files: str | None = None) -> nn.Module:
    """A model of open_clip by name.

    Args:
        model: Name of an architecture that open_clip knows.
        pretrained: Tag or file of the weights; `None` for random ones.
        text_files: Folder with `config.json` of a text model of the Hugging Face hub; `None` takes it from there.

    Raises:
        ConfigError: If the text model cannot be built.
        CheckpointError: If the weights cannot be loaded.
    """
    import open_clip

    text = architecture(model)["text_cfg"]
    hub, options = text.get("hf_model_name"), {}
    if hub is not None and text_files is not None:
        options = {"text_cfg": {**text, "hf_model_name": text_files, "hf_model_pretrained": False}}
    device = torch.empty(0).device  # torch.get_default_device() of torch 2.6 does not see `with torch.device(..)`
    file = pretrained is not None and Path(pretrained).is_file()
    try:
        created: nn.Module = open_clip.create_model(
            model, pretrained=None if file else pretrained, device=device, pretrained_text=False, **options
        )
    except Exception as error:
        # open_clip passes on whatever its downloader, transformers or the state dict raised.
        if pretrained is not None and not file:
            raise _no_weights(model, pretrained, error) from error
        if hub is None:
            raise
        raise ConfigError(
            f"{model} has the text model {hub} of the Hugging Face hub, which cannot be built ({shortened(error)}); "
            "`pip install transformers`, and without a network give a folder with config.json and the tokenizer's "
            f"files of {hub} as text_files"
        ) from error
    if pretrained is not None and file:
        check_positions(created.state_dict(), pretrained, model)
        try:
            open_clip.load_checkpoint(created, pretrained, device="cpu")
        except Exception as error:
            raise _no_weights(model, pretrained, error) from error
    return created


def _no_weights(model: str, pretrained: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"cannot load the weights {pretrained!r} of {model}: {shortened(error)}. Without a network, give a file "
        "that holds them (pretrained: /path/to/weights)"
    )
