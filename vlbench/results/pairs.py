"""A record and the file of scores that belongs to it: `records/NAME.json` and `predictions/NAME.safetensors`.

A record holds the digest of its scores. The scores are written first, while the record waits under a hidden name: a
reader that meets two files that do not fit knows by it whether a writer stands between the two.
"""

from __future__ import annotations

import glob
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from vlbench.errors import DataError
from vlbench.files import replacing, temporary_prefix, to_disk
from vlbench.results.record import Record

T = TypeVar("T")

_TRIES, _PAUSE, _UNCHANGED = 1000, 0.02, 5
"""How often, and after how many seconds, a pair is read again that a writer is at, and how often one that nobody is."""


def record_paths(folders: Sequence[Path]) -> Iterator[Path]:
    """Files of all records below some folders, in the order of their paths; hidden ones are still being written.

    Raises:
        DataError: If a folder does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give folders that hold records, such as results/demo")
        for path in sorted(folder.rglob("*.json")):
            if path.parent.name == "records" and not path.name.startswith("."):
                yield path


def read_records(folders: Sequence[Path]) -> Iterator[Record]:
    """Every record below the folders, in the order of their paths; each fits its scores where they are there.

    Raises:
        DataError: If a folder does not exist, a file in a `records` folder is no record, or scores are not a record's.
    """
    for path in record_paths(folders):
        if predictions_path(path).is_file():
            yield read_pair(path, digest_of)[0]
        else:
            yield Record.read(path)


def predictions_path(path: Path) -> Path:
    """Where the scores of a record are."""
    return path.parent.parent / "predictions" / f"{path.stem}.safetensors"


def digest(content: bytes) -> str:
    """Hexadecimal digest of the bytes of a file of scores."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_of(path: Path) -> tuple[str, None]:
    """Digest of a file of scores, which is not kept in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest(), None


def content_of(path: Path) -> tuple[str, bytes]:
    """Digest of a file of scores, and its bytes."""
    content = path.read_bytes()
    return digest(content), content


def write_pair(record: Record, write: Callable[[Path], None], folder: Path, name: str | None = None) -> Path:
    """Writes `predictions/<name>.safetensors` and then `records/<name>.json`, which holds its digest.

    Args:
        record: Record of the evaluation.
        write: Writes the file of scores to a path.
        folder: Results folder that the two files go below.
        name: File name of the record without suffix; `None` makes one from the record's identity.

    Returns:
        Path of the record.

    Raises:
        DataError: If the record holds a number that is not finite; nothing is written then.
    """
    path = folder / "records" / f"{name or record.name}.json"
    with replacing(path, flush=False) as waiting, replacing(predictions_path(path)) as scores:
        write(scores)
        waiting.write_bytes(replace(record, predictions=digest_of(scores)[0]).as_json().encode())
        to_disk(waiting)  # now: a busy disk would keep readers waiting between the two files
    return path


def read_pair(path: Path, read: Callable[[Path], tuple[str, T]]) -> tuple[Record, T]:
    """A record and its scores, which fit, also beside a writer that replaces both.

    Args:
        path: Path of the record.
        read: Gives the digest of a file of scores, and what is wanted of it.

    Raises:
        DataError: If the record is none, or its scores are missing or another record's.
    """
    source = predictions_path(path)
    unchanged = 0
    for _ in range(_TRIES):
        content = _bytes(path)
        record = Record.parse(content, path)
        try:
            actual, value = read(source)
        except OSError as error:
            raise DataError(
                f"{path}: its scores {source} cannot be read: {error.strerror}; run `vlbench test` again"
            ) from error
        if actual == record.predictions:
            return record, value
        writing = any(path.parent.glob(f"{glob.escape(temporary_prefix(path))}*.json"))
        unchanged = unchanged + 1 if not writing and _bytes(path) == content else 0
        if unchanged > _UNCHANGED:
            break
        time.sleep(_PAUSE if writing or unchanged else 0)
    if record.predictions is None:
        raise DataError(
            f"{path}: predictions is null, the record does not say which scores are its own; run `vlbench test` again"
        )
    raise DataError(
        f"{path}: predictions is {record.predictions}, the digest of {source} is {actual}; they are not of one run: run"
        " `vlbench test` again"
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
