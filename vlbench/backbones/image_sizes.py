"""Frames of another size than the weights are for: positions are interpolated, by the libraries' own functions."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vlbench.errors import ConfigError
from vlbench.ranges import Range


def check_image_size(image_size: int, step: int, trained: int) -> None:
    """Whether a tower can take frames of a size.

    Args:
        image_size: Side of the frames, in pixels.
        step: Side of the patches, in pixels, or of what a cell of the last feature map stands for.
        trained: Side of the frames that the weights are for, in pixels, which is always allowed.

    Raises:
        ConfigError: If it cannot.
    """
    if image_size != trained and (image_size not in Range(1, 8_192) or image_size % step):
        raise ConfigError(
            f"image_size is {image_size}; allowed: multiples of {step}, the side of a patch, up to 8,192, and null, "
            f"which takes {trained}"
        )


def resize_images(clip: Any, image_size: int, model: str) -> None:
    """Has a loaded model of open_clip take frames of another size, as its `force_image_size` does.

    Learned positions are interpolated bicubically, with antialiasing; the angles of rotary ones are computed for the
    other grid; convolutions have none and stay as they are.

    Args:
        clip: Model of open_clip with its weights, which is changed in place.
        image_size: Side of the frames, in pixels.
        model: Name of the model, for the message.

    Raises:
        ConfigError: If the model takes no frames of this size.
    """
    from open_clip.timm_model import TimmModel  # late, see openclip.py
    from open_clip.transformer import VisionTransformer

    visual = clip.visual
    trained = side_of(visual.image_size)
    if image_size == trained:
        return
    if isinstance(visual, VisionTransformer):
        check_image_size(image_size, side_of(visual.patch_size), trained)
        _resize_own(clip, image_size)
    elif isinstance(visual, TimmModel) and (step := _step(visual.trunk, trained)) is not None:
        check_image_size(image_size, step, trained)
        if hasattr(visual.trunk, "patch_embed"):
            visual.trunk.set_input_size(img_size=image_size)
        visual.image_size = (image_size, image_size)
    else:
        kind = type(getattr(visual, "trunk", visual)).__name__
        raise ConfigError(
            f"image_size is {image_size} and {model} takes {trained} alone: positions of a {kind}, its image tower, "
            "are not interpolated here; leave image_size out, or take a ViT, such as ViT-B-16"
        )


def side_of(size: Any) -> int:
    """The side of a square that is stated once or twice."""
    return int(size[0] if isinstance(size, tuple | list) else size)


def _resize_own(clip: Any, image_size: int) -> None:
    """Interpolates the positions of open_clip's own ViT."""
    from open_clip.model import resize_pos_embed

    visual = clip.visual
    visual.image_size = (image_size, image_size)
    visual.grid_size = tuple(image_size // side for side in visual.patch_size)
    table, name = visual.positional_embedding, "visual.positional_embedding"
    state = {name: table.detach()}
    resize_pos_embed(state, clip)
    visual.positional_embedding = nn.Parameter(state[name], requires_grad=table.requires_grad)


def _step(trunk: nn.Module, trained: int) -> int | None:
    """What divides the side of a frame, in pixels; `None` for a network of timm that takes frames of one size alone."""
    from timm.models.convnext import ConvNeXt  # late, see openclip.py
    from timm.models.eva import Eva
    from timm.models.fastvit import FastVit
    from timm.models.vision_transformer import VisionTransformer

    network: Any = trunk
    if isinstance(trunk, (VisionTransformer, Eva)):
        return trained // int(network.patch_embed.grid_size[0])
    if isinstance(trunk, (ConvNeXt, FastVit)):
        return int(network.feature_info[-1]["reduction"])
    return None


def resized_grid(patches: Tensor, grid: int) -> Tensor:
    """Positions of the patches of other frames, bicubically and without antialiasing, as video models were released.

    Args:
        patches: Learned positions `(T, N, D)` of the patches of T square frames.
        grid: Number of patches along each side of the other frames.

    Returns:
        `(T, grid², D)`.
    """
    side = math.isqrt(patches.shape[1])
    if grid == side:
        return patches
    squares = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    squares = F.interpolate(squares, (grid, grid), mode="bicubic", align_corners=False)
    return squares.flatten(2).transpose(1, 2)
