"""Which models of open_clip have towers of blocks with roles, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from vlbench.backbones.base import Capabilities
from vlbench.backbones.blocks import Attention

NO_BLOCKS = Capabilities(blocks=False, class_token=False, causal_text=False, frames_encoded_one_by_one=True)
"""What methods can do with a model that is kept whole."""

_HUB = "its text tower is a model of the Hugging Face hub"
_TEXT_TOKEN = "its text tower reads a class token, which sees as many tokens as each text has"
_RESNET = "its image tower is a ResNet"
_BEHIND = "its image blocks normalise what attention and MLP give, not what they take"
_DROPPED = "its image tower drops patches in training"
_CUSTOM = "has blocks of open_clip's CustomResidualAttentionBlock"
_CUSTOM_OPTIONS = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
_FAMILIES = ("vision_transformer", "vision_transformer_hybrid", "vitamin", "eva")
"""Modules of timm whose architectures are its `VisionTransformer` or `Eva`."""


def obstacle(clip: Any) -> str | None:
    """What keeps the blocks of a model from having roles: the towers here would compute something else.

    Args:
        clip: Model that open_clip has built.

    Returns:
        A clause, such as `its image tower is a ResNet`; `None` where the towers compute the same.
    """
    for obstacles in (_of_text(getattr(clip, "text", clip)), _of_image(clip.visual)):
        for clause in obstacles:
            return clause
    return None


def capabilities(image: Any, *, causal_text: bool) -> Capabilities:
    """What methods can do with a model whose blocks have roles.

    Args:
        image: Parts of the image tower, which know what is `read` of it.
        causal_text: Whether a token of a text attends only to itself and to those before it.
    """
    return Capabilities(
        blocks=True,
        class_token=image.read == 0,
        causal_text=causal_text,
        frames_encoded_one_by_one=True,
        plain_attention=all(type(block.attention) is Attention for block in image.tower().blocks),
    )


def configured_obstacle(config: Mapping[str, Any]) -> str | None:
    """What `obstacle` says of a model, from its configuration, without building it.

    Args:
        config: Configuration of an architecture of open_clip.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    if text.get("hf_model_name"):
        return _HUB
    if text.get("embed_cls"):
        return _TEXT_TOKEN
    if _is_custom(text):
        return f"its text tower {_CUSTOM}"
    if isinstance(vision.get("layers"), list):
        return _RESNET
    name = vision.get("timm_model_name")
    if name is not None:
        from timm.models import model_entrypoint  # late, see openclip.py

        family = model_entrypoint(name).__module__.rpartition(".")[2]
        if family not in _FAMILIES:
            return _of_timm(family)
        return _BEHIND if name.startswith("eva02_enormous") else None
    if vision.get("patch_dropout"):
        return _DROPPED
    return f"its image tower {_CUSTOM}" if _is_custom(vision) else None


def configured_capabilities(config: Mapping[str, Any]) -> Capabilities:
    """What methods can do with a model, from its configuration, without building it.

    Args:
        config: Configuration of an architecture of open_clip.
    """
    if configured_obstacle(config) is not None:
        return NO_BLOCKS
    vision = config["vision_cfg"]
    if vision.get("timm_model_name"):
        class_token = vision.get("timm_pool") == "token"
    else:
        class_token = vision.get("pool_type", "tok") == "tok" and not vision.get("attentional_pool")
    causal = not config["text_cfg"].get("no_causal_mask")
    return Capabilities(
        blocks=True,
        class_token=class_token,
        causal_text=causal,
        frames_encoded_one_by_one=True,
        plain_attention=not vision.get("timm_model_name"),
    )


def _is_custom(tower: Mapping[str, Any]) -> bool:
    return tower.get("block_type") == "custom" or any(tower.get(option) for option in _CUSTOM_OPTIONS)


def _of_timm(family: str) -> str:
    return f"its image tower is timm's {family}"


def _of_text(text: Any) -> Iterator[str]:
    """Obstacles in a text tower, or in a CLIP, which holds the parts of its own."""
    import open_clip
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer

    if not isinstance(text, (open_clip.CLIP, TextTransformer)):
        yield _HUB if hasattr(text, "config") else f"its text tower is a {type(text).__name__}"
        return
    if getattr(text, "cls_emb", None) is not None:
        yield _TEXT_TOKEN
    pool = text.text_pool_type if isinstance(text, open_clip.CLIP) else text.pool_type
    if pool not in ("argmax", "eos", "first", "last"):
        yield f"its text tower pools tokens by {pool!r}"
    if getattr(text, "use_pad_mask", False):
        yield "its text tower hides the padding behind texts"
    if any(type(block) is not ResidualAttentionBlock for block in text.transformer.resblocks):
        yield f"its text tower {_CUSTOM}"


def _of_image(visual: nn.Module) -> Iterator[str]:
    """Obstacles in an image tower."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, TimmModel):
        yield from _of_trunk(visual.trunk)
    elif isinstance(visual, VisionTransformer):
        yield from _of_vit(visual)
    else:
        yield _RESNET if isinstance(visual, ModifiedResNet) else f"its image tower is a {type(visual).__name__}"


def _of_vit(visual: Any) -> Iterator[str]:
    """Obstacles in a ViT of open_clip's own."""
    from open_clip.transformer import ResidualAttentionBlock

    if not isinstance(visual.patch_dropout, nn.Identity):
        yield _DROPPED
    pools = ("tok",) if visual.attn_pool is not None else ("tok", "avg")
    if visual.pool_type not in pools:
        yield f"its image tower pools tokens by {visual.pool_type!r}"
    if any(type(block) is not ResidualAttentionBlock for block in visual.transformer.resblocks):
        yield f"its image tower {_CUSTOM}"


def _of_trunk(trunk: Any) -> Iterator[str]:
    """Obstacles in a model of timm."""
    from timm.layers.attention_pool import AttentionPoolLatent
    from timm.layers.pos_embed_sincos import RotaryEmbeddingCat
    from timm.models.eva import Eva, EvaBlockPostNorm
    from timm.models.vision_transformer import VisionTransformer

    if type(trunk) not in (VisionTransformer, Eva):
        yield _of_timm(type(trunk).__module__.rpartition(".")[2])
        return
    if any(isinstance(block, EvaBlockPostNorm) for block in trunk.blocks):
        yield _BEHIND
    if not isinstance(trunk.patch_drop, nn.Identity | None):
        yield _DROPPED
    if any(isinstance(part, nn.Dropout) and part.p for part in trunk.modules()):
        yield "its image tower drops activations in training"
    pooled = trunk.global_pool in ("token", "avg") and trunk.attn_pool is None
    if not (pooled or isinstance(trunk.attn_pool, AttentionPoolLatent)):
        yield f"its image tower pools tokens by {trunk.global_pool!r}"
    if trunk.dynamic_img_size:
        yield "its image tower takes frames of any size"
    rope = getattr(trunk, "rope", None)
    if rope is not None and not (
        type(rope) is RotaryEmbeddingCat and rope.feat_shape and not (rope.rotate_half or rope.aug_active)
    ):
        yield f"its image tower has positions of {type(rope).__name__}"
    for block in trunk.blocks:
        yield from _of_timm_block(block)


def _of_timm_block(block: Any) -> Iterator[str]:
    """Obstacles in a block of timm's `VisionTransformer` or `Eva`."""
    from timm.layers.attention import Attention, AttentionRope
    from timm.layers.mlp import Mlp
    from timm.models.eva import EvaAttention, EvaBlock
    from timm.models.vision_transformer import Block

    attention, mlp = block.attn, block.mlp
    if type(block) not in (Block, EvaBlock):
        yield f"its image tower has blocks of timm's {type(block).__name__}"
    if type(attention) not in (Attention, AttentionRope, EvaAttention):
        yield f"its image tower has attention of timm's {type(attention).__name__}"
    if getattr(attention, "gate", None) is not None or getattr(attention, "num_kv_groups", 1) > 1:
        yield "its image tower has gates or shared keys in its attention"
    if getattr(block, "gamma_1", None) is not None:
        yield "its image blocks hold the factors of their layers themselves"
    scaled = not isinstance(getattr(block, "ls2", nn.Identity()), nn.Identity)
    if scaled and not (type(mlp) is Mlp and isinstance(mlp.norm, nn.Identity)):
        yield f"its image blocks scale the output of timm's {type(mlp).__name__}"
