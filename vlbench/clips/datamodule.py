"""The DataModule that every dataset has one of."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from vlbench.clips.batch import ClipBatch, CutBatch, ViewBatch
from vlbench.clips.counterfactual import CounterfactualBatch, CounterfactualViews
from vlbench.clips.options import (
    DATA_ELSEWHERE,
    DATA_SAME_NUMBERS,
    DATA_SIDES,
    NORMAL,
    Augmentation,
    ClipOptions,
    Interpolation,
    LoadingOptions,
    ResizeMode,
    ViewOrder,
)
from vlbench.clips.readers import TestViews, TrainClips
from vlbench.clips.samplers import TrainSampler, UnpaddedSampler, micro_batches
from vlbench.clips.transforms import TrainTransform
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import Part, Stored, Subset, VideoItem
from vlbench.errors import ConfigError, DecodeError
from vlbench.processes import ending_with_this
from vlbench.ranges import BATCHES, FRAMES, PROCESSES, SEEDS, SIDES
from vlbench.settings import Side, flat, of_side

Batch = TypeVar("Batch", ClipBatch, CutBatch, ViewBatch)

_PARTS: dict[str, Part] = {"fit": "train", "validate": "validation", "test": "test", "predict": "test"}
"""Part of the dataset that a stage of Lightning's needs."""

_USUAL = {
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "loading.backend": "pyav",
    "clip.views.order": NORMAL,
}
"""What most backbones were trained with, the decoder that refuses damaged frames, and an ordinary test's frames."""


class VideoDataModule(LightningDataModule):
    """Training, validation and test clips of one dataset.

    A subclass names its dataset and adds nothing, see `vlbench.clips.datamodules`.

    Args:
        root: Folder of the dataset; null means `$VLBENCH_DATA/<folder>`, or `data/<folder>` without the variable.
        variant: Named variant of the dataset; null means the first one.
        train: Subset of the dataset that is trained on.
        test: Subset of the dataset that is evaluated; of several subsets every video is read and encoded once.
        splits_dir: Folder of the field's published lists (see `vlbench.datasets.lists.published`), which then say what
            the training and test videos are; only a training part with all its videos may come from the official list.
            Without this folder the official lists do, and shots are drawn from them.
        heldout: Part of the training videos of each class that is left out of the training and is the validation part,
            in [0, 1).
        frames: Number T of frames of a clip.
        batch_size: Training clips that a process takes at once.
        num_workers: Processes that decode videos; null means the cores that this process may use divided by the
            processes of the run on this machine, 0 decodes in the process itself.
        clip: What the frames of a clip are.
        augmentation: Random changes to training clips.
        loading: Batches, repetition and decoding of the clips.
        image_size: Side of the square frames, in pixels; the backbone's `image_size`.
        interpolation: Interpolation by which whole frames are resized; the backbone's `preprocess.interpolation`.
        resize_mode: Whether whole frames are resized by their shorter side, `shortest`, or both sides to one length,
            `squash`; the backbone's `preprocess.resize_mode`.
        seed: Seed of the order and the augmentation of training clips.
        validate_on_test: Whether the test part also is the validation part, for a selection of the epoch by its videos.
        class_list: File that names the classes that the dataset is restricted to, in training and test, a name a line
            or a CSV file with a column `name`; null means all of them. Labels stay in the dataset's order.

    Attributes:
        dataset: The dataset: its facts, and its videos by part and subset.
        skipped: Ids of the training videos that could not be read.
        orders: Orders that the test videos are scored in together, from one decoding a video; empty in an ordinary
            test, which has the order of `clip.views` alone.

    Example:
        >>> from vlbench.clips.datamodules import UCF101DataModule
        >>> data = UCF101DataModule(train=Subset(shots=16), frames=8, image_size=224)
        >>> data.dataset.train_classes.names[:2]
        ('Apply Eye Makeup', 'Apply Lipstick')

    Raises:
        ConfigError: If an option is out of its range.
    """

    dataset_class: ClassVar[type[VideoDataset]]
    """Class of the dataset."""

    def __init__(
        self,
        root: str | None = None,
        variant: str | None = None,
        train: Subset = Subset(),  # noqa: B008 - frozen
        test: Subset | list[Subset] = Subset(),  # noqa: B008 - frozen
        splits_dir: str | None = None,
        heldout: float = 0.0,
        frames: int = 8,
        batch_size: int = 32,
        num_workers: int | None = None,
        clip: ClipOptions = ClipOptions(),  # noqa: B008 - frozen
        augmentation: Augmentation = Augmentation(),  # noqa: B008 - frozen
        loading: LoadingOptions = LoadingOptions(),  # noqa: B008 - frozen
        image_size: int | None = None,
        interpolation: Interpolation = "bicubic",
        resize_mode: ResizeMode = "shortest",
        seed: int = 0,
        validate_on_test: bool = False,
        class_list: str | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(self, "dataset_class"):
            raise ConfigError(
                f"{type(self).__name__} has no dataset; set data.class_path to the DataModule of one, such as "
                "UCF101DataModule"
            )
        stored: Stored = "frames" if loading.backend == "rawframes" else "videos"
        self.dataset = self.dataset_class(
            root, variant, train, test, splits_dir, heldout, validate_on_test, class_list, stored
        )
        FRAMES.check("frames", frames)
        BATCHES.check("batch_size", batch_size)
        PROCESSES.check("num_workers", num_workers, "the cores there are")
        SIDES.check("image_size", image_size, "the backbone's")
        SEEDS.check("seed", seed)
        self.frames = frames
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.clip = clip
        self.augmentation = augmentation
        self.loading = loading
        if resize_mode == "squash" and clip.views.crops == 3:
            raise ConfigError(
                "clip.views.crops is 3 and the backbone's resize_mode squash: frames become squares without a longer "
                "side; allowed: 1 crop, or the backbone's option preprocess with resize_mode: shortest"
            )
        self.image_size = image_size
        self.interpolation = interpolation
        self.resize_mode = resize_mode
        self.seed = seed
        self.epochs_before = 0
        self.batches_before = 0
        self.skipped: set[str] = set()
        self.orders: tuple[ViewOrder, ...] = ()

    def prepare_data(self) -> None:
        """Makes the videos that the dataset can make by itself; Lightning calls it in one process a machine."""
        self.dataset.prepare()

    def setup(self, stage: str) -> None:
        """Reads the lists that a stage needs.

        Args:
            stage: One of `fit`, `validate`, `test`, `predict`.

        Raises:
            DataError: If videos or lists are missing.
            ConfigError: If the stage needs a part that the dataset does not have.
        """
        self.dataset.check(_PARTS[stage])

    def settings(self, side: Side) -> dict[str, object]:
        """Every option that can change a number, by its name, as plain values; see `vlbench.settings`.

        Args:
            side: What the option can change.
        """
        options: dict[str, object] = {"dataset": self.dataset.digest("train" if side == "training" else "test")}
        for name in inspect.signature(type(self)).parameters.keys() - DATA_ELSEWHERE.keys():
            kept_by = self.dataset if name in ("heldout", "validate_on_test") else self
            if not hasattr(kept_by, name):
                raise ConfigError(
                    f"{type(self).__name__} does not keep its argument {name}, so that records could not hold its"
                    f" value: set self.{name} = {name} in the constructor"
                )
            options.update(flat(name, getattr(kept_by, name)))
        options["augmentation.flip"] = self._flips()
        # 1.142857 and 256/224 are the same number of pixels.
        options["augmentation.short_side"] = round(self.augmentation.short_side, 6)
        options["clip.test_short_side"] = round(self.clip.test_short_side, 6)
        for name, usual in _USUAL.items():  # an identity names what is unusual
            if options[name] == usual:
                del options[name]
        known = options.keys() - DATA_ELSEWHERE.keys() - DATA_SAME_NUMBERS.keys()
        return of_side({name: options[name] for name in sorted(known)}, DATA_SIDES, side)

    def batch_of_step(self, trainer: Trainer) -> int:
        """Training clips of an optimizer step, over all processes."""
        effective = self.loading.effective_batch
        return effective or self.batch_size * trainer.world_size * trainer.accumulate_grad_batches

    def batch_of_process(self, processes: int) -> int:
        """Training clips that a process takes at once.

        Args:
            processes: Number of training processes.
        """
        effective = self.loading.effective_batch
        return self.batch_size if effective is None else micro_batches(effective, processes, self.batch_size)[0]

    def batch_of_evaluation(self) -> int:
        """Videos that a process takes at once in an evaluation."""
        views = self.clip.views.clips * self.clip.views.crops
        return self.loading.eval_batch_size or max(1, self.batch_size // views)

    def epochs_done(self, trainer: Trainer) -> int:
        """Epochs trained, also while one ends and its checkpoint is written, when `current_epoch` is one behind."""
        progress: Any = trainer.fit_loop.epoch_progress.current
        return int(progress.processed)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know of the one before."""
        epochs = self.epochs_done(self.trainer) if self.trainer else 0
        batches = batches_of_open_epoch(self.trainer) if self.trainer else 0
        return {"epochs": epochs, "batches": batches, "skipped": sorted(self.skipped)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up `state_dict`."""
        self.epochs_before = state_dict["epochs"]
        self.batches_before = state_dict["batches"]
        self.skipped = set(state_dict["skipped"])

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled training clips; the last incomplete batch is dropped unless it is the only one."""
        dataset = self.training_clips(self.dataset.videos("train"))
        sampler, batch_size = self._training_order(len(dataset))
        if self.loading.effective_batch is not None:
            _, steps = micro_batches(self.loading.effective_batch, sampler.world_size, self.batch_size)
            accumulated = self.trainer.accumulate_grad_batches if self.trainer is not None else steps
            if accumulated != steps:
                raise ConfigError(
                    f"loading.effective_batch is {self.loading.effective_batch}, which takes {steps} batches of"
                    f" {batch_size}, and the trainer accumulates {accumulated}; give it the callback"
                    f" EffectiveBatch({self.loading.effective_batch}, {self.batch_size})"
                )
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= batch_size,
            collate_fn=CutBatch.collate if self.augmentation.run_on == "device" else ClipBatch.collate,
            **self.loader_options(),
        )

    def _training_order(self, videos: int) -> tuple[TrainSampler, int]:
        """The order of a number of training videos, where a resumed training goes on in it, and the batch's size."""
        rank, world_size = self._process()
        sampler = TrainSampler(
            videos,
            epoch_size=self.loading.epoch_size,
            effective_batch=self.loading.effective_batch,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        # Workers fetch the first indices before the trainer of a resumed training says which epoch it is.
        batch_size = self.batch_of_process(world_size)
        sampler.resume(self.epochs_before, self.batches_before * batch_size)
        return sampler, batch_size

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation part, where the dataset has one."""
        return self._evaluation("validation") if self.dataset.videos("validation") else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test video exactly once over all processes."""
        return self._evaluation("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test videos."""
        return self._evaluation("test")

    @override
    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Deals with unreadable training videos in the main process."""
        if batch.failures and self.trainer is not None and self.trainer.training:
            video, (_, cause) = next(iter(batch.failures.items()))
            if self.loading.on_error == "raise" or not batch.ids:
                raise DecodeError(video, f"{cause} (data.loading.on_error: skip leaves such training videos out)")
            self.skipped.update(batch.failures)
        return batch

    @override
    def on_after_batch_transfer(self, batch: Batch | CutBatch, dataloader_idx: int) -> Batch | ClipBatch:
        """Makes the clips of boxes on the model's device, where `augmentation.run_on` says so."""
        return batch.finished(self._train_transform().finish) if isinstance(batch, CutBatch) else batch

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

    def _evaluation(self, part: Part) -> DataLoader[Any]:
        clips = self.test_views(self.dataset.videos(part))
        rank, world_size = self._process()
        batch_size = self.batch_of_evaluation()
        sampler = UnpaddedSampler(len(clips), batch_size=batch_size, rank=rank, world_size=world_size)
        at_once = self.loading.eval_batch_size or self.batch_size
        dataset: Dataset[Any] = clips
        collate: Callable[..., Any] = partial(ViewBatch.collate, at_once=at_once)
        if self.orders:
            dataset = CounterfactualViews(clips, self.orders)
            collate = partial(CounterfactualBatch.collate, at_once=at_once, orders=self.orders)
        if not len(sampler):
            # One empty batch: Lightning runs no hook of an empty evaluation, and the other processes would wait for it.
            return DataLoader(dataset, batch_sampler=[[]], collate_fn=collate, **self.loader_options())
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=collate, **self.loader_options())

    def loader_options(self) -> dict[str, Any]:
        """Options of a `DataLoader` that say how it loads and not what."""
        workers = self.num_workers
        if workers is None:
            workers = cores_of_a_process(self.trainer.num_devices if self.trainer is not None else 1)
        return {
            "num_workers": workers,
            "worker_init_fn": ending_with_this(),
            # Its own, so that starting to read does not move the global one: a resumed training does so once more.
            "generator": torch.Generator().manual_seed(self.seed),
            "persistent_workers": workers > 0,
            # A forked process cannot use CUDA.
            "multiprocessing_context": "spawn" if workers and self.loading.decode_on == "cuda" else None,
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        }

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

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _size(self) -> int:
        if self.image_size is None:
            raise ConfigError(
                "image_size is null; give the side of the backbone's frames, image_size=backbone.image_size"
            )
        return self.image_size


def batches_of_open_epoch(trainer: Trainer) -> int:
    """Batches that a process has trained on in an epoch that has not ended; 0 between epochs."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return int(batches.processed) if epochs.ready > epochs.processed else 0


def cores_of_a_process(processes: int) -> int:
    """Cores for one of several processes on this machine, at least 1.

    Args:
        processes: Processes of the run on this machine; torchrun's `LOCAL_WORLD_SIZE` counts where it is set.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
