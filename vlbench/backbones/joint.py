"""Backbones whose frames attend to each other."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.blocks import Position
from vlbench.backbones.layouts import Layout
from vlbench.backbones.text import TextTower
from vlbench.backbones.towers import Tower


class JointEncoder(DualEncoder):
    """A dual encoder whose video tower takes all tokens of a clip at once and gives one feature.

    Attributes:
        read: Position of the token that the feature is read from; `None` where all are pooled.
        vision_encoder: Video tower, with `embed` before its blocks and `project` behind them.
        text_encoder: Parts of the text tower.
    """

    read: Position | None = None
    vision_encoder: nn.Module
    text_encoder: nn.Module
    _image: Tower
    _text: TextTower
    _logit_scale: nn.Parameter

    @property
    @abstractmethod
    def layout(self) -> type[Layout]:
        """Order of the tokens of a clip."""

    @property
    @override
    def image(self) -> Tower:
        return self._image

    @property
    @override
    def text(self) -> TextTower:
        return self._text

    @property
    @override
    def visual(self) -> nn.Module:
        return self.vision_encoder

    @property
    @override
    def logit_scale(self) -> nn.Parameter:
        return self._logit_scale

    @override
    def encode_frames(self, pixels: Tensor, *, adapted: bool = True) -> Tensor:
        self.check_size(pixels)
        parts: Any = self.vision_encoder
        x = parts.embed(pixels)
        x = self._image.run(x, self.layout(pixels.shape[1]), read=self.read, adapted=adapted)
        features: Tensor = parts.project(x).unsqueeze(1)
        return features
