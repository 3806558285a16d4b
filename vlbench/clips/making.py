"""What the clips of a DataModule are, by its options: which frames, how they are cut, changed and decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning import LightningDataModule

from vlbench.clips.options import Augmentation, ClipOptions, Interpolation, LoadingOptions, ResizeMode
from vlbench.clips.readers import TestViews, TrainClips
from vlbench.clips.transforms import TrainTransform
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import VideoItem
from vlbench.errors import ConfigError


class ClipMaker(LightningDataModule):
    """Clips of any videos as the options say; `VideoDataModule` takes the options and adds their order and batches.

    Attributes:
        dataset: Dataset whose classes say whether clips may be mirrored.
        frames: Number T of frames of a clip.
        clip: What the frames of a clip are.
        augmentation: Random changes to training clips.
        loading: Batches, repetition and decoding of the clips.
        image_size: Side of the square frames, in pixels.
        interpolation: Interpolation by which whole frames are resized.
        resize_mode: Whether whole frames are resized by their shorter side or both sides to one length.
        seed: Seed of the augmentation of training clips.
    """

    dataset: VideoDataset
    frames: int
    clip: ClipOptions
    augmentation: Augmentation
    loading: LoadingOptions
    image_size: int | None
    interpolation: Interpolation
    resize_mode: ResizeMode
    seed: int

    def training_clips(self, items: Sequence[VideoItem]) -> TrainClips:
        """Random clips of videos, augmented, or cut where the model's device does the rest.

        Args:
            items: Videos that clips are read from.
        """
        transform, on_device = self._train_transform(), self.augmentation.run_on == "device"
        return TrainClips(
            items,
            frames=self.frames,
            sampling=self.clip.sampling,
            transform=transform.cut if on_device else transform,
            backend=self.loading.backend,
            device=self._decoding_device(),
            seed=self.seed,
            shared_ends=self.clip.segment_ends == "shared",
        )

    def test_views(self, items: Sequence[VideoItem]) -> TestViews:
        """Views of videos, the same at every call.

        Args:
            items: Videos that views are read from.
        """
        size = self._size()
        return TestViews(
            items,
            frames=self.frames,
            sampling=self.clip.sampling,
            views=self.clip.views,
            size=size,
            resize=round(self.clip.test_short_side * size),
            interpolation=self.interpolation,
            resize_mode=self.resize_mode,
            backend=self.loading.backend,
            device=self._decoding_device(),
        )

    def _train_transform(self) -> TrainTransform:
        augmentation, size = self.augmentation, self._size()
        return TrainTransform(
            size,
            resize=round(augmentation.short_side * size),
            fused_resize=augmentation.fused_resize,
            scale=augmentation.scale,
            horizontal_flip=self._flips(),
            color_jitter=augmentation.color_jitter,
            gray=augmentation.gray,
            interpolation=self.interpolation,
            resize_mode=self.resize_mode,
        )

    def _flips(self) -> bool:
        """Whether half of the training clips are mirrored."""
        flip = self.augmentation.flip
        return flip if flip is not None else not self.dataset.spec.directional

    def _decoding_device(self) -> str:
        """Device that decodes: the CPU, or the GPU of this process."""
        if self.loading.decode_on == "cpu":
            return "cpu"
        if not torch.cuda.is_available():
            raise ConfigError("loading.decode_on is cuda and torch finds no CUDA device here; set it to cpu")
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cuda")
        return str(device) if device.type == "cuda" else "cuda"

    def _size(self) -> int:
        if self.image_size is None:
            raise ConfigError(
                "image_size is null; give the side of the backbone's frames, image_size=backbone.image_size"
            )
        return self.image_size
