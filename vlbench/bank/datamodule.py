"""The DataModule of a bank: features in place of videos, for every method that reads frame features."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

from torch.utils.data import DataLoader
from typing_extensions import override

from vlbench.bank.bank import FeatureBank
from vlbench.bank.batches import StoredClips, StoredViews, collate
from vlbench.bank.dataset import BankDataset
from vlbench.bank.facts import Kind
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.options import (
    DATA_SIDES,
    Augmentation,
    ClipOptions,
    Interpolation,
    LoadingOptions,
    ResizeMode,
    Views,
)
from vlbench.clips.samplers import UnpaddedSampler
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import Part, Subset
from vlbench.errors import ConfigError
from vlbench.ranges import Range
from vlbench.settings import Side, of_side

_OF_USE = ("loading.epoch_size", "loading.on_error")
"""Options of the loading that can change a number where nothing is decoded."""


class FeatureBankDataModule(VideoDataModule):
    """Training, validation and test features of a bank, see `vlbench features`.

    What a clip is, and how it was augmented, the bank says. A training sees the augmented passes of a video in turn, or
    its views where the bank has no augmented passes.

    Args:
        root: Folder of the bank, or a folder with a single bank below it.
        train: Subset of the dataset that is trained on.
        test: Subset of the dataset that is evaluated, or several.
        splits_dir: Folder of the field's published lists, see `VideoDataModule`; their videos must be in the bank.
        heldout: Part of the training videos of each class that is left out of the training and is the validation part,
            in [0, 1).
        passes: Number of augmented passes that a training sees; null means all that the bank has, 0 the views.
        batch_size: Training clips that a process takes at once.
        loading: Batches, repetition and unreadable videos; what it says of decoding is not used.
        image_size: Side of the square frames, in pixels; the backbone's `image_size`.
        interpolation: Interpolation by which whole frames are resized; the backbone's `preprocess.interpolation`.
        resize_mode: Resize mode of whole frames; the backbone's `preprocess.resize_mode`.
        seed: Seed of the order of training clips.
        validate_on_test: Whether the test part also is the validation part.
        class_list: File that names the classes that the dataset is restricted to, see `VideoDataModule`.

    Raises:
        ConfigError: If an option is out of its range.
        DataError: If there is no whole bank.
    """

    dataset_class: ClassVar[type[VideoDataset]] = BankDataset
    dataset: VideoDataset

    def __init__(
        self,
        root: str | None = None,
        train: Subset = Subset(),  # noqa: B008 - frozen
        test: Subset | list[Subset] = Subset(),  # noqa: B008 - frozen
        splits_dir: str | None = None,
        heldout: float = 0.0,
        passes: int | None = None,
        batch_size: int = 256,
        loading: LoadingOptions = LoadingOptions(),  # noqa: B008 - frozen
        image_size: int | None = None,
        interpolation: Interpolation = "bicubic",
        resize_mode: ResizeMode = "shortest",
        seed: int = 0,
        validate_on_test: bool = False,
        class_list: str | None = None,
    ) -> None:
        Range(0, 1_000).check("passes", passes, "all that the bank has")
        bank = BankDataset(root).bank
        views = Views(**bank.facts.clip["views"])
        super().__init__(
            root=str(bank.folder), train=train, test=test, splits_dir=splits_dir, heldout=heldout,
            frames=bank.facts.frames, batch_size=batch_size, num_workers=0,
            clip=ClipOptions(**{**bank.facts.clip, "views": views}), augmentation=Augmentation(), loading=loading,
            image_size=image_size, interpolation=interpolation, resize_mode=resize_mode, seed=seed,
            validate_on_test=validate_on_test, class_list=class_list,
        )  # fmt: skip
        assert isinstance(self.dataset, BankDataset)
        self.dataset.bank = bank  # its files are opened and checked once
        if passes is not None and passes > bank.facts.augmented:
            raise ConfigError(
                f"passes is {passes} and the bank {bank.folder} has {bank.facts.augmented} augmented passes; allowed: 0"
                f" to {bank.facts.augmented}, or make a bank by `vlbench features --augmented {passes}`"
            )
        self.passes = bank.facts.augmented if passes is None else passes

    @property
    def bank(self) -> FeatureBank:
        """The bank that the features are of."""
        assert isinstance(self.dataset, BankDataset)
        return self.dataset.bank

    def drawn(self, shots: int, seed: int, bank: FeatureBank) -> FeatureBankDataModule:
        """The same data with another draw of training videos.

        Args:
            shots: Training videos a class.
            seed: Seed of the draw and of the order of training clips.
            bank: The bank, opened before.
        """
        other = copy(self)
        dataset = self.dataset.with_training(replace(self.dataset.train_subset, shots=shots, seed=seed))
        assert isinstance(dataset, BankDataset)
        dataset.bank = bank
        other.dataset = dataset
        other.seed = seed
        other.skipped = set()
        return other

    @override
    def settings(self, side: Side) -> dict[str, object]:
        facts = self.bank.facts
        # The clips that a training sees are those of the views where it sees no augmented ones.
        of_training = facts.settings["augmented" if self.passes else "views"]
        settings = dict(of_training if side == "training" else facts.settings["views"])
        options: dict[str, object] = {"features.dtype": facts.dtype}
        if self.dataset.class_list is not None:
            options["dataset"] = self.dataset.digest("train" if side == "training" else "test")
        if side == "training":
            options |= {"heldout": self.dataset.heldout, "features.passes": self.passes}
            options |= {"features.seed": facts.seed} if self.passes else {}
        if side == "validation":
            options["validate_on_test"] = self.dataset.validate_on_test
        of_use = {name: getattr(self.loading, name.removeprefix("loading.")) for name in _OF_USE}
        return {**settings, **of_side(options, {}, side), **of_side(of_use, DATA_SIDES, side)}

    @override
    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled training features; the last batch may be smaller."""
        kind: Kind = "augmented" if self.passes else "views"
        dataset = StoredClips(self.bank, self.dataset.videos("train"), kind, in_memory=True)
        sampler, batch_size = self._training_order(len(dataset))
        return self._loader(dataset, batch_size, sampler)

    @override
    def batch_of_evaluation(self) -> int:
        """Videos that a process takes at once in an evaluation; their views are computed and do not count."""
        return self.loading.eval_batch_size or self.batch_size

    def _evaluation(self, part: Part) -> DataLoader[Any]:
        dataset = StoredViews(self.bank, self.dataset.videos(part), "views")
        rank, world_size = self._process()
        batch_size = self.batch_of_evaluation()
        sampler = UnpaddedSampler(len(dataset), batch_size=batch_size, rank=rank, world_size=world_size)
        if not len(sampler):  # see VideoDataModule
            return DataLoader(dataset, batch_sampler=[[]], collate_fn=collate)
        return self._loader(dataset, batch_size, sampler)

    def _loader(self, dataset: Any, batch_size: int, sampler: Any) -> DataLoader[Any]:
        options = self.loader_options()
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=collate, **options)
