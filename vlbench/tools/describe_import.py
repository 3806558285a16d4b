"""Brings published files of class sentences into the form that methods read, with their order of classes verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlbench.datasets.descriptions import read_rephrased, read_sentences, sentences_json
from vlbench.datasets.hmdb51 import LEGACY_NAMES
from vlbench.errors import ConfigError
from vlbench.files import write_atomically
from vlbench.ranges import Range


@dataclass(frozen=True)
class _Layout:
    """Where a source has its files of spatial and of temporal sentences.

    Attributes:
        spatial: Path of a file below the source's folder, with `{dataset}` and `{number}`.
        temporal: Path of the other file.
        datasets: What the source calls a dataset, by the dataset's name.
        number: Sentences of each kind a class that the source's paper uses.
    """

    spatial: str
    temporal: str
    datasets: Mapping[str, str]
    number: int


_LAYOUTS: Mapping[str, _Layout] = {
    "etl4video": _Layout(
        "{number}_s_description_{dataset}.json",
        "{number}_t_description_{dataset}.json",
        {"ucf101": "ucf_101", "hmdb51": "hmdb", "kinetics400": "k400", "k600": "k600", "ssv2": "ssv2"},
        2,
    ),
    "ost": _Layout(
        "{dataset}/spatio_descriptors/{number}_descriptors.json",
        "{dataset}/temporal_descriptors/{number}_descriptors.json",
        {"ucf101": "ucf", "hmdb51": "hmdb", "kinetics400": "k400", "ssv2": "sth"},
        4,
    ),
}
_REPHRASED = "froster"
SOURCES = (*_LAYOUTS, _REPHRASED)
"""Whose files are read: MSTA's descriptions, OST's descriptors, FROSTER's rephrased names."""


def import_descriptions(
    source: str, path: Path, dataset: str, class_names: Sequence[str], out: Path, *, number: int | None = None
) -> str:
    """Writes a dataset's published sentences, or its rephrased names, as an option of methods takes them.

    The files of MSTA and OST on HMDB-51 follow the label file that swaps two pairs of classes. They are read under its
    names, and each class gets the sentences on it.

    Args:
        source: Whose files they are, one of `SOURCES`.
        path: Folder of the source's files; of `froster`, the file itself.
        dataset: Name of the dataset, such as `ucf101`.
        class_names: The dataset's classes in label order, as one of its variants has them.
        out: Folder for `spatial.json` and `temporal.json`, or for `rephrased.json`; made if missing.
        number: Sentences of each kind a class, which the names of the files have; `None` takes the paper's.

    Returns:
        The option that takes what was written.

    Raises:
        ConfigError: If the source has no such files, or `out` holds others of these names.
        DataError: If a file is missing or damaged, or is in another order than the class names.
    """
    if source == _REPHRASED:
        if number is not None:
            raise ConfigError(f"number is {number}; allowed: none with froster, whose file has one string a class")
        (file,) = _write({out / "rephrased.json": read_rephrased(path, class_names)})
        return f"--model.rephrased {file}"
    if source not in _LAYOUTS:
        raise ConfigError(f"source is {source!r}; allowed: {', '.join(SOURCES)}")
    layout = _LAYOUTS[source]
    if dataset not in layout.datasets:
        raise ConfigError(f"{source} has no file of all classes of {dataset}; it has: {', '.join(layout.datasets)}")
    Range(1, 100).check("number", number, f"the paper's {layout.number}")
    wanted = {"dataset": layout.datasets[dataset], "number": layout.number if number is None else number}
    names = LEGACY_NAMES if dataset == "hmdb51" else class_names
    sides = {}
    for kind, place in (("spatial", layout.spatial), ("temporal", layout.temporal)):
        described = dict(zip(names, read_sentences(path / place.format(**wanted), names), strict=True))
        sides[out / f"{kind}.json"] = [described[name] for name in class_names]
    _write(sides)
    return f"--model.descriptions {out}"


def _write(files: Mapping[Path, Sequence[Sequence[str]]]) -> list[Path]:
    """Writes files that are not there yet; the same command may be repeated.

    Raises:
        ConfigError: If a file is there with another content.
    """
    contents = {file: sentences_json(sentences) for file, sentences in files.items()}
    for file, content in contents.items():
        if file.exists() and file.read_bytes() != content:
            raise ConfigError(f"{file} holds something else, which would be replaced; give another folder")
    for file, content in contents.items():
        write_atomically(file, content)
    return list(files)
