"""Golden cases by file name, so that other files of the same format run through the same tests."""

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from vlbench.datasets.specs import ClassList, EvaluationSet, Subset

FOLDER = Path(os.environ.get("VLBENCH_GOLDEN", Path(__file__).resolve().parents[3] / "shared" / "golden"))


class Case(NamedTuple):
    """Tensors of NAME.safetensors and what NAME.json says of them."""

    name: str
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def __getitem__(self, key: str) -> Tensor:  # type: ignore[override]
        return self.tensors[key]

    def state(self) -> dict[str, Tensor]:
        return {k.removeprefix("state."): v for k, v in self.tensors.items() if k.startswith("state.")}


def names(pattern: str) -> list[str]:
    return sorted(path.stem for path in FOLDER.glob(f"{pattern}.json"))


def case(name: str) -> Case:
    path = FOLDER / name
    return Case(name, load_file(path.with_suffix(".safetensors")), json.loads(path.with_suffix(".json").read_text()))


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within a part of the largest expected value, as the golden data's README puts it."""
    assert actual.shape == expected.shape
    error = (actual.detach().double() - expected.double()).abs().max().item()
    limit = tolerance * expected.abs().max().clamp(min=1e-12).item()
    assert error <= limit, f"off by {error:.3g}, allowed {limit:.3g}"


def temperatures(facts: dict[str, Any]) -> list[float]:
    return [math.inf if tau == "inf" else float(tau) for tau in facts["taus"]]


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def evaluation_set(names: list[str], labels: dict[str, int] | None = None) -> EvaluationSet:
    """All classes of a golden case."""
    return EvaluationSet(
        Subset(), ClassList(tuple(names), tuple(range(len(names))), tuple(names)), labels or {}, "golden"
    )
