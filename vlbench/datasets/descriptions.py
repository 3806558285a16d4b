"""Class descriptions: sentences on what a still frame shows (spatial) and on how an action unfolds (temporal).

The file format is the published one of MSTA: two JSON objects, class index as a string -> list of N sentences.
Rephrased names, as FROSTER has them, are one such object with a string for every class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from vlbench.errors import DataError

SHIPPED = Path(__file__).parent / "assets" / "descriptions"
"""Descriptions in the package, a folder a dataset: `SHIPPED / "ucf101"`."""

Sentences = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Descriptions:
    """Sentences of every class, in label order.

    Attributes:
        spatial: Sentences on what a single frame of each class shows, equally many for every class.
        temporal: Sentences on how the action of each class unfolds, equally many for every class; the number
            may differ from the spatial one.
    """

    spatial: Sentences
    temporal: Sentences

    def __post_init__(self) -> None:
        if len(self.spatial) != len(self.temporal):
            raise DataError(
                f"{len(self.spatial)} classes have spatial and {len(self.temporal)} temporal sentences; give both for"
                " every class"
            )

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.spatial)

    def subset(self, labels: Sequence[int]) -> Descriptions:
        """The descriptions of these classes, in the order given.

        Raises:
            DataError: If a label is out of range.
        """
        for label in labels:
            if not 0 <= label < len(self):
                raise DataError(f"label {label} has no descriptions; allowed: 0 to {len(self) - 1}")
        return Descriptions(
            spatial=tuple(self.spatial[label] for label in labels),
            temporal=tuple(self.temporal[label] for label in labels),
        )

    def read(self) -> Descriptions:
        """These descriptions; those of `ShippedDescriptions` are read from files."""
        return self


@dataclass(frozen=True)
class ShippedDescriptions:
    """Descriptions in the package; their files are read when the sentences are first asked for, once in a process.

    Attributes:
        class_names: The dataset's classes in label order.
        parts: Folders below `SHIPPED`, each with the classes that it describes, in the order of its files. Together
            they describe all classes of the dataset.
    """

    class_names: tuple[str, ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...]

    def read(self) -> Descriptions:
        """The sentences on every class, in label order.

        Raises:
            DataError: If a file of the package is damaged.
        """
        spatial: dict[str, tuple[str, ...]] = {}
        temporal: dict[str, tuple[str, ...]] = {}
        for folder, names in self.parts:
            part = _shipped(folder, names)
            spatial.update(zip(names, part.spatial, strict=True))
            temporal.update(zip(names, part.temporal, strict=True))
        return Descriptions(
            spatial=tuple(spatial[name] for name in self.class_names),
            temporal=tuple(temporal[name] for name in self.class_names),
        )


@cache
def _shipped(folder: str, class_names: tuple[str, ...]) -> Descriptions:
    return read_descriptions(SHIPPED / folder, class_names)


def read_descriptions(folder: str | Path, class_names: Sequence[str]) -> Descriptions:
    """Read and check a dataset's descriptions.

    Args:
        folder: Folder that holds `spatial.json` and `temporal.json`.
        class_names: The dataset's classes in label order; the files have to describe exactly these.

    Raises:
        DataError: If a file is missing or no JSON object, its keys are not exactly "0" to "C-1", a value is not a list
            of sentences, a sentence is empty, classes have different numbers of sentences, or the sentences of a class
            name another class and not their own.
    """
    return Descriptions(
        spatial=read_sentences(Path(folder) / "spatial.json", class_names),
        temporal=read_sentences(Path(folder) / "temporal.json", class_names),
    )


def read_sentences(path: Path, class_names: Sequence[str]) -> Sentences:
    """Read and check one file of a dataset's descriptions: the sentences of every class, in label order.

    Args:
        path: JSON file of the sentences.
        class_names: The dataset's classes in label order; the file has to describe exactly these.

    Raises:
        DataError: As `read_descriptions` does.
    """
    raw = _load(path)
    _check_keys(path, raw, len(class_names))
    described = tuple(_sentences(path, label, name, raw[str(label)]) for label, name in enumerate(class_names))
    for label, sentences in enumerate(described):
        if len(sentences) != len(described[0]):
            raise DataError(
                f"{path}, key '{label}' ({class_names[label]}): {len(sentences)} sentences; allowed:"
                f" {len(described[0])}, as many as key '0' has; add or remove sentences"
            )
    _check_order(path, described, class_names)
    return described


def sentences_json(sentences: Sequence[Sequence[str]]) -> bytes:
    """Content of a file of sentences, or of rephrased names: a JSON object, class index as a string -> what it has.

    Args:
        sentences: The sentences of every class, or its rephrased name, in label order.
    """
    return (json.dumps({str(label): value for label, value in enumerate(sentences)}, indent=2) + "\n").encode()


def read_rephrased(path: str | Path, class_names: Sequence[str]) -> tuple[str, ...]:
    """Rephrased names of a dataset's classes in label order, each `Name: sentence` on what a video of the class shows.

    The file is a JSON object, class index as a string -> the string.

    Args:
        path: JSON file of the rephrased names.
        class_names: The dataset's classes in label order; the file has to describe exactly these.

    Raises:
        DataError: If the file is missing or no JSON object, its keys are not exactly "0" to "C-1", a value has no name
            and sentence, or names another class and not its own.
    """
    path = Path(path)
    raw = _load(path)
    _check_keys(path, raw, len(class_names))
    rephrased = []
    for label, name in enumerate(class_names):
        value = raw[str(label)]
        parts = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not (parts[0].strip() and parts[2].strip()):
            raise DataError(f"{path}, key '{label}' ({name}): {value!r}; allowed: a string 'Name: sentence'")
        rephrased.append(str(value))
    _check_order(path, tuple((text,) for text in rephrased), class_names)
    return tuple(rephrased)


def _check_order(path: Path, described: Sentences, class_names: Sequence[str]) -> None:
    """Finds sentences that stand under another class than they name: another order of the classes.

    A class counts where all its sentences name one other class and none its own, unless that other class is in its
    place (a sit-up is described by "sit", too).
    """
    words = [_words(name) for name in class_names]
    named = [[_named(_words(sentence), words) for sentence in sentences] for sentences in described]
    displaced = {label for label, sides in enumerate(named) if not any(label in names for names in sides)}
    wrong = [
        f"key '{label}' ({class_names[label]}) is about {class_names[min(others)]!r}"
        for label in sorted(displaced)
        if (others := set.intersection(*named[label]) & displaced)
    ]
    if wrong:
        raise DataError(
            f"{path} is in another order than the class names: {'; '.join(wrong[:4])}"
            f"{f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''}; reorder the file, or use the class names that"
            " it was written for (a variant of the dataset, such as legacy-names of HMDB-51)"
        )


def _named(sentence: str, names: Sequence[str]) -> set[int]:
    """Labels of the names in a sentence; a name inside a longer one, as kick in kick ball, is not meant."""
    labels = [label for label, name in enumerate(names) if name in sentence]
    return {a for a in labels if not any(names[a] in names[b] and names[a] != names[b] for b in labels)}


def _words(text: str) -> str:
    """Lower-case words between single blanks, so that whole words can be searched for."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def _load(path: Path) -> dict[str, object]:
    try:
        raw: object = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique_keys)
    except OSError as error:
        raise DataError(f"cannot read the descriptions {path}: {error.strerror}; check the path") from error
    except _RepeatedKeyError as error:
        raise DataError(f"{path}: key {error.args[0]!r} occurs twice; keep one of the two") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError
        raise DataError(f"{path} is not valid JSON ({error}); correct it at that place") from error
    if not isinstance(raw, dict):
        raise DataError(f"{path} holds a {type(raw).__name__}; allowed: an object, class index -> list of sentences")
    return raw


class _RepeatedKeyError(ValueError):
    pass


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object; json alone would silently keep the last of two equal keys."""
    unique: dict[str, object] = {}
    for key, value in pairs:
        if key in unique:
            raise _RepeatedKeyError(key)
        unique[key] = value
    return unique


def _check_keys(path: Path, keys: Iterable[str], num_classes: int) -> None:
    expected = {str(label) for label in range(num_classes)}
    unknown = [key for key in keys if key not in expected]
    missing = sorted(expected.difference(keys), key=int)
    for problem, culprits in (("has unknown", unknown), ("lacks", missing)):
        if culprits:
            raise DataError(
                f"{path} {problem} key '{culprits[0]}' ({len(culprits)} in all); allowed: exactly '0' to"
                f" '{num_classes - 1}', one for each of the {num_classes} classes; is the file of another dataset?"
            )


def _sentences(path: Path, label: int, name: str, value: object) -> tuple[str, ...]:
    def refuse(problem: str) -> NoReturn:
        raise DataError(f"{path}, key '{label}' ({name}): {problem}; allowed: a list of one or more sentences")

    if not isinstance(value, list) or not value:
        refuse(f"{value!r}")
    for position, sentence in enumerate(value):
        if not isinstance(sentence, str) or not sentence.strip():
            refuse(f"sentence {position} is {sentence!r}")
    return tuple(value)
