"""Models as open_clip computes them, to compare ours with."""

import open_clip
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from vlbench.backbones import blocks


def plain_clip(backbone):
    """open_clip's own model with the weights of a backbone, without what a method added to it."""
    clip = open_clip.CLIP(**open_clip.get_model_config(backbone.identity.name))
    own = clip.state_dict()
    clip.load_state_dict({key: value for key, value in backbone.clip.state_dict().items() if key in own})
    return clip.to(backbone.logit_scale).eval()


def plain_block(block):
    """open_clip's own block with the weights of one of ours; called with tokens and, for texts, `attn_mask`."""
    width = block.norm1.normalized_shape[0]
    activation = QuickGELU if isinstance(block.mlp.gelu, blocks.QuickGELU) else nn.GELU
    plain = ResidualAttentionBlock(
        width, block.attention.heads, act_layer=activation, norm_layer=type(block.norm1)
    )  # fmt: skip
    plain.load_state_dict(block.state_dict())
    return plain.to(block.norm1.weight)
