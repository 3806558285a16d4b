"""Files of features: safetensors, mapped into memory, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vlbench.bank.facts import DType, Kind, Shard
from vlbench.errors import DataError
from vlbench.files import replacing
from vlbench.names import one_line

_TENSOR = "features"
_METADATA = "vlbench"
_DTYPES = {"F16": "float16", "F32": "float32"}


def shard_name(kind: Kind, index: int) -> str:
    """Name of a file of features.

    Args:
        kind: Kind of the features in the file.
        index: Number of the file among those of its kind, counted from 0.
    """
    return f"{kind}-{index:05}.safetensors"


def write_shard(
    path: Path, features: NDArray[Any], ids: Sequence[str], failures: Mapping[str, str], digest: str
) -> None:
    """Writes a file of features in one step.

    Args:
        path: File that is written.
        features: Features `(N, V, F, D)` of the readable videos, float16 or float32.
        ids: Ids of the N readable videos.
        failures: Id of each other video of the file -> why it could not be read.
        digest: Digest of the facts of the bank.

    Raises:
        WriteError: If the disk refuses; nothing is left of the file.
    """
    # One entry: safetensors writes several in any order, and equal banks are to have equal bytes.
    metadata = {_METADATA: json.dumps({"bank": digest, "failures": dict(failures), "ids": list(ids)})}
    with replacing(path) as temporary:
        try:
            save_file({_TENSOR: np.ascontiguousarray(features)}, temporary, metadata=metadata)
        except SafetensorError as error:
            refusal = re.search(r"(?:os error|code:) (\d+)", str(error))  # safetensors' own error for the system's
            if refusal is None:
                raise
            raise OSError(int(refusal[1]), os.strerror(int(refusal[1]))) from error


@dataclass(frozen=True)
class ShardFile:
    """A file of features whose features stay on the disk until they are used.

    Attributes:
        path: Path of the file.
        ids: Ids of the N readable videos, in the order of their features.
        failures: Id of each other video of the file -> why it could not be read.
        bank: Digest of the facts of the bank that the file belongs to.
        dtype: Number format of the features.
        shape: Sizes N, V, F and D of the features.
        offset: Position of the first feature in the file, in bytes.
    """

    path: Path
    ids: tuple[str, ...]
    failures: Mapping[str, str]
    bank: str
    dtype: DType
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def open(cls, path: Path) -> ShardFile:
        """What the head of a file says.

        Raises:
            DataError: If the file is missing, cut off, or no file of features.
        """
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > size - 8:
                    raise DataError("its head is longer than the file")
                header = json.loads(file.read(length))
            facts, metadata = header[_TENSOR], json.loads(header["__metadata__"][_METADATA])
            shape, (begin, end) = tuple(map(int, facts["shape"])), facts["data_offsets"]
            if 8 + length + end != size:
                raise DataError(f"it has {size:,} bytes, and its head says {8 + length + end:,}")
            ids, failures = metadata["ids"], metadata["failures"]
            dtype: Any = _DTYPES[facts["dtype"]]
            if len(shape) != 4 or len(ids) != shape[0]:
                raise DataError(f"its features have the shape {shape} and it names {len(ids)} videos")
            return cls(path, tuple(ids), failures, metadata["bank"], dtype, shape, 8 + length + begin)
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            text = one_line(str(error) if isinstance(error, DataError) else repr(error))
            raise DataError(
                f"{path} is no whole file of features: {text}; delete it and run the same `vlbench features` again"
            ) from error

    @cached_property
    def features(self) -> NDArray[Any]:
        """Features `(N, V, F, D)`, mapped into memory and not to be written to."""
        if not self.shape[0]:
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)

    def described(self, kind: Kind) -> Shard:
        """The file as the facts of a bank name it, with the digest of its bytes."""
        return Shard(self.path.name, kind, digest_of(self.path), self.path.stat().st_size)


def digest_of(path: Path) -> str:
    """Hexadecimal digest of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
