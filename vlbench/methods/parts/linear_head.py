"""A linear head over video features: what methods that know no class by its name score by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.base import VideoDataset
from vlbench.errors import CheckpointError
from vlbench.evaluation.evaluator import ClassState, Features
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.parts.checkpoint import header_in
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.optim import Schedule
from vlbench.ranges import WEIGHTS, Range

_NAMES = "class_names"


class LinearHead(nn.Module):
    """Logits `W dropout(x) + b` of features x, one row of W for each class.

    There are no rows until the classes are known.

    Args:
        width: Width D of the features.
        std: Standard deviation of the weights W in the beginning; biases begin as 0.
        dropout: Part of a feature's values that training sets to 0, in [0, 1).

    Attributes:
        class_names: Names of the classes, in the order of the rows.
    """

    def __init__(self, width: int, *, std: float = 0.01, dropout: float = 0.5) -> None:
        super().__init__()
        WEIGHTS.check("head_std", std)
        Range(0, 1, below=True).check("dropout", dropout)
        self.class_names: tuple[str, ...] = ()
        self.std = std
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(torch.empty(0, width))
        self.bias = nn.Parameter(torch.empty(0))

    def use_classes(self, names: Sequence[str]) -> None:
        """Makes a row for each class; nothing changes where the head has these classes already.

        Args:
            names: Names of the training classes, in label order.
        """
        if self.class_names != tuple(names):
            self.class_names = tuple(names)
            weight = self.weight.detach().new_empty(len(names), self.weight.shape[1])
            trains = self.weight.requires_grad
            self.weight = nn.Parameter(nn.init.normal_(weight, std=self.std), trains)
            self.bias = nn.Parameter(weight.new_zeros(len(names)), trains)

    def forward(self, features: Tensor) -> Tensor:
        """Logits `(..., C)` of features `(..., D)`, in the weights' precision under autocast too."""
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(self.dropout(features.to(self.weight.dtype)), self.weight, self.bias)


class LinearHeadMethod(VideoTextMethod):
    """A method that scores videos by a linear head over the mean frame feature, trained by cross-entropy.

    The head has a row for each training class and is part of the checkpoint, which names the classes.

    Args:
        backbone: Encoder of videos; its text tower, if it has one, is not used.
        schedule: Schedule of the learning rate.
        view_fusion: What is averaged over the views of a video.
        width: Width D of the features that are scored; `None` is the backbone's.
        head_std: Standard deviation of the head's weights in the beginning.
        dropout: Part of a feature's values that training sets to 0, in [0, 1).
    """

    opens_vocabulary = False

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule,
        *,
        view_fusion: ViewFusion,
        width: int | None = None,
        head_std: float = 0.01,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(backbone, "name", schedule)
        self.view_fusion = view_fusion
        self.head_std = head_std
        self.dropout = dropout
        self.head = LinearHead(width or backbone.embed_dim, std=head_std, dropout=dropout)

    @override
    def use(self, dataset: VideoDataset) -> None:
        super().use(dataset)
        self.train_classes = dataset.train_classes
        self.use_train_classes()

    def on_fit_start(self) -> None:
        """The head's rows, where a training begins without a dataset."""
        self.use_train_classes()

    def use_train_classes(self) -> None:
        """Has the head score the training classes."""
        assert self.train_classes is not None
        self.head.use_classes(self.train_classes.names)

    @property
    @override
    def fixed_classes(self) -> tuple[str, ...] | None:
        return None if self.opens_vocabulary else self.head.class_names

    @override
    def compile_blocks(self) -> None:
        """Has torch.compile compile the blocks of the image tower, or the tower where it has none, in place."""
        if self.backbone.capabilities.blocks:
            self.backbone.image.compile()
        else:
            self.backbone.visual.compile()

    @override
    def pool_frames(self, frames: Features, classes: ClassState | None = None) -> Features:
        """Video features `(B, D)`, at least float32: the mean of frame features `(B, F, D)`."""
        return frames.mean(dim=1, dtype=torch.promote_types(frames.dtype, torch.float32))

    @override
    def score(self, video: Features, classes: ClassState) -> Tensor:
        """Logits `(B, C)` of the training classes for video features `(B, D)`."""
        logits: Tensor = self.head(video)
        return logits

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert batch.video is not None
        video = self.encode_video(self.backbone.normalize(batch.video))
        return {"loss": F.cross_entropy(self.score(video, None), batch.labels)}

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        header_in(checkpoint)[_NAMES] = [*self.head.class_names]

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks, beside what every method does, that the checkpoint's head scores these classes.

        Raises:
            CheckpointError: If it does not.
        """
        super().on_load_checkpoint(checkpoint)
        names = header_in(checkpoint).get(_NAMES)
        if not isinstance(names, list):
            raise CheckpointError("the checkpoint does not name the classes of its linear head; train it again")
        if not self.head.class_names:
            self.head.use_classes(names)
        if self.head.class_names != tuple(names):
            raise CheckpointError(
                f"the checkpoint's linear head scores {_described(names)}, the data have "
                f"{_described(self.head.class_names)}; {self.name} has no open vocabulary: give the data that it was "
                "trained on"
            )


def _described(names: Sequence[str]) -> str:
    """The number of classes and the first of their names."""
    return f"{len(names)} classes ({', '.join(map(repr, names[:3]))}{', ...' if len(names) > 3 else ''})"
