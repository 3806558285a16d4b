"""Datasets whose class names stand in a file that comes with their annotations, and not in vlbench."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from typing_extensions import override

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists.annotations import labels_by_name
from vlbench.datasets.specs import DatasetSpec
from vlbench.errors import DataError


class NamedByFile(VideoDataset):
    """A dataset that reads its class names from an official file, so that none is guessed.

    A subclass states what is known without the file (`facts`, with `class_count` and `names_file`) and reads the names
    (`read_names`). Whatever asks for a class name asks for the file.
    """

    @property
    @abstractmethod
    @override
    def facts(self) -> DatasetSpec:
        """Facts about the dataset that need none of its files: the number of its classes, and no names."""

    @abstractmethod
    def read_names(self, path: Path) -> Sequence[str]:
        """Class names in label order, as they enter the prompts.

        Args:
            path: File that names the classes.

        Raises:
            DataError: If the file cannot be read or has another shape.
        """

    @property
    def names_path(self) -> Path:
        """File that the class names are read from."""
        return self.root / self.facts.names_file

    @cached_property
    @override
    def spec(self) -> DatasetSpec:
        path = self.names_path
        if not path.is_file():
            raise self.missing(path, "which names the classes")
        names = tuple(self.read_names(path))
        unnamed = next((label for label, name in enumerate(names) if not name.strip()), None)
        if unnamed is not None:
            raise DataError(f"{path}: class {unnamed} has no name; fetch the official file again")
        try:
            labels_by_name(names)
        except DataError as error:
            raise DataError(f"{path}: {error}; fetch the official file again") from error
        if len(names) != self.facts.class_count:
            editions = f", or set data.variant ({', '.join(self.variants)})" if len(self.variants) > 1 else ""
            raise DataError(
                f"{path} names {len(names)} classes; {self.label} has {self.facts.class_count}: fetch the official file"
                f" again{editions}"
            )
        return replace(self.facts, class_names=names)
