"""Models as open_clip computes them, to compare ours with."""

import copy

from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from vlbench.backbones.blocks import Attention, ReadOnce, SmoothGate

PLAIN = {Attention: nn.MultiheadAttention, SmoothGate: QuickGELU, ReadOnce: ResidualAttentionBlock}


def plain_clip(backbone):
    """A copy of the backbone's CLIP, without branches and in the classes of open_clip and torch."""
    return make_plain(copy.deepcopy(backbone.clip)).eval()


def make_plain(module, *, keep_hooks=False):
    """The module itself, its blocks those of open_clip again, and without branches unless its hooks are kept."""
    for part in module.modules():
        part.__class__ = PLAIN.get(type(part), type(part))
        if not keep_hooks:
            part._forward_hooks.clear()
            part._forward_hooks_with_kwargs.clear()
    return module
