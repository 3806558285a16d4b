"""The AUROC of base against novel videos, recomputed from the scores of both records that state it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vlbench.datasets.specs import Subset
from vlbench.evaluation.calibration import auroc, confidences, probabilities, rule_of
from vlbench.evaluation.stored_scores import Floats, StoredScores
from vlbench.results.contradictions import differing_value
from vlbench.results.record import Record


@dataclass(frozen=True)
class _Half:
    path: Path
    stated: float
    confidences: Floats


class Halves:
    """Records of the halves of the classes of one test, which were written by one command and state one AUROC."""

    def __init__(self) -> None:
        self._tests: dict[str, dict[str, _Half]] = {}

    def add(self, path: Path, record: Record, stored: StoredScores) -> None:
        """Keeps the confidences of a record that states an AUROC.

        Args:
            path: Path of the record.
            record: Record of an evaluation.
            stored: Scores that lie beside the record.
        """
        calibration, test = record.details.calibration, record.identity.test
        if calibration is None or calibration.base_novel_auroc is None:
            return
        shares = probabilities(stored, rule_of(calibration))
        if shares is None:
            return  # which `contradictions_in_calibration` says
        # What else the identities of the two halves say is the same.
        alike = replace(record.identity, test=Subset(split=test.split), test_list=None, test_videos=None)
        half = _Half(path, calibration.base_novel_auroc, confidences(shares))
        self._tests.setdefault(alike.digest(), {}).setdefault(test.classes, half)

    def contradictions(self) -> Iterator[tuple[Path, str]]:
        """Paths of records whose AUROC does not follow from the scores of both, and a line on each."""
        name = "details.calibration.base_novel_auroc"
        for halves in self._tests.values():
            base, novel = halves.get("base"), halves.get("novel")
            if base is None or novel is None:
                for classes, half in halves.items():
                    other = "novel" if classes == "base" else "base"
                    yield half.path, f"{name} is {half.stated:.9g}, and there is no record of the {other} classes to it"
                continue
            value = auroc(base.confidences, novel.confidences)
            for half in (base, novel):
                yield from ((half.path, text) for text in differing_value(name, half.stated, value))
