"""CLIP from a file in OpenAI's own format."""

from __future__ import annotations

from vlbench.backbones.openclip import CLIPEncoder
from vlbench.backbones.weight_files import read_released
from vlbench.errors import CheckpointError


class OpenAICLIP(CLIPEncoder):
    """A CLIP ViT whose sizes are read from its weights, in the key names and with the quick GELU of OpenAI's release.

    Args:
        weights: State dict saved by torch, such as `ViT-B-16.pt` unpacked from its archive.

    Raises:
        CheckpointError: If the file is missing, damaged or no CLIP ViT.
    """

    def __init__(self, weights: str) -> None:
        import open_clip  # late, see openclip.py
        from open_clip.model import build_model_from_openai_state_dict

        state = read_released(weights)
        if "visual.proj" not in state or "text_projection" not in state:
            raise CheckpointError(
                f"{weights} is no CLIP ViT in OpenAI's format: visual.proj or text_projection is missing"
            )
        try:
            clip = build_model_from_openai_state_dict(state).float()
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{weights} is no complete CLIP ViT in OpenAI's format: {error}") from error
        # open_clip builds half-precision weights, as released; every computation here chooses its own precision.
        super().__init__(clip, open_clip.get_tokenizer("ViT-B-32"), name="openai-format", pretrained=weights)
