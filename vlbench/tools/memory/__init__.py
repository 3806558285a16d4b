"""How much memory of a GPU a training takes, told without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from vlbench.clips.batch import ClipBatch
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList
from vlbench.methods.base import VideoTextMethod
from vlbench.tools.memory.fake_cuda import fake_cuda

Precision = Literal["32-true", "bf16-mixed"]
"""Precision of a training as Lightning's Trainer names it."""

_NAME = "doing something with an object"  # six tokens, about what class names of the field have
_SENTENCE = "a person does something with an object, and then something else, in a place where people do such things"


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a GPU that a training step takes, in bytes.

    Attributes:
        weights: Bytes of parameters and buffers.
        gradients: Bytes of the gradients of the parameters that train.
        optimizer: Bytes of AdamW's two averages of each parameter that trains.
        activations: Bytes that the forward pass keeps for the backward pass, casts of the weights included.
        temporaries: Bytes beyond them at the moment of the forward pass that takes most.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    temporaries: int

    @property
    def total(self) -> int:
        """Bytes of a training step: the sum of the parts."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.temporaries


class SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Context that counts the bytes of what forward passes keep for backward passes, each storage once.

    Args:
        known: Tensors that are in memory anyway, such as weights.

    Attributes:
        bytes: Bytes that were kept.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self.bytes = 0
        self._seen = {StorageWeakRef(tensor.untyped_storage()) for tensor in known}

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = StorageWeakRef(tensor.untyped_storage())
        if storage not in self._seen:
            self._seen.add(storage)
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor


def prepare(method: VideoTextMethod, classes: int) -> None:
    """Has a method begin a training on classes with names and sentences of usual lengths, without a dataset.

    Args:
        method: Method on the device that it computes on.
        classes: Number C of training classes.
    """
    names = tuple(f"{_NAME} {index}" for index in range(classes))
    sentences = tuple((_SENTENCE,) for _ in names)
    method.train_classes = ClassList(names, tuple(range(classes)), names, Descriptions(sentences, sentences))
    method.templates = method.templates[:1]  # frozen text features take no more room for more templates
    method.on_fit_start()


def estimate(
    method: VideoTextMethod,
    *,
    frames: int,
    batch_size: int,
    precision: Precision = "32-true",
    classes: int = 400,
) -> MemoryEstimate:
    """Memory that a training step of a method takes, from tensors that pretend to be on a GPU.

    Args:
        method: Method on the meta device or the CPU; it is of no other use afterwards.
        frames: Number T of frames of a clip.
        batch_size: Number B of clips.
        precision: Precision of the training as the Trainer names it.
        classes: Number C of training classes.
    """
    size = method.backbone.image_size
    with fake_cuda() as cuda:
        cuda.move(method)
        prepare(method, classes)
        video = cuda.pretend(torch.empty(batch_size, frames, 3, size, size, dtype=torch.uint8, device="meta"))
        labels = cuda.pretend(torch.empty(batch_size, dtype=torch.int64, device="meta"))
        batch = ClipBatch(video, labels, [str(index) for index in range(batch_size)], {})
        state = [*method.parameters(), *method.buffers()]
        saved, before = SavedTensors(state), cuda.bytes
        cuda.peak = before
        with (
            saved,
            torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"),
        ):
            loss = method.training_loss(batch)["loss"]
        del loss
        # A step that computes gradients of its own keeps less at once than it keeps in all.
        activations = min(saved.bytes, cuda.peak - before)
        temporaries = cuda.peak - before - activations
    trained = sum(_bytes(parameter) for parameter in method.parameters() if parameter.requires_grad)
    return MemoryEstimate(sum(map(_bytes, state)), trained, 2 * trained, activations, temporaries)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
