"""The file of scores beside a record: safetensors, with names of videos and a copy of the record as metadata."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from vlbench.datasets.specs import Truth
from vlbench.errors import DataError
from vlbench.evaluation.stored_scores import Integers, StoredScores
from vlbench.names import one_line
from vlbench.results.fields import checked, parse_json, shown
from vlbench.results.record import Record

_TENSORS = {"labels": ("I64", (1, 2)), "scores": ("F32", (2,)), "cosines": ("F32", (2,)), "features": ("F32", (2,))}
"""Tensors of the file: names, types and allowed numbers of dimensions; labels have two where a video may have
several."""


def write_scores(stored: StoredScores, record: Record, path: Path) -> None:
    """Writes a file of scores.

    Args:
        stored: Scores of the videos of a test set.
        record: Record of the evaluation, which the file keeps a copy of.
        path: File that is written, or replaced.

    Raises:
        OSError: If the disk refuses.
    """
    lost = {video: label for video, (label, _) in stored.failures.items()}
    metadata = {"ids": json.dumps(list(stored.ids)), "failures": json.dumps(lost), "record": record.as_json()}
    try:
        save_file({name: np.ascontiguousarray(getattr(stored, name)) for name in _TENSORS}, path, metadata=metadata)
    except SafetensorError as error:
        refusal = re.search(r"\(os error (\d+)\)", str(error))  # safetensors' own error for the system's
        if refusal is None:
            raise
        raise OSError(int(refusal[1]), os.strerror(int(refusal[1]))) from error


def read_scores(content: bytes, record: Record, path: Path) -> tuple[StoredScores, str | None]:
    """The scores of a record, and the text of the copy of the record that their file holds.

    Args:
        content: Bytes of the file of scores.
        record: Record that the scores belong to.
        path: Path of the file of scores, for messages.

    Raises:
        DataError: If the file is damaged, or is not of the videos and classes of the record.
    """
    try:
        header = _header(content)
        tensors = _tensors(content, header)
        metadata: Mapping[str, str] = checked(header.get("__metadata__", {}), dict[str, str], "the metadata")
        if "ids" not in metadata:
            raise DataError("its metadata has no ids")
        ids = list(checked(parse_json(metadata["ids"].encode(), file_names=True), tuple[str, ...], "ids"))
        labels = parse_json(metadata.get("failures", "{}").encode(), file_names=True)
        multi_label = tensors["labels"].ndim == 2
        kind = dict[str, tuple[int, ...]] if multi_label else dict[str, int]
        lost: Mapping[str, Truth] = checked(labels, kind, "failures of its metadata")
        videos, classes = record.evaluated, len(record.details.classes)
        if not classes:
            raise DataError("its record names no classes in details.classes")
        of_labels: tuple[int, ...] = (videos, classes) if multi_label else (videos,)
        shapes = {"labels": of_labels, "scores": (videos, classes), "cosines": (videos, classes)}
        for name, shape in {**shapes, "features": (videos, *tensors["features"].shape[1:])}.items():
            if tensors[name].shape != shape:
                raise DataError(
                    f"{name} has the shape {tensors[name].shape}, its record says {videos} videos and {classes}"
                    " classes; they are not of one run"
                )
        if len(ids) != videos:
            raise DataError(f"it names {len(ids)} videos, its record says {videos}")
        if lost.keys() != record.failures.keys():
            raise DataError(f"it names {len(lost)} unreadable videos, its record {len(record.failures)} or others")
        _check_labels(tensors["labels"], lost, classes)
    except DataError as error:
        cause = one_line(str(error))
        raise DataError(f"{path} is not the file of scores of its record: {cause}; run `vlbench test` again") from error
    failures = {video: (lost[video], cause) for video, cause in record.failures.items()}
    return StoredScores(ids, **tensors, failures=failures), metadata.get("record")


def _check_labels(labels: Integers, lost: Mapping[str, Truth], classes: int) -> None:
    each: list[int] = [] if labels.ndim == 2 else labels.tolist()
    for truth in lost.values():
        each.extend([truth] if isinstance(truth, int) else truth)
    wrong = next((label for label in each if not 0 <= label < classes), None)
    if wrong is not None:
        raise DataError(f"a label is {wrong}; allowed: 0 to {classes - 1}, one of {classes} classes")
    if labels.ndim == 2 and not np.isin(labels, (0, 1)).all():
        strange = labels.max() if labels.max() > 1 else labels.min()
        raise DataError(f"a label is {strange}; allowed: 0 and 1 for each of {classes} classes")


def _tensors(content: bytes, header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    for name, (dtype, dimensions) in _TENSORS.items():
        if name not in header:
            raise DataError(f"the tensor {name} is missing")
        facts = checked(header[name], dict[str, object], name)
        kind, shape = facts.get("dtype"), checked(facts.get("shape"), tuple[int, ...], f"the shape of {name}")
        if kind != dtype or len(shape) not in dimensions:
            allowed = " or ".join(map(str, dimensions))
            raise DataError(
                f"the tensor {name} is {shown(kind)} of shape {shape}; allowed: {dtype} of {allowed} dimensions"
            )
    others = sorted(header.keys() - _TENSORS.keys() - {"__metadata__"})
    if others:
        raise DataError(f"{shown(others[0])} is no tensor of it; allowed: {', '.join(_TENSORS)}")
    try:
        return load(content)
    except SafetensorError as error:
        raise DataError(f"it is not safetensors: {error}") from error


def _header(content: bytes) -> Mapping[str, Any]:
    """What the file says of its tensors: eight bytes say how long that is, JSON follows."""
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= len(content) - 8:
        raise DataError("it is not safetensors: its header is longer than the file")
    header: dict[str, Any] = checked(parse_json(content[8 : 8 + length]), dict[str, object], "the header")
    return header
