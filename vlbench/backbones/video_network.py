"""Supervised video networks of pytorchvideo, without a text tower: what tables call "vision only"."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import Capabilities, DualEncoder
from vlbench.backbones.identity import BackboneIdentity, weights_digest
from vlbench.backbones.preprocess import Preprocess
from vlbench.backbones.weight_files import check_keys, read_tensors
from vlbench.errors import ConfigError
from vlbench.ranges import FRAMES, Range

ALPHA = 4
"""Frames of SlowFast's fast pathway for each frame of its slow one."""

KINETICS = Preprocess((0.45, 0.45, 0.45), (0.225, 0.225, 0.225), "bilinear", "shortest")
"""What pytorchvideo's released networks were trained to see."""


@dataclass(frozen=True)
class Network:
    """A network of pytorchvideo, as its weights were released.

    Attributes:
        frames: Number of frames of a clip.
        step: Number that divides the frames of a clip.
        file: Name of the released file.
        build: Gives the network for a number of frames and a side of the frames, in pixels.
    """

    frames: int
    step: int
    file: str
    build: Callable[[int, int], nn.Module]


def _slowfast(frames: int, size: int) -> nn.Module:  # noqa: ARG001 - its last pooling takes any map
    from pytorchvideo.models.hub import slowfast_r50  # late: it takes as long to import as torch

    network: nn.Module = slowfast_r50(head_pool=nn.AdaptiveAvgPool3d)
    return network


def _i3d(frames: int, size: int) -> nn.Module:  # noqa: ARG001
    from pytorchvideo.models.hub import i3d_r50

    network: nn.Module = i3d_r50(head_pool=nn.AdaptiveAvgPool3d)
    return network


def _x3d(frames: int, size: int) -> nn.Module:
    from pytorchvideo.models.x3d import create_x3d

    network: nn.Module = create_x3d(input_clip_length=frames, input_crop_size=size, head_activation=None)
    return network


def _mvit(frames: int, size: int) -> nn.Module:
    from pytorchvideo.models.hub.vision_transformers import mvit_video_base_config
    from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers

    device = torch.empty(0).device
    with torch.device("cpu"):  # it computes widths by tensors, which have no values on the meta device
        network: nn.Module = create_multiscale_vision_transformers(
            **{**mvit_video_base_config, "temporal_size": frames, "spatial_size": size}
        )
    return network.to(device)


NETWORKS = {
    "slowfast_r50": Network(32, ALPHA, "SLOWFAST_8x8_R50.pyth", _slowfast),
    "x3d_m": Network(16, 1, "X3D_M.pyth", _x3d),
    "mvit_base_16x4": Network(16, 2, "MVIT_B_16x4.pyth", _mvit),
    "i3d_r50": Network(8, 2, "I3D_8x8_R50.pyth", _i3d),
}
"""Networks by their names in pytorchvideo."""

SIDE = 224
"""Side of the frames of all of them, in pixels."""


class VideoNetwork(DualEncoder):
    """A network of pytorchvideo that was trained on labels, without its head: one feature a clip, and no text tower.

    Methods that know classes by their names refuse it. Batch norms keep the averages of the weights in training too, so
    that a clip's features depend on no other clip and on no number of devices. SlowFast's slow pathway has every fourth
    frame of the clip.

    Example:
        >>> network = VideoNetwork("x3d_m", frames=4, image_size=32).eval()
        >>> network.encode_frames(torch.zeros(2, 4, 3, 32, 32)).shape  # clips of 4 frames
        torch.Size([2, 1, 2048])

    Args:
        model: Name of the network: `slowfast_r50`, `x3d_m`, `mvit_base_16x4` or `i3d_r50`.
        pretrained: Released file, such as SLOWFAST_8x8_R50.pyth; `None` for random weights.
        frames: Number of frames of a clip; `None` takes that of the released weights.
        image_size: Side of the frames, in pixels; `None` takes 224.

    Attributes:
        frames: Number of frames of a clip.
        released_head: `weight` and `bias` of the released file's head, one row a class; `None` without a file.

    Raises:
        ConfigError: If the network is unknown, or has no such frames.
        CheckpointError: If the weights cannot be read or are not the network's.
    """

    capabilities = Capabilities(
        blocks=False, class_token=False, causal_text=False, frames_encoded_one_by_one=False, texts=False
    )

    without_roles = "it is a network of convolutions or of pooled attention"

    slow: Tensor | None

    def __init__(
        self, model: str, pretrained: str | None = None, frames: int | None = None, image_size: int | None = None
    ) -> None:
        super().__init__()
        if model not in NETWORKS:
            near = difflib.get_close_matches(model.lower(), NETWORKS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"model is {model!r}; allowed: {', '.join(NETWORKS)}{hint}")
        network = NETWORKS[model]
        self.frames = _multiple("frames", frames, network.frames, network.step, FRAMES)
        self.image_size = _multiple("image_size", image_size, SIDE, 32, Range(1, 8_192))
        self.network = network.build(self.frames, self.image_size)
        name, head = _head(self.network)
        self.embed_dim = int(head.proj.in_features)
        self.text_width = 0
        head.proj, head.dropout = nn.Identity(), None  # a method's head has its own
        self.released_head: dict[str, Tensor] | None = None
        if pretrained is not None:
            state = read_tensors(pretrained, "model_state")
            self.released_head = {part: state.pop(f"{name}.proj.{part}", torch.empty(0)) for part in ("weight", "bias")}
            check_keys(self.network.state_dict(), state, f"{pretrained} as {model}")
            self.network.load_state_dict(state)
        slow = torch.linspace(0, self.frames - 1, self.frames // ALPHA).long() if model.startswith("slowfast") else None
        self.register_buffer("slow", slow, persistent=False)
        self.use_preprocess(KINETICS)
        # Averages of batch norms are weights here, and a released head is what a method starts from.
        tensors = itertools.chain(self.network.state_dict().items(), (self.released_head or {}).items())
        self.identity = BackboneIdentity(model, pretrained, weights_digest(tensors))
        self.train()

    @property
    @override
    def visual(self) -> nn.Module:
        return self.network

    @override
    def settings(self) -> dict[str, object]:
        return {**super().settings(), "frames": self.frames, "image_size": self.image_size}

    @override
    def train(self, mode: bool = True) -> VideoNetwork:
        """Training mode, in which batch norms keep the averages of the weights."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    @override
    def encode_frames(self, pixels: Tensor, *, adapted: bool = True) -> Tensor:
        asked = (("frames", pixels.shape[1], self.frames), ("image_size", pixels.shape[-1], self.image_size))
        for option, value, expected in asked:
            if value != expected:
                raise ConfigError(
                    f"clips have {option} {value} and {self.identity.name} takes {expected}; give the data "
                    f"{option}={expected}, or the backbone {option}={value}"
                )
        clips: Any = pixels.transpose(1, 2)  # (B, 3, T, H, W)
        if self.slow is not None:
            clips = [clips.index_select(2, self.slow), clips]
        features: Tensor = self.network(clips)
        return features.unsqueeze(1)


def _multiple(name: str, value: int | None, default: int, step: int, allowed: Range) -> int:
    """An option's value, or the default where it is `None`."""
    if value is None:
        return default
    if value not in allowed or value % step:
        multiples = f"multiples of {step} in {allowed}" if step > 1 else str(allowed)
        raise ConfigError(f"{name} is {value}; allowed: {multiples}, and null, which takes {default}")
    return value


def _head(network: Any) -> tuple[str, Any]:
    """The name and the module of a network's head."""
    if hasattr(network, "head"):
        return "head", network.head
    last = len(network.blocks) - 1
    return f"blocks.{last}", network.blocks[last]
