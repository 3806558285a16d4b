"""Whether a suite's numbers still are what they were: bands around expected values, and the comparison with them.

numpy and torch are imported only where they are needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from vlbench.errors import DataError
from vlbench.files import write_atomically
from vlbench.names import one_line
from vlbench.results.escapes import markdown
from vlbench.results.fields import checked, checked_fields, parse_json

if TYPE_CHECKING:
    from vlbench.results.stored import StoredEvaluation

SCHEMA_VERSION = 1

Values = Mapping[str, float]
"""What `measure` makes of an evaluation: metric -> value."""

MARGINS: Values = {
    "top1": 1.3,  # one of 80 videos
    "cosine": 2e-5,
    "lead": 2e-5,
    "videos": 0.0,
    "steps": 0.0,
    "trainable_params": 0.0,
    "updated_tensors": 0.0,
}
"""How far beyond the values of all seeds a band reaches, for the rounding of other processors; 0 where none rounds."""
SPREAD = 1.0
"""How many times their range it reaches farther: training amplifies rounding until a run is like another seed's."""


def measure(evaluation: StoredEvaluation, checkpoint: Path | None = None) -> dict[str, float]:
    """What is compared of an evaluation.

    Args:
        evaluation: Evaluation on any videos.
        checkpoint: Checkpoint that the evaluated weights come from.

    Returns:
        `top1`, in per cent; `cosine`, the mean over the videos of the cosine with their own class, and `lead`, the mean
        of what that is ahead of the best other class: they also move where no video changes its class; `videos`, how
        many were read; `steps` of the optimizer; `trainable_params`; `updated_tensors`, how many parameter tensors ever
        had a gradient: a part of a method that is left out trains nothing, whatever that does to accuracy.
    """
    import numpy as np

    record, predictions = evaluation.record, evaluation.predictions
    training = record.details.training
    rows = np.arange(len(predictions.ids))
    cosines = predictions.cosines[rows, predictions.labels]
    others = predictions.cosines.copy()
    others[rows, predictions.labels] = -math.inf
    return {
        "top1": record.metrics["top1"],
        "cosine": float(cosines.mean(dtype=np.float64)),
        "lead": float((cosines - others.max(axis=1)).mean(dtype=np.float64)),
        "videos": record.evaluated,
        "steps": 0 if training is None else training.steps or 0,
        "trainable_params": record.details.trainable_params or 0,
        "updated_tensors": 0 if checkpoint is None else _updated_tensors(checkpoint),
    }


def _updated_tensors(checkpoint: Path) -> int:
    """Those of whose gradients the optimizer remembers one that was not zero."""
    import torch

    optimizers = torch.load(checkpoint, map_location="cpu", weights_only=True)["optimizer_states"]
    return sum(bool(moments["exp_avg_sq"].any()) for each in optimizers for moments in each["state"].values())


@dataclass(frozen=True)
class Band:
    """Where a value may lie.

    Attributes:
        expected: Mean over the seeds.
        low: Smallest value that is allowed.
        high: Largest value that is allowed.
    """

    expected: float
    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float], margin: float, spread: float) -> Band:
        """The band of some values, to either side wider by `margin` and `spread` times the range of the values."""
        low, high = min(values), max(values)
        beyond = margin + spread * (high - low)
        return cls(math.fsum(values) / len(values), low - beyond, high + beyond)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Check:
    """One value and its band.

    Attributes:
        evaluation: Name of the record, without the seed.
        metric: Name of the metric, a key of `measure`.
        band: Band that the value may lie in.
        measured: Value that was measured.
    """

    evaluation: str
    metric: str
    band: Band
    measured: float

    @property
    def passed(self) -> bool:
        """Whether the value lies in the band; one that is not a number lies in none."""
        return self.measured in self.band


@dataclass(frozen=True)
class Expectation:
    """A file of bands.

    Attributes:
        suite: Name of the suite they are of.
        seeds: Seeds of the runs that the bands were made of; a check runs the first one.
        margins: Metric -> how far bands reach beyond the values of these seeds.
        spread: Number of times their range that bands reach farther.
        made_with: Versions and device of the runs.
        bands: Evaluation -> metric -> band.
    """

    suite: str
    seeds: tuple[int, ...]
    margins: Values
    spread: float
    made_with: Mapping[str, object]
    bands: Mapping[str, Mapping[str, Band]]

    @classmethod
    def of(
        cls,
        suite: str,
        seeds: Sequence[int],
        measured: Mapping[str, Sequence[Values]],
        made_with: Mapping[str, object],
        margins: Values = MARGINS,
        spread: float = SPREAD,
    ) -> Expectation:
        """Bands around what several seeds measured.

        Args:
            suite: Name of the suite.
            seeds: Seeds of the suite's runs.
            measured: Evaluation -> what `measure` found, for each run.
            made_with: Versions and device of the runs.
            margins: Metric -> how far bands reach beyond these values.
            spread: Number of times their range that bands reach farther.

        Raises:
            DataError: If a value is not a number, as after a training that diverged.
        """
        bands = {}
        for name, runs in measured.items():
            lost = [metric for values in runs for metric, value in values.items() if not math.isfinite(value)]
            if lost:
                raise DataError(f"{name}: {lost[0]} is not a finite number; there is no band around it")
            bands[name] = {
                metric: Band.around([values[metric] for values in runs], margin, spread)
                for metric, margin in margins.items()
            }
        return cls(suite, tuple(seeds), dict(margins), spread, dict(made_with), bands)

    def compare(self, measured: Mapping[str, Values]) -> list[Check]:
        """Every value with its band.

        Args:
            measured: Evaluation -> what `measure` found.

        Raises:
            DataError: If there are evaluations or metrics without a band, or bands without one.
        """
        expected = {(name, metric) for name, bands in self.bands.items() for metric in bands}
        measured_names = {(name, metric) for name, values in measured.items() for metric in values}
        if expected != measured_names:
            differ = sorted(expected ^ measured_names)
            suite, first = one_line(self.suite), one_line(" ".join(differ[0]))
            raise DataError(
                f"the bands of {suite} do not fit what was run, {first} among {len(differ)} values "
                "of only one of them; make them anew with --update"
            )
        return [
            Check(name, metric, band, measured[name][metric])
            for name, bands in self.bands.items()
            for metric, band in bands.items()
        ]

    def write(self, path: Path) -> None:
        """Checks of a regression run as JSON."""
        values = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Expectation:
        """From a file of `write`.

        Raises:
            DataError: If it is missing, of something else or of another schema.
        """
        try:
            values = checked(parse_json(path.read_bytes()), dict[str, object], "it")
            version = checked(values.pop("schema_version", None), int, "schema_version")
            if version != SCHEMA_VERSION:
                raise DataError(f"schema_version is {version}; this vlbench reads {SCHEMA_VERSION}")
            expectation = cls(**checked_fields(values, cls, ""))
            if not expectation.seeds:
                raise DataError("seeds is []; allowed: one or more")
            return expectation
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; make it with --update") from error
        except DataError as error:
            cause = one_line(str(error))
            raise DataError(f"{path} holds no expected values: {cause}; make it with --update") from error


def to_json(suite: str, checks: Sequence[Check]) -> str:
    """The checks with their verdict; a value that is not finite is null."""
    rows = [
        {
            "evaluation": check.evaluation,
            "metric": check.metric,
            **asdict(check.band),
            "measured": check.measured if math.isfinite(check.measured) else None,
            "passed": check.passed,
        }
        for check in checks
    ]
    passed = all(check.passed for check in checks)
    return json.dumps({"suite": suite, "passed": passed, "checks": rows}, indent=2) + "\n"


def to_junit(suite: str, checks: Sequence[Check]) -> str:
    """JUnit XML: a test case a value, a class an evaluation."""
    failures = sum(not check.passed for check in checks)
    counts = {"tests": str(len(checks)), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    group = ElementTree.SubElement(root, "testsuite", {"name": one_line(suite), **counts})
    for check in checks:
        names = {"classname": one_line(check.evaluation), "name": one_line(check.metric)}
        case = ElementTree.SubElement(group, "testcase", names)
        if not check.passed:
            _, metric, expected, band, measured, _ = cells(check)
            message = f"{one_line(metric)} is {measured}, expected {expected} in {band}"
            ElementTree.SubElement(case, "failure", {"message": message})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def to_markdown(suite: str, checks: Sequence[Check]) -> str:
    """A table, for the summary of a pull request."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(tuple(map(markdown, cells(check))) for check in checks)]
    return f"### {markdown(suite)}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


COLUMNS = ("evaluation", "metric", "expected", "band", "measured", "verdict")
"""Of a table of checks."""


def cells(check: Check) -> tuple[str, ...]:
    """A check's row in a table with these columns."""
    numbers = (check.band.expected, check.band.low, check.band.high, check.measured)
    expected, low, high, measured = (f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}" for value in numbers)
    return (
        check.evaluation,
        check.metric,
        expected,
        f"{low} .. {high}",
        measured,
        "ok" if check.passed else "REGRESSION",
    )
