"""One DataModule base for every dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader
from typing_extensions import override

from vlbench.data.batch import ClipBatch
from vlbench.data.collection import VideoCollection
from vlbench.data.dataset import Sampling, TestViews, TrainClips, TrainSampler, UnpaddedSampler, Views, micro_batches
from vlbench.data.decoding import Backend
from vlbench.data.specs import Part, Subset
from vlbench.data.transforms import train_transform
from vlbench.errors import ConfigError, DecodeError

__all__ = ["Augmentation", "Part", "VideoDataModule"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training clips; all frames of a clip change alike.

    Attributes:
        short_side: the frames' short side before cropping, in units of the image size (256/224 of the papers).
        fused_resize: crop first and resize once; cheaper, but another interpolation.
        scale: smallest and largest area of the crop, as a part of the frame.
        flip: mirror half of the clips; `None` means unless the dataset's classes have a direction.
        color_jitter: probability of changing brightness, contrast, saturation and hue.
        gray: probability of dropping the colours.
    """

    short_side: float = 256 / 224
    fused_resize: bool = False
    scale: tuple[float, float] = (0.08, 1.0)
    flip: bool | None = None
    color_jitter: float = 0.8
    gray: float = 0.2


class VideoDataModule(VideoCollection, LightningDataModule):
    """Training, validation and test clips of one dataset.

    A subclass states the facts (`spec`) and lists the videos (`items`), see `VideoCollection`; everything else is here.

    Args:
        root: folder of the dataset; `None` means `$VLBENCH_DATA/<folder>`, or `data/<folder>` without the variable.
        variant: which of the dataset's named variants; `None` means the first one.
        train: what to train on.
        test: what to evaluate on; of several subsets every video is read and encoded once.
        splits_dir: folder of the field's published lists (see `vlbench.data.published`), which then say what the
            training and test videos are; only a training part with all its videos may come from the official list.
            Without it the official lists do, and shots are drawn from them.
        frames: T, frames of a clip.
        sampling: how the frames of a clip are chosen: `uniform`, spread over the whole video; `dense`, out of 128
            neighbouring ones, as in MoTE's released code; `pytorchvideo`, the same by that library's clip samplers.
        segment_ends: whether neighbouring segments of uniform training clips share a frame: `shared`, as in MoTE's
            released code, or `exclusive`.
        views: views of a test video.
        test_short_side: the frames' short side before the test crops, in units of the image size.
        image_size: side of a crop, in pixels; `None` takes the backbone's.
        augmentation: of training clips.
        batch_size: training clips a process takes at once.
        effective_batch: training clips of an optimizer step, over all processes; how many are taken at once, at most
            `batch_size`, and how often gradients are accumulated follow from it. `None` means `batch_size` of each
            process.
        eval_batch_size: videos a process in evaluation; `None` means `batch_size`.
        epoch_size: training clips an epoch, over all processes; above the number of videos they come several times.
            `None` means each once.
        heldout: part of the training videos of each class that is left out and is the validation part, in [0, 1).
        num_workers: processes that decode.
        backend: decoder.
        on_error: what a training video that cannot be read does: `raise` ends the run, `skip` leaves it out and the
            record says so.
            In evaluation it always counts as wrong.
        seed: of the order and the augmentation.
    """

    def __init__(
        self,
        root: str | None = None,
        variant: str | None = None,
        train: Subset = Subset(),  # noqa: B008 - frozen
        test: Subset | list[Subset] = Subset(),  # noqa: B008 - frozen
        splits_dir: str | None = None,
        frames: int = 8,
        sampling: Sampling = "uniform",
        segment_ends: Literal["shared", "exclusive"] = "shared",
        views: Views = Views(),  # noqa: B008 - frozen
        test_short_side: float = 1.0,
        image_size: int | None = None,
        augmentation: Augmentation = Augmentation(),
        batch_size: int = 32,
        effective_batch: int | None = None,
        eval_batch_size: int | None = None,
        epoch_size: int | None = None,
        heldout: float = 0.0,
        num_workers: int = 4,
        backend: Backend = "pyav",
        on_error: Literal["raise", "skip"] = "raise",
        seed: int = 0,
    ) -> None:
        LightningDataModule.__init__(self)
        VideoCollection.__init__(self, root, variant, train, test, splits_dir, heldout)
        counts = {
            "frames": frames,
            "batch_size": batch_size,
            "effective_batch": effective_batch,
            "epoch_size": epoch_size,
        }
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; allowed: 1 or more")
        self.frames = frames
        self.sampling = sampling
        self.segment_ends = segment_ends
        self.views = views
        self.test_short_side = test_short_side
        self.image_size = image_size
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.effective_batch = effective_batch
        self.eval_batch_size = eval_batch_size or batch_size
        self.epoch_size = epoch_size
        self.num_workers = num_workers
        self.backend: Backend = backend
        self.on_error = on_error
        self.seed = seed
        self.epochs_before = 0
        self.skipped: set[str] = set()

    def check(self, stage: str) -> None:
        """Whether a stage can run; called before a model is built.

        Raises:
            DataError: if videos or lists are missing.
            ConfigError: if the stage needs a part that the dataset does not have.
        """
        self.setup(stage)

    def setup(self, stage: str) -> None:
        """Reads the lists a stage needs, and tells the trainer how often to accumulate gradients.

        Raises:
            DataError: if videos or lists are missing.
            ConfigError: if the stage needs a part that the dataset does not have, or `effective_batch` cannot be met.
        """
        part: Part = "train" if stage == "fit" else "validation" if stage == "validate" else "test"
        if not self.videos(part):
            raise ConfigError(
                f"{self.label} has no {part} part"
                f"{'; `vlbench test` evaluates on the test part' if part == 'validation' else ''}"
            )
        if part != "validation":
            self.check_disjoint()
        if part == "train" and self.effective_batch is not None and self.trainer is not None:
            self._accumulate(self.trainer, self.effective_batch)

    def _accumulate(self, trainer: Trainer, effective_batch: int) -> None:
        _, steps = micro_batches(effective_batch, trainer.world_size, self.batch_size)
        if trainer.accumulate_grad_batches not in (1, steps):
            raise ConfigError(
                f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}, effective_batch "
                f"{effective_batch} makes it {steps}; set only one of them"
            )
        trainer.accumulate_grad_batches = steps

    def batch_of_step(self, trainer: Trainer) -> int:
        """Training clips of an optimizer step, over all processes."""
        return self.effective_batch or self.batch_size * trainer.world_size * trainer.accumulate_grad_batches

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know of the one before."""
        return {"epochs": self.epochs_done(self.trainer) if self.trainer else 0, "skipped": sorted(self.skipped)}

    def epochs_done(self, trainer: Any) -> int:
        """Epochs trained, also while one ends and its checkpoint is written, when `current_epoch` is one behind."""
        return int(trainer.fit_loop.epoch_progress.current.processed)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up `state_dict`."""
        self.epochs_before = state_dict["epochs"]
        self.skipped = set(state_dict["skipped"])

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled training clips; the last incomplete batch is dropped unless it is the only one."""
        augmentation, size = self.augmentation, self._size()
        flip = augmentation.flip if augmentation.flip is not None else not self.spec.directional
        dataset = TrainClips(
            self.videos("train"),
            frames=self.frames,
            sampling=self.sampling,
            transform=train_transform(
                size,
                resize=round(augmentation.short_side * size),
                fused_resize=augmentation.fused_resize,
                scale=augmentation.scale,
                horizontal_flip=flip,
                color_jitter=augmentation.color_jitter,
                gray=augmentation.gray,
            ),
            backend=self.backend,
            seed=self.seed,
            shared_ends=self.segment_ends == "shared",
        )
        rank, world_size = self._process()
        sampler = TrainSampler(
            len(dataset),
            epoch_size=self.epoch_size,
            effective_batch=self.effective_batch,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        # Workers fetch the first indices before the trainer of a resumed training says which epoch it is.
        sampler.set_epoch(self.epochs_before)
        batch_size = self.batch_size
        if self.effective_batch is not None:
            batch_size, _ = micro_batches(self.effective_batch, world_size, self.batch_size)
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= batch_size,
            **self._loading(),
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation part, where the dataset has one."""
        return self._evaluation("validation") if self.videos("validation") else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test video exactly once over all processes."""
        return self._evaluation("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test videos."""
        return self._evaluation("test")

    @override
    def on_before_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Deals with unreadable training videos in the main process."""
        if batch.failures and self.trainer is not None and self.trainer.training:
            video, (_, cause) = next(iter(batch.failures.items()))
            if self.on_error == "raise" or batch.video is None:
                raise DecodeError(video, f"{cause} (data.on_error: skip leaves such training videos out)")
            self.skipped.update(batch.failures)
        return batch

    def _evaluation(self, part: Part) -> DataLoader[Any]:
        size = self._size()
        dataset = TestViews(
            self.videos(part),
            frames=self.frames,
            sampling=self.sampling,
            views=self.views,
            size=size,
            resize=round(self.test_short_side * size),
            backend=self.backend,
        )
        rank, world_size = self._process()
        sampler = UnpaddedSampler(len(dataset), rank=rank, world_size=world_size)
        if not len(sampler):
            # One empty batch: Lightning runs no hook of an empty evaluation, and the other processes would wait for it.
            return DataLoader(dataset, batch_sampler=[[]], **self._loading())
        return DataLoader(dataset, batch_size=self.eval_batch_size, sampler=sampler, **self._loading())

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "collate_fn": ClipBatch.collate,
            # Its own, so that starting to read does not move the global one: a resumed training does so once more.
            "generator": torch.Generator().manual_seed(self.seed),
            "persistent_workers": self.num_workers > 0,
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        }

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _size(self) -> int:
        if self.image_size is not None:
            return self.image_size
        backbone = getattr(getattr(self.trainer, "lightning_module", None), "backbone", None)
        if backbone is None:
            raise ConfigError("image_size is null and there is no backbone to take it from; set data.image_size")
        return int(backbone.image_size)
