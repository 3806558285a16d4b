"""The frozen backbone as a classifier: what any transfer has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.methods.base import Reads, VideoTextMethod
from vlbench.methods.parts.fusion import ViewFusion


class ZeroShot(VideoTextMethod):
    """Zero-shot CLIP: mean frame feature against prompted class names; nothing trains.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> method = ZeroShot(TinyCLIP(), prompts="video")
        >>> method.encode_classes(["a red circle moving left", "a red circle moving right"]).shape
        torch.Size([2, 128])

    Args:
        backbone: Dual encoder of videos and texts.
        prompts: `video`, `mote`, or templates of the class names.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
    """

    name = "zero_shot"
    PAPER: ClassVar[Mapping[str, object]] = {"prompts": "video", "view_fusion": "probabilities"}

    def __init__(
        self,
        backbone: DualEncoder,
        prompts: str | list[str] = "video",
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(backbone, prompts)
        self.view_fusion = view_fusion
        self.requires_grad_(False)

    @property
    @override
    def reads(self) -> Reads:
        return "frame_features"

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        raise ConfigError("zero-shot CLIP does not train; use `vlbench test`")

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        return []
