"""What the doctor found."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from vlbench.files import write_atomically
from vlbench.names import one_line, quoted

SCHEMA_VERSION = 1
Severity = Literal["error", "warning", "note"]
_STYLES: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        severity: `error`, numbers come out wrong or a run ends; `warning`, they may; `note`, nothing to mend.
        code: One word for this kind of finding, such as `truncated`.
        where: The video or the list.
        text: What is the matter and what to do, one line.
        videos: Ids of the videos concerned, where they are several.
    """

    severity: Severity
    code: str
    where: str
    text: str
    videos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """A training video and a test video that are one, or seem to be.

    Attributes:
        reason: What is alike: `id`, `content` of the files, or `features`.
        train: Id of the training video.
        test: Id of the test video.
        score: Similarity of the two, up to 1.
    """

    reason: Literal["id", "content", "features"]
    train: str
    test: str
    score: float


@dataclass(frozen=True)
class Report:
    """All findings about a dataset, a folder, some lists or a bank.

    Attributes:
        subject: What was looked at.
        videos: Number of videos looked at.
        decoded: Number of videos that were decoded, now or by an earlier check of the same files.
        findings: Findings, the worst first.
        pairs: Training and test videos of a bank that are alike.
    """

    subject: str
    videos: int
    decoded: int
    findings: tuple[Finding, ...]
    pairs: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        ranked = sorted(self.findings, key=lambda finding: list(_STYLES).index(finding.severity))
        object.__setattr__(self, "findings", tuple(ranked))

    @property
    def exit_code(self) -> int:
        """1 if there is an error, else 0."""
        return int(any(finding.severity == "error" for finding in self.findings))

    @property
    def summary(self) -> str:
        """One line that sums up the report."""
        counts = Counter(finding.severity for finding in self.findings)
        totals = ", ".join(f"{severity}s {counts[severity]}" for severity in _STYLES)
        return f"{self.subject}: {self.videos} videos, {self.decoded} decoded; {totals}"

    def print(self, console: Console) -> None:
        """One line a finding, then the summary."""
        for finding in self.findings:
            line = Text.assemble(
                (f"{finding.severity:8}", _STYLES[finding.severity]),
                f"{finding.code:13} {quoted(finding.where)}: ",
                one_line(finding.text),
            )
            console.print(line, soft_wrap=True, highlight=False)
        console.print(one_line(self.summary), soft_wrap=True, highlight=False, markup=False)

    def write(self, path: Path) -> None:
        """Writes the report as JSON, in one step."""
        content = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
