"""Videos out of packed copies of a dataset, parquet files and webdataset shards, into a folder of files and lists.

Everything else then works on them as on any videos: every decoder, the doctor, `prepare`. The libraries that define the
two formats read them, `datasets` and `webdataset`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from rich.progress import track

from vlbench.datasets.lists.annotations import CLASS_COLUMNS, LABEL_COLUMNS
from vlbench.datasets.lists.class_names import listed_class_names
from vlbench.datasets.specs import VIDEO_EXTENSIONS, Part
from vlbench.errors import ConfigError, DataError
from vlbench.files import check_name, stays_below, write_atomically
from vlbench.names import quoted
from vlbench.regular_files import open_regular
from vlbench.tools.prepare import csv_bytes

_PARTS: Mapping[str, Part] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip
_INSTALL = {
    "datasets": "pip install 'vlbench[datasets]'",
    "webdataset": "pip install 'vlbench[webdataset]'",
}


class _Packed(NamedTuple):
    """A video of a packed file.

    Attributes:
        where: Place that errors name.
        part: Part of the dataset.
        name: File name of the video.
        content: Bytes of the video file.
        label: Name of the class, or its number.
    """

    where: str
    part: Part
    name: str
    content: bytes
    label: str | int


def unpack(source: Path, out: Path, *, classes: Path | None = None, progress: bool = True) -> dict[Part, int]:
    """Writes the videos of a packed dataset to `OUT/videos/<class>/<name>`, with lists, to be read by `FolderVideos`.

    The packed dataset is a folder of parquet files with a column `video` and a column of labels, as on the Hugging Face
    hub, or of webdataset shards, tars with `<key>.mp4` and `<key>.cls` or `<key>.json`. Which part a file belongs to is
    told by a word of its path: train, val or validation, test. The lists, `train.csv` and so on, and `classes.txt` are
    written last: a folder without them is unfinished. A second call goes on where the first ended.

    Args:
        source: Folder of the packed files, as deep as need be.
        out: Folder of the videos; made if missing.
        classes: File of the names of the classes in the order of the numbers, where the labels are numbers without
            names; see `listed_class_names`.
        progress: Whether to show a progress bar.

    Returns:
        Number of videos of each part.

    Raises:
        ConfigError: If a library is missing, numbers have no names, a file states others than `classes`, or that file
            names a class twice or none.
        DataError: If there is no packed file, a file is damaged or lacks a video, a label or a part, or two videos
            have one name in one class.
        WriteError: If the file system refuses.
    """
    files = _files(source)
    given = None if classes is None else listed_class_names(classes)
    read = _of_shards if files[0][1].suffix == ".tar" else _of_parquet
    names: dict[str, None] = dict.fromkeys(given or ())
    lists: dict[Part, list[tuple[str, str]]] = defaultdict(list)
    seen: dict[str, str] = {}
    for packed, stated in track(read(files, source), "unpacking", disable=not progress):
        if given and stated:
            _check_same(classes, given, packed.where, stated)
        known = given or stated
        names.update(dict.fromkeys(known or ()))
        name = _class_of(packed, known)
        check_name(f"{packed.where}: the class", name)
        check_name(f"{packed.where}: the video", packed.name)
        path = f"videos/{name}/{packed.name}"
        if path in seen:
            raise DataError(f"{packed.where}: {path!r} is also the video of {seen[path]}; names in a class must differ")
        seen[path] = packed.where
        _write(out / path, packed)
        names.setdefault(name)
        lists[packed.part].append((path, name))
    if not lists:
        raise DataError(f"{source} holds no videos in its {len(files)} files; fetch them again")
    ordered = list(names) if given or stated else sorted(names)
    for part, rows in lists.items():
        write_atomically(out / f"{part}.csv", csv_bytes([("path", "class"), *rows]))
    write_atomically(out / "classes.txt", "".join(f"{name}\n" for name in ordered).encode())
    return {part: len(rows) for part, rows in lists.items()}


def _files(source: Path) -> list[tuple[Part, Path]]:
    """The packed files of one kind with their parts, in the order of their paths.

    Raises:
        DataError: If there is none, there are both kinds, or a path does not say the part.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder; give the folder of the parquet files or shards")
    packed = {kind: sorted(source.rglob(f"*{kind}")) for kind in (".parquet", ".tar")}
    kinds = [kind for kind, paths in packed.items() if paths]
    if len(kinds) != 1:
        has = "parquet files and tars" if kinds else "neither"
        raise DataError(f"{source} holds {has}; allowed: a folder of parquet files, or of webdataset shards (.tar)")
    files: list[tuple[Part, Path]] = []
    for path in packed[kinds[0]]:
        words = re.split(r"[^a-z]+", path.relative_to(source).as_posix().lower())
        parts = {_PARTS[word] for word in words if word in _PARTS}
        if len(parts) != 1:
            raise DataError(
                f"{path}: its path names {', '.join(sorted(parts)) or 'no part'}; allowed: one of train, val,"
                " validation and test in it, such as train-00000.tar; rename it"
            )
        files.append((parts.pop(), path))
    return files


def _of_parquet(files: Sequence[tuple[Part, Path]], source: Path) -> Iterator[tuple[_Packed, Sequence[str] | None]]:
    """Videos of parquet files, with the class names that a file states."""
    datasets = _library("datasets")
    for part, path in files:
        try:
            # Streamed: otherwise the library first copies everything into its cache.
            rows = datasets.load_dataset("parquet", data_files=[str(path)], split="train", streaming=True)
            if "video" not in rows.features:
                raise DataError(f"{path} has the columns {', '.join(rows.features)}; allowed: one called video")
            column = _label_column(path, rows.features)
            if isinstance(rows.features["video"], datasets.Video):
                rows = rows.cast_column("video", datasets.Video(decode=False))
            names = getattr(rows.features[column], "names", None)
            for number, row in enumerate(rows):
                where = f"{path}, row {number}"
                name, content = _video_of(where, row["video"], source, f"{path.stem}-{number:06}.mp4")
                yield _Packed(where, part, name, content, row[column]), names
        except (DataError, ConfigError):
            raise
        except Exception as error:  # of pyarrow and of what lies below it
            raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}; fetch it again") from error


def _label_column(path: Path, columns: Mapping[str, Any]) -> str:
    names = [name for name in columns if name in (*LABEL_COLUMNS, *CLASS_COLUMNS)]
    if len(names) != 1:
        allowed = ", ".join((*LABEL_COLUMNS, *CLASS_COLUMNS))
        raise DataError(f"{path} has the columns {', '.join(columns)}; allowed: exactly one of {allowed}")
    return names[0]


def _video_of(where: str, video: Any, source: Path, unnamed: str) -> tuple[str, bytes]:
    """File name and bytes of the value of a column `video`: bytes, a path below the folder, or both in a dictionary."""
    path: str | None
    content: bytes | None
    if isinstance(video, Mapping):
        path, content = video.get("path"), video.get("bytes")
    else:
        path, content = (None, video) if isinstance(video, bytes) else (video, None)
    if content is None:
        if not path or not stays_below(path):
            raise DataError(f"{where}: the video is {path!r}; allowed: bytes, or a path that stays below {source}")
        try:
            with open_regular(source / path) as file:
                content = file.readall()
        except OSError as error:
            raise DataError(f"{where}: {source / path}: {error.strerror}; fetch it again") from error
    name = PurePosixPath(path).name if path else ""
    return (name if name.lower().endswith(VIDEO_EXTENSIONS) else unnamed), content


def _of_shards(
    files: Sequence[tuple[Part, Path]],
    source: Path,  # noqa: ARG001 - what parquet files need
) -> Iterator[tuple[_Packed, Sequence[str] | None]]:
    """Videos of webdataset shards, which state no class names."""
    webdataset = _library("webdataset")
    for part, path in files:
        try:
            for sample in webdataset.WebDataset([str(path.absolute())], shardshuffle=False):
                key = sample["__key__"]
                where = f"{path}, {quoted(key)}"
                kinds = [kind for kind in sample if f".{kind.lower()}" in VIDEO_EXTENSIONS]
                if len(kinds) != 1:
                    raise DataError(f"{where}: {len(kinds)} videos; allowed: one, such as {quoted(key)}.mp4")
                name = f"{PurePosixPath(key).name}.{kinds[0]}"
                yield _Packed(where, part, name, sample[kinds[0]], _label_of(where, sample)), None
        except (DataError, ConfigError):
            raise
        except Exception as error:  # of tarfile and of the library
            raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}; fetch it again") from error


def _label_of(where: str, sample: Mapping[str, Any]) -> str | int:
    if "cls" in sample:
        text = sample["cls"].decode().strip()
        return int(text) if text.isascii() and text.removeprefix("-").isdecimal() else text
    try:
        facts = json.loads(sample["json"])
        (label,) = {facts[name] for name in (*LABEL_COLUMNS, *CLASS_COLUMNS) if name in facts}
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{where} states no class; allowed: a .cls file, or a .json file with one of label, class and class_name"
        ) from error
    return label  # type: ignore[no-any-return]


def _class_of(packed: _Packed, names: Sequence[str] | None) -> str:
    """The name of the class of a video.

    Raises:
        ConfigError: If it is a number and no names are known.
        DataError: If it is none of the names.
    """
    label = packed.label
    if isinstance(label, int) and not isinstance(label, bool):
        if names is None:
            raise ConfigError(
                f"{packed.where}: the label is {label}, and nothing says which class that is; give the names of the"
                " classes, one a line in the order of the numbers, by --classes FILE"
            )
        if not 0 <= label < len(names):
            raise DataError(f"{packed.where}: the label is {label}; allowed: 0 to {len(names) - 1}")
        return names[label]
    if not isinstance(label, str) or not label or (names is not None and label not in names):
        allowed = "a name" if names is None else f"one of the {len(names)} classes"
        raise DataError(f"{packed.where}: the label is {label!r}; allowed: {allowed}, or a number counted from 0")
    return label


def _check_same(path: Path | None, given: Sequence[str], where: str, stated: Sequence[str]) -> None:
    """Whether a file of names agrees with the names that a packed file states itself.

    Raises:
        ConfigError: If they differ: one of them would give every video another class.
    """
    number = next((k for k, (one, other) in enumerate(zip_longest(given, stated)) if one != other), None)
    if number is not None:
        one, other = ((names[number] if number < len(names) else "none") for names in (given, stated))
        raise ConfigError(f"{path} has {one} for number {number}, and {where} states {other}; leave --classes out")


def _write(path: Path, packed: _Packed) -> None:
    if path.is_file() and path.stat().st_size == len(packed.content) and path.read_bytes() == packed.content:
        return
    if path.exists():
        raise DataError(f"{packed.where}: {path} is there with another content; give a new folder")
    write_atomically(path, packed.content)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"the library {name} cannot be loaded ({error}); {_INSTALL[name]}") from error
