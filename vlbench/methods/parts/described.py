"""Sentences that describe the classes of a dataset, for methods that need them."""

from __future__ import annotations

from pathlib import Path

from vlbench.datasets.descriptions import Descriptions, read_descriptions
from vlbench.datasets.specs import ClassList
from vlbench.errors import ConfigError


def dataset_descriptions(classes: ClassList, folder: str | None, otherwise: str = "") -> Descriptions:
    """Descriptions of all classes of a dataset: those in a folder, or the ones that the dataset ships.

    Args:
        classes: Classes of the dataset.
        folder: Folder with `spatial.json` and `temporal.json`, a method's option `descriptions`; `None` takes the
            dataset's own.
        otherwise: Another way out where there are none, for the error.

    Raises:
        ConfigError: If there is no folder and the dataset ships no descriptions.
        DataError: If the folder does not describe exactly these classes.
    """
    if folder is not None:
        return read_descriptions(Path(folder), classes.all_names)
    if classes.descriptions is not None:
        return classes.descriptions.read()
    raise ConfigError(
        "this dataset ships no descriptions; give model.descriptions: DIR with spatial.json and temporal.json (class "
        f"index -> sentences){otherwise}"
    )
