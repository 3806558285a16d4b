"""The frozen backbone as a classifier: what any transfer has to beat."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.methods.base import VideoTextMethod


class ZeroShot(VideoTextMethod):
    """Zero-shot CLIP: mean frame feature against prompted class names; nothing trains.

    Args:
        backbone: the dual encoder.
        prompts: `video`, `mote`, or templates of your own.
    """

    name = "zero_shot"

    def __init__(self, backbone: DualEncoder, prompts: str | list[str] = "video") -> None:
        super().__init__(backbone, prompts)
        self.requires_grad_(False)

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        raise ConfigError("zero-shot CLIP does not train; use `vlbench test`")

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return []
