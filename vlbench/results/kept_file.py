"""The file of kept scores beside a record, from which other protocols are scored: safetensors, in the folder `kept`."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vlbench.errors import DataError
from vlbench.evaluation.kept import KeptFacts
from vlbench.evaluation.stored_scores import StoredScores
from vlbench.evaluation.universes import FUSIONS, fused
from vlbench.files import write_atomically
from vlbench.names import one_line
from vlbench.results.fields import checked, checked_fields, parse_json
from vlbench.results.pairs import digest
from vlbench.results.record import Record

AGAIN = "run its `vlbench test` again with --record.keep=[views,templates]"
"""Way out where kept scores are missing or wrong."""

_TOLERANCE = 1e-5
"""How far kept scores may be from the recorded ones, relative to the largest: what another order of a sum rounds."""


@dataclass(frozen=True)
class KeptScores:
    """Scores of the videos of one test set by view and by set of templates.

    Attributes:
        ids: Names of the readable videos, one a row.
        labels: Labels of the videos, int64 `(N,)`.
        scores: Scores of the classes, float32 `(N, P, V, C)`: P sets of templates, V views, crop by crop.
        lost: Name -> label of the videos that could not be read.
        facts: Templates, views and fusion that the scores are of.
        weights: Digest of the trained weights; `None` if nothing was trained.
        epoch: Number of epochs that the weights were trained for; `None` where a test kept the scores.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    lost: Mapping[str, int]
    facts: KeptFacts
    weights: str | None = None
    epoch: int | None = None

    def as_bytes(self) -> bytes:
        """The scores as the content of their file, the same bytes for the same scores."""
        names = {"ids": list(self.ids), "lost": dict(self.lost), "facts": asdict(self.facts)}
        metadata = {**names, "weights": self.weights, "epoch": self.epoch}
        tensors: dict[str, NDArray[Any]] = {
            "labels": np.ascontiguousarray(self.labels),
            "scores": np.ascontiguousarray(self.scores),
        }
        # One text: safetensors writes several in an order that is drawn anew each time.
        return save(tensors, {"kept": json.dumps(metadata)})

    @property
    def own(self) -> NDArray[np.float32]:
        """Scores `(N, C)` with the method's own templates and fusion of all views."""
        scores = self.scores[:, 0]
        return scores[:, 0] if self.facts.fused else fused(scores, self.facts.scale, self.facts.fusion)


def kept_path(path: Path, digest: str) -> Path:
    """Where the kept scores of a record are.

    Args:
        path: Path of the record.
        digest: Digest of the file of kept scores.
    """
    return path.parent.parent / "kept" / f"{path.stem}-{digest[:12]}.safetensors"


def write_kept(kept: KeptScores, path: Path) -> str:
    """Writes kept scores to a file that no earlier record has.

    Args:
        kept: Scores of the videos of a test set.
        path: Path of the record that they belong to.

    Returns:
        Digest of the file.
    """
    content = kept.as_bytes()
    write_atomically(kept_path(path, digest(content)), content)
    return digest(content)


def remove_stale(path: Path, digest: str | None) -> None:
    """Removes the kept scores that earlier evaluations of a record's name left.

    Args:
        path: Path of the record.
        digest: Digest of the kept scores of the record itself; `None` if it has none.
    """
    current = None if digest is None else kept_path(path, digest)
    for other in (path.parent.parent / "kept").glob(f"{glob.escape(path.stem)}-{'[0-9a-f]' * 12}.safetensors"):
        if other != current:
            other.unlink(missing_ok=True)


def read_kept(path: Path, record: Record, stored: StoredScores) -> KeptScores:
    """The kept scores of a record.

    Args:
        path: Path of the record.
        record: Record of the evaluation.
        stored: Scores that the record was made of.

    Raises:
        DataError: If the record has none, or they are missing, damaged or not of the same evaluation.
    """
    if record.details.kept is None:
        raise DataError(f"{path} has no scores of single views and templates beside it; {AGAIN}")
    source = kept_path(path, record.details.kept)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: its kept scores {source} cannot be read: {error.strerror}; {AGAIN}") from error
    if digest(content) != record.details.kept:
        raise DataError(
            f"{path}: details.kept is {record.details.kept}, the digest of {source} is {digest(content)}; they are not"
            f" of one run: {AGAIN}"
        )
    kept = parse_kept(content, source)
    lost = {video: label for video, (label, _) in stored.failures.items()}
    same = kept.ids == tuple(stored.ids) and np.array_equal(kept.labels, stored.labels) and kept.lost == lost
    if not same or kept.own.shape != stored.scores.shape or kept.weights != record.identity.weights:
        raise DataError(f"{source} is of other videos, classes or weights than {path}; {AGAIN}")
    if not np.allclose(kept.own, stored.scores, rtol=0, atol=_TOLERANCE * float(np.abs(stored.scores).max(initial=0))):
        raise DataError(f"{source} does not give the scores of {path}; {AGAIN}")
    return kept


def read_facts(path: Path, record: Record) -> KeptFacts:
    """What the kept scores of a record are of, from the head of their file.

    Args:
        path: Path of the record.
        record: Record of the evaluation, which keeps scores.

    Raises:
        DataError: If the file is missing or is none of kept scores.
    """
    return read_metadata(kept_path(path, record.details.kept or ""))[0]


def read_metadata(path: Path) -> tuple[KeptFacts, str | None]:
    """What kept scores are of, and the digest of the weights, from the head of their file.

    Args:
        path: File of kept scores.

    Raises:
        DataError: If it is missing or no such file.
    """
    try:
        with path.open("rb") as file:
            first = file.read(8)
            content = first + file.read(min(int.from_bytes(first, "little"), path.stat().st_size))
        metadata = _metadata(content)
        return _facts(metadata), checked(metadata["weights"], str | None, "weights")
    except OSError as error:
        raise DataError(f"the kept scores {path} cannot be read: {error.strerror}; {AGAIN}") from error
    except (DataError, KeyError) as error:
        raise DataError(f"{path} is no file of kept scores: {one_line(str(error))}; {AGAIN}") from error


def _facts(metadata: Mapping[str, object]) -> KeptFacts:
    facts = KeptFacts(**checked_fields(checked(metadata["facts"], dict[str, object], "facts"), KeptFacts, "facts"))
    if not facts.prompts:
        raise DataError("facts.prompts is empty; allowed: one set of templates or more")
    return facts


def parse_kept(content: bytes, path: Path) -> KeptScores:
    """Kept scores from the bytes of their file.

    Args:
        content: Bytes of the file.
        path: Path of the file, for messages.

    Raises:
        DataError: If they are not those of kept scores.
    """
    try:
        metadata, tensors = _metadata(content), load(content)
        labels, scores = (tensors.get(name) for name in ("labels", "scores"))
        if labels is None or scores is None or labels.dtype != np.int64 or scores.dtype != np.float32:
            raise DataError("it lacks the tensor labels of int64 or the tensor scores of float32")
        facts = _facts(metadata)
        ids = checked(metadata["ids"], tuple[str, ...], "ids")
        shape = (len(ids), len(facts.prompts), *scores.shape[2:])
        if scores.ndim != 4 or scores.shape != shape or labels.shape != shape[:1] or facts.fusion not in FUSIONS:
            raise DataError(f"scores have the shape {scores.shape} for {shape[0]} videos and {shape[1]} template sets")
        if 0 in shape[1:]:
            raise DataError(f"scores have the shape {scores.shape}; allowed: one view and one class or more")
        if not np.isfinite(scores).all():
            raise DataError("a score is not a finite number")
        return KeptScores(
            tuple(ids),
            labels,
            scores,
            checked(metadata["lost"], dict[str, int], "lost"),
            facts,
            checked(metadata["weights"], str | None, "weights"),
            checked(metadata["epoch"], int | None, "epoch"),
        )
    except (DataError, SafetensorError, KeyError) as error:
        raise DataError(f"{path} is no file of kept scores: {one_line(str(error))}; {AGAIN}") from error


def _metadata(content: bytes) -> dict[str, object]:
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= len(content) - 8:
        raise DataError("it is not safetensors: its header is longer than the file")
    header = checked(parse_json(content[8 : 8 + length], file_names=True), dict[str, object], "the header")
    texts = checked(header.get("__metadata__", {}), dict[str, str], "the metadata")
    separate = {name: parse_json(text.encode(), file_names=True) for name, text in texts.items()}
    # An older vlbench wrote a text for each value.
    values: dict[str, object] = checked(separate.get("kept", separate), dict[str, object], "the metadata")
    return values
