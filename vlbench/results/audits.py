"""Audits of records as they lie beside them, in `audits/NAME.json`, and what the leaderboard reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vlbench.errors import DataError
from vlbench.names import one_line
from vlbench.results.fields import checked, parse_json
from vlbench.results.record import Record

AUDIT_VERSION = 1
"""Version of the layout of an audit's file."""


class AuditedRecord(NamedTuple):
    """What an audit is of.

    Attributes:
        identity: Digest of the identity of the record.
        predictions: Digest of the file of scores of the record.
    """

    identity: str
    predictions: str | None


class AuditScores(NamedTuple):
    """What the leaderboard has of an audit, in points of top-1.

    Attributes:
        order_score: Top-1 less that on shuffled frames.
        time_score: Top-1 less that on the middle frame of each view.
    """

    order_score: float
    time_score: float


def audited_record(record: Record) -> AuditedRecord:
    """What an audit of a record would be of."""
    return AuditedRecord(record.identity.digest(), record.predictions)


def audit_path(record: Path) -> Path:
    """Where the audit of a record lies.

    Args:
        record: Path of the record.
    """
    return record.parent.parent / "audits" / record.name


def read_audits(folders: Sequence[Path]) -> dict[AuditedRecord, AuditScores]:
    """The scores of all audits below some folders; hidden files are still being written.

    Args:
        folders: Results folders, searched for audits.

    Raises:
        DataError: If a file in a folder `audits` is no audit, or two audits of one record differ; names the file.
    """
    audits: dict[AuditedRecord, tuple[Path, AuditScores]] = {}
    for path in audit_paths(folders):
        key, scores = _read(path)
        other, before = audits.setdefault(key, (path, scores))
        for name, first, second in zip(AuditScores._fields, before, scores, strict=True):
            if first != second:
                raise DataError(
                    f"{other} and {path} are of one record and differ: {name} {first:.3f} and {second:.3f}; delete one"
                    " of them"
                )
    return {key: scores for key, (_, scores) in audits.items()}


def audit_paths(folders: Sequence[Path]) -> list[Path]:
    """Files of all audits below some folders, each once, in the order of their paths; hidden ones are being written.

    Args:
        folders: Results folders, searched for audits.
    """
    paths = {path for folder in folders for path in folder.rglob("audits/*.json") if not path.name.startswith(".")}
    return sorted(paths)


def audit_values(content: bytes) -> dict[str, object]:
    """Values of the file of an audit of this version, of which the version alone is checked.

    Args:
        content: Bytes of the file.

    Raises:
        DataError: If they are no JSON object of this version.
    """
    values: dict[str, object] = checked(parse_json(content), dict[str, object], "it")
    version = checked(values.get("schema_version"), int, "schema_version")
    if version != AUDIT_VERSION:
        raise DataError(f"schema_version is {version}; this vlbench reads {AUDIT_VERSION}")
    return values


def _read(path: Path) -> tuple[AuditedRecord, AuditScores]:
    try:
        values = audit_values(path.read_bytes())
        key = AuditedRecord(
            checked(values.get("identity"), str, "identity"),
            checked(values.get("predictions"), str | None, "predictions"),
        )
        scores = {name: checked(values.get(name), float, name) for name in AuditScores._fields}
        wrong = next((name for name, score in scores.items() if not -100 <= score <= 100), None)
        if wrong is not None:
            raise DataError(f"{wrong} is {scores[wrong]}; allowed: -100 to 100")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except DataError as error:
        raise DataError(
            f"{path} is not an audit of vlbench: {one_line(str(error))}; delete it and run `vlbench audit` again"
        ) from error
    return key, AuditScores(**scores)
