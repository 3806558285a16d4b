"""A video network or an image tower with a linear head: the reference without words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.errors import ConfigError
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.groups import trained_groups
from vlbench.methods.parts.linear_head import LinearHeadMethod
from vlbench.optim import Schedule
from vlbench.ranges import WEIGHTS
from vlbench.settings import Side

Trained = Literal["all", "head", "nothing"]
"""What trains: `all`, the tower and its linear head, the `head` alone, or `nothing` of released weights."""

_NO_PAPER = "no paper states this reference's recipe; the identity has the option"


class VisionOnly(LinearHeadMethod):
    """What tables call "vision only": a network trained on labels, by cross-entropy of a linear head.

    It knows its training classes and no names of classes: it has no zero-shot protocol and no novel classes. Released
    weights bring a head of their own. That head scores where the training subset has as many classes as it has rows, in
    their order; otherwise a new one is drawn.

    Example:
        >>> from vlbench.backbones import VideoNetwork
        >>> method = VisionOnly(VideoNetwork("x3d_m", frames=4, image_size=32))
        >>> method.opens_vocabulary
        False

    Args:
        backbone: Video network, or any backbone whose text tower then is not used.
        schedule: Schedule of the learning rate.
        trained: What trains: `all`, the tower and the head, the `head` alone, or `nothing`, to test released weights
            with their own head.
        lr: Peak learning rate of the head.
        backbone_lr_ratio: Learning rate of the tower, divided by that of the head.
        weight_decay: Weight decay of AdamW.
        head_std: Standard deviation of the head's weights in the beginning.
        dropout: Part of a feature's values that training sets to 0, in [0, 1).
        view_fusion: What is averaged over the views of a video: `probabilities` or `logits`.
    """

    name = "vision_only"
    NO_DEVIATION: ClassVar[Mapping[str, str]] = {
        **LinearHeadMethod.NO_DEVIATION,
        **dict.fromkeys(
            (
                "trained", "lr", "backbone_lr_ratio", "weight_decay", "head_std", "dropout", "view_fusion",
                "warmup_epochs", "final_ratio", "refresh_every", "cosine_from", "lag", "initial_ratio", "floor",
            ),
            _NO_PAPER,
        ),
    }  # fmt: skip
    SIDES: ClassVar[Mapping[str, Side]] = {
        **LinearHeadMethod.SIDES,
        "trained": "training",
        "backbone_lr_ratio": "training",
        "head_std": "training",
        "dropout": "training",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = Schedule(warmup_epochs=5, final_ratio=0.01),  # noqa: B008 - frozen
        trained: Trained = "all",
        lr: float = 1e-3,
        backbone_lr_ratio: float = 0.1,
        weight_decay: float = 1e-4,
        head_std: float = 0.01,
        dropout: float = 0.5,
        view_fusion: ViewFusion = "probabilities",
    ) -> None:
        super().__init__(backbone, schedule, view_fusion=view_fusion, head_std=head_std, dropout=dropout)
        if trained not in ("all", "head", "nothing"):
            raise ConfigError(f"trained is {trained!r}; allowed: 'all', 'head', 'nothing'")
        WEIGHTS.check("lr", lr)
        WEIGHTS.check("backbone_lr_ratio", backbone_lr_ratio)
        WEIGHTS.check("weight_decay", weight_decay)
        self.trained = trained
        self.lr = lr
        self.backbone_lr_ratio = backbone_lr_ratio
        self.weight_decay = weight_decay
        backbone.requires_grad_(False)
        backbone.visual.requires_grad_(trained == "all")
        self.head.requires_grad_(trained != "nothing")

    @override
    def use_train_classes(self) -> None:
        before = self.head.class_names
        super().use_train_classes()
        released = getattr(self.backbone, "released_head", None)
        if before == self.head.class_names or (released is None and self.trained != "nothing"):
            return
        rows, classes = 0 if released is None else len(released["bias"]), len(self.head.class_names)
        if released is not None and rows == classes:
            self.head.load_state_dict(released)
            return
        name = self.backbone.identity.pretrained or "no file"
        differ = f"the head of {name} has {rows} classes and the training subset {classes}"
        if self.trained == "nothing":
            raise ConfigError(
                f"trained is 'nothing' and {differ}; train a head (trained: head), or give the data of the file"
            )
        rank_zero_warn(f"{differ}: a new head is drawn")

    @override
    def parameter_groups(self) -> list[dict[str, Any]]:
        def factor(name: str) -> float:
            return 1.0 if name.startswith("head.") else self.backbone_lr_ratio

        return trained_groups(self.named_parameters(), lr=self.lr, weight_decay=self.weight_decay, factor=factor)
