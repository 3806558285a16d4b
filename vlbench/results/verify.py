"""What does not fit in results folders: records and audits against their scores, and records against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlbench.errors import DataError
from vlbench.evaluation.stored_scores import StoredScores
from vlbench.names import one_line
from vlbench.results.audit_contradictions import contradictions_in_audit
from vlbench.results.audits import audit_path, audit_paths
from vlbench.results.contradictions import (
    contradictions,
    contradictions_in_calibration,
    contradictions_in_draws,
)
from vlbench.results.fields import shown
from vlbench.results.halves import Halves
from vlbench.results.kept_file import read_kept
from vlbench.results.kept_runs import epoch_path, read_epoch
from vlbench.results.pairs import content_of, predictions_path, read_pair, record_paths
from vlbench.results.record import Record
from vlbench.results.scores_file import read_scores
from vlbench.results.stored import StoredEvaluation


@dataclass(frozen=True)
class Finding:
    """Something that does not fit.

    Attributes:
        path: Path of the record or the audit that it is about.
        text: Sentence that says what does not fit.
    """

    path: Path
    text: str

    def __str__(self) -> str:
        """The finding on one line."""
        text = one_line(self.text)
        return text if text.startswith(str(self.path)) else f"{self.path}: {text}"


@dataclass(frozen=True)
class Verification:
    """Outcome of verifying folders.

    Attributes:
        records: Number of records that were verified.
        findings: Findings in the order of the records' paths.
        audits: Number of audits that were verified.
    """

    records: int
    findings: tuple[Finding, ...]
    audits: int = 0


def verify(folders: Sequence[Path]) -> Verification:
    """Recomputes what the records below some folders say from the scores beside them.

    Args:
        folders: Results folders, searched for records.

    Raises:
        DataError: If a folder does not exist, or none has a record.
    """
    paths = list(dict.fromkeys(record_paths(folders)))
    if not paths:
        raise DataError(f"no records below {', '.join(map(str, folders))}; give folders that hold a folder `records`")
    findings: list[Finding] = []
    evaluations: dict[str, Path] = {}
    halves = Halves()
    for path in paths:
        try:
            record, content = read_pair(path, content_of)
        except DataError as error:
            findings.append(Finding(path, str(error)))
            continue
        findings += _findings(record, content, path, halves)
        other = evaluations.setdefault(record.identity.digest(), path)
        if other != path:
            findings.append(Finding(path, f"it is of the same evaluation as {other}; keep one of them"))
    findings += [Finding(path, text) for path, text in halves.contradictions()]
    audits = audit_paths(folders)
    of_records = {audit_path(path) for path in paths}
    findings += [
        Finding(path, "there is no record of its name; delete it, or give the folder of the record whole")
        for path in audits
        if path not in of_records
    ]
    return Verification(len(paths), tuple(findings), len(audits))


def _findings(record: Record, content: bytes, path: Path, halves: Halves) -> Iterator[Finding]:
    """What does not fit the scores of a record: the record itself, what was kept beside it, and its audit."""
    try:
        stored, written = read_scores(content, record, predictions_path(path))
    except DataError as error:
        yield Finding(path, str(error))
        return
    for text in _contradictions(record, stored, written, path, halves):
        yield Finding(path, text)
    audit = audit_path(path)
    if not audit.is_file():
        return
    if stored.multi_label:
        yield Finding(audit, f"{path} is of videos that may have several labels, which have no audit; delete it")
        return
    evaluation = StoredEvaluation(path.stem, record, record.details.classes, stored)
    for text in contradictions_in_audit(audit, evaluation):
        yield Finding(audit, text)


def _contradictions(
    record: Record, stored: StoredScores, written: str | None, path: Path, halves: Halves
) -> Iterator[str]:
    yield from contradictions(record, stored, written)
    yield from contradictions_in_draws(record, stored)
    if record.details.kept is not None:
        try:
            read_kept(path, record, stored)
        except DataError as error:
            yield str(error)
    for name, digest in record.details.epochs.items():
        try:
            read_epoch(epoch_path(path, name), digest)
        except DataError as error:
            yield str(error)
    yield from contradictions_in_calibration(record, stored)
    halves.add(path, record, stored)
    classes = record.details.classes
    if len(set(classes)) < len(classes):
        yield f"details.classes names {shown(next(name for name in classes if classes.count(name) > 1))} twice"
    if record.details.train_test_overlap:
        yield f"details.train_test_overlap is {record.details.train_test_overlap}: so many training videos were tested"
