"""The small CLIP that ships with vlbench, pre-trained on the synthetic dataset's world."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from vlbench.backbones.openclip import CLIPEncoder
from vlbench.synthetic import tiny_clip


class TinyCLIP(CLIPEncoder):
    """1.4 million parameters, frames of 32 x 32 pixels; see `vlbench/synthetic/pretrain.py` for its recipe.

    Example:
        >>> backbone = TinyCLIP()
        >>> backbone.encode_frames(torch.zeros(2, 8, 3, 32, 32)).shape  # clips of 8 frames
        torch.Size([2, 8, 128])
        >>> backbone.encode_texts(["a video of a red circle"]).shape
        torch.Size([1, 128])

    Args:
        pretrained: Whether to load the shipped weights; random ones otherwise.
    """

    def __init__(self, pretrained: bool = True) -> None:
        import open_clip  # late, see openclip.py

        tiny_clip.register()
        clip = open_clip.CLIP(**open_clip.get_model_config(tiny_clip.TINY_CLIP))
        if pretrained:
            weights = {key: value.to(torch.float32) for key, value in load_file(tiny_clip.weights_path()).items()}
            clip.load_state_dict(weights, strict=True)
        super().__init__(
            clip, tiny_clip.tokenizer(), name=tiny_clip.TINY_CLIP, pretrained="shipped" if pretrained else None
        )
