"""Class names that a file rephrases: strings that stand in their place in the texts of a method."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from typing_extensions import override

from vlbench.datasets.descriptions import read_rephrased
from vlbench.datasets.specs import content_digest
from vlbench.errors import ConfigError
from vlbench.methods.base import VideoTextMethod
from vlbench.settings import Side


class RephrasedNames(VideoTextMethod):
    """A method whose option `rephrased` is a file of strings for the names of classes; the first of a method's bases.

    Attributes:
        rephrased: JSON file with a string `Name: sentence` for every class of the dataset; `None` keeps the names.
    """

    rephrased: str | None
    _rephrased: Mapping[str, str] = MappingProxyType({})

    @override
    def setup(self, stage: str) -> None:
        """Reads the names of the training classes, and the strings of all classes of the dataset.

        Raises:
            ConfigError: If no dataset was handed over, or an argument of the constructor is not kept.
            DataError: If the file is not that of the dataset's classes.
        """
        super().setup(stage)
        if self.rephrased is not None:
            assert self.train_classes is not None
            names = self.train_classes.all_names
            self._rephrased = dict(zip(names, read_rephrased(self.rephrased, names), strict=True))

    @override
    def settings(self, side: Side) -> dict[str, object]:
        settings = super().settings(side)
        if settings.get("rephrased") is not None:
            settings["rephrased"] = content_digest(self._rephrased.values())  # where the file lies says nothing of it
        return settings

    def rephrased_name(self, class_name: str) -> str:
        """What stands for a class name in the texts: its string in the file, or the name where there is no file.

        Raises:
            ConfigError: If the file lacks the class.
        """
        if self.rephrased is None:
            return class_name
        if class_name not in self._rephrased:
            raise ConfigError(
                f"rephrased is {self.rephrased}, a file without {class_name!r}; give the tested dataset's"
            )
        return self._rephrased[class_name]
