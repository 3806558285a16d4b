"""Every method of the package with weights that are not its initial ones, on the small CLIP or two blocks of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from tests.gpu.test_fake import METHODS, SIZES
from vlbench.backbones import TinyCLIP
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.head_only.base import HeadOnly, TrainingFeatures

FRAMES = 2
NAMES = ("a red ball rising", "a blue box falling", "a green net standing still", "a white star turning")
SENTENCES = tuple((f"{name} is small", f"{name} is large") for name in NAMES)
CLASSES = ClassList(NAMES, tuple(range(len(NAMES))), NAMES, Descriptions(SENTENCES, SENTENCES))

KINDS = {kind.__name__: kind for kind in METHODS}
_OPTIONS = {
    **SIZES, "MoTE": {"layers": 1, "experts": 2}, "XCLIP": {"frames": FRAMES}, "AIM": {"frames": FRAMES},
    "ActionCLIP": {"frames": FRAMES}, "TCCLIP": {"context_tokens": 4},
    "EfficientPrompt": {"text_tokens": 4, "layers": 1},
}  # fmt: skip


def moved(kind: type[VideoTextMethod], *, depth: int | None = 2, **options: Any) -> VideoTextMethod:
    """A method whose classes are `NAMES`, in evaluation mode, with other values of all that trains.

    Towers are so many blocks deep: each is traced. `None` leaves them whole, as checkpoints need.
    """
    torch.manual_seed(0)
    backbone = TinyCLIP()
    if depth is not None:
        for tower in (backbone.image, backbone.text):
            del tower._registered[depth:]
            tower._loaded = tower.blocks
    method = kind(backbone, **{**_OPTIONS.get(kind.__name__, {}), **options})
    method.use(SimpleNamespace(train_classes=CLASSES))
    method.setup("test")
    if isinstance(method, HeadOnly):
        features = torch.randn(12, 1, method.backbone.embed_dim)
        method.learn_from(TrainingFeatures(features, torch.arange(12) % len(NAMES)), None, NAMES)
    elif any(parameter.requires_grad for parameter in method.parameters()):
        method.on_fit_start()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * parameter.abs().mean().clamp(min=0.02) * torch.randn_like(parameter))
    return method.eval()
