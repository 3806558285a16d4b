"""The frozen backbone as a classifier: what any transfer has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.data.batch import ClipBatch
from vlbench.data.prompts import templates
from vlbench.errors import ConfigError
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.text import ensemble, prompted


class ZeroShot(VideoTextMethod):
    """Zero-shot CLIP: mean frame feature against prompted class names; nothing trains.

    Args:
        backbone: the dual encoder.
        prompts: `video`, `mote`, or templates of your own.
    """

    name = "zero_shot"

    def __init__(self, backbone: DualEncoder, prompts: str | list[str] = "video") -> None:
        super().__init__(backbone)
        self.templates = templates(prompts)
        self.requires_grad_(False)

    @override
    def encode_video(self, clips: Tensor) -> Tensor:
        return self.unit_mean(self.backbone.encode_frames(clips))

    @override
    def encode_text(self, class_names: Sequence[str]) -> Tensor:
        return ensemble(self.backbone, prompted(class_names, self.templates))

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        raise ConfigError("zero-shot CLIP does not train; use `vlbench test`")

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return []
