"""Files that name some classes of a dataset, such as the field's temporal and static ones."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlbench.datasets.lists.text import NamedColumns, lines_of
from vlbench.datasets.specs import DatasetSpec, Subset, content_digest
from vlbench.errors import ConfigError
from vlbench.names import one_line, quoted

NAME_COLUMNS = ("name", "class", "class_name")
"""Header names of the column of class names of a CSV file."""


class ListedClasses:
    """Classes that a file names and a dataset is restricted to.

    Args:
        path: File of the names, see `read_class_names`.
        spec: Facts about the dataset, with all of its classes.

    Attributes:
        labels: Labels of the classes in the whole dataset, ascending.
        names: Names of the classes in the order of their labels.

    Raises:
        ConfigError: If the file names another class, a class twice or none.
        DataError: If the file cannot be read.
    """

    def __init__(self, path: Path, spec: DatasetSpec) -> None:
        listed = {*read_class_names(path, spec.class_names, spec.name)}
        self.labels = tuple(label for label, name in enumerate(spec.class_names) if name in listed)
        self.names = tuple(spec.class_names[label] for label in self.labels)
        self._path = path

    @property
    def note(self) -> str:
        """What names of lists of videos say of it: two files of one name and other classes have other notes."""
        return f"classes of {name_of(self._path)} {content_digest(self.names)[:8]}"

    def among(self, labels: Sequence[int], subset: Subset) -> tuple[int, ...]:
        """Those of some labels that the file names, in their order.

        Args:
            labels: Labels of the classes of a subset.
            subset: Subset that the labels are of, for the error.

        Raises:
            ConfigError: If there are none.
        """
        listed = frozenset(self.labels)
        kept = tuple(label for label in labels if label in listed)
        if not kept:
            raise ConfigError(
                f"{self._path} names none of the {len(labels)} classes of the subset with classes {subset.classes} and"
                f" split {subset.split}; leave data.class_list out, or set the classes of the subset: all"
            )
        return kept


def name_of(path: Path) -> str:
    """What records call the classes of a file: its name without extension."""
    return one_line(path.stem).replace("/", "-")


def read_class_names(path: Path, classes: Sequence[str], whose: str) -> list[str]:
    """Names of some classes in the order of a file, in the spelling of the list that they are of.

    Args:
        path: File with the name of a class a line, or a CSV file with a header and one column `name`, `class` or
            `class_name`. Case does not matter, but between classes that differ in nothing else.
        classes: Names of all classes.
        whose: Words for errors that say whose classes they are, such as `the record`.

    Raises:
        ConfigError: If the file names another class, a class twice or none.
        DataError: If the file cannot be read, or its header has no such column.
    """
    known: dict[str, list[str]] = defaultdict(list)
    for class_name in classes:
        known[class_name.casefold()].append(class_name)
    names = []
    for where, text in _names_in(path):
        spellings = known.get(text.casefold(), [])
        if not spellings:
            near = difflib.get_close_matches(text.casefold(), known, n=2)
            hint = f"did you mean {' or '.join(known[each][0] for each in near)}?" if near else (
                f"it has {', '.join(classes[:5])}, .."
            )  # fmt: skip
            raise ConfigError(f"{where}: {quoted(text)} is no class of {whose}: {hint}")
        if len(spellings) > 1 and text not in spellings:
            raise ConfigError(
                f"{where}: {quoted(text)} may be {' or '.join(spellings)}; give it in the spelling of the class"
            )
        names.append(text if text in spellings else spellings[0])
    return _each_once(path, names)


def listed_class_names(path: Path) -> list[str]:
    """Names of classes in the order of a file that says itself which classes there are.

    Args:
        path: File with the name of a class a line, or a CSV file, see `read_class_names`.

    Raises:
        ConfigError: If the file names a class twice or none.
        DataError: If the file cannot be read, or its header has no column of names.
    """
    return _each_once(path, [text for _, text in _names_in(path)])


def _each_once(path: Path, names: list[str]) -> list[str]:
    if not names or len(set(names)) < len(names):
        twice = next((each for each in names if names.count(each) > 1), None)
        raise ConfigError(
            f"{path} names {'no class' if twice is None else f'{quoted(twice)} twice'}; a list of classes has each once"
        )
    return names


def _names_in(path: Path) -> Iterator[tuple[str, str]]:
    """Names of classes in a file, each with its place."""
    if path.suffix.lower() != ".csv":
        yield from lines_of(path)
        return
    for where, (name,) in NamedColumns(path).rows(NAME_COLUMNS):
        if not name:
            raise ConfigError(f"{where}: the row has no name of a class; give one, or remove the row")
        yield where, name
