"""Golden cases, discovered from their files: other files of the same formats run through the same tests.

Folders, in this order: `tests/reference/golden` of the repository, `../shared/golden` where it is, and the folder that
`VLBENCH_GOLDEN` names. `tests/reference/golden/README.md` describes the formats.
"""

import json
import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

COMMITTED = Path(__file__).with_name("golden")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "golden"


def golden_folders() -> dict[str, Path]:
    """Golden folders by the name that test ids begin with; a folder reached twice is listed once."""
    folders = {"repository": COMMITTED}
    if SHARED.is_dir():
        folders["shared"] = SHARED
    if named := os.environ.get("VLBENCH_GOLDEN"):
        other = Path(named).resolve()
        if not other.is_dir():
            raise pytest.UsageError(f"VLBENCH_GOLDEN is {named!r}, which is no folder; name a folder of golden data")
        if other not in {folder.resolve() for folder in folders.values()}:
            folders["other"] = other
    return folders


class Case:
    """NAME.json with the tensors of NAME.safetensors, if there is such a file."""

    def __init__(self, description: Path) -> None:
        self.folder, self.name = description.parent, description.stem
        self._arrays = description.with_suffix(".safetensors")

    @cached_property
    def facts(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / f"{self.name}.json").read_text())
        return loaded

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self._arrays) if self._arrays.is_file() else {}

    @cached_property
    def keys(self) -> frozenset[str]:
        """Names of the tensors, read without the tensors."""
        if not self._arrays.is_file():
            return frozenset()
        with safe_open(self._arrays, "pt") as file:
            return frozenset(file.keys())

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def starting(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts so, by the rest of the name."""
        return {key.removeprefix(prefix): self.tensors[key] for key in sorted(self.keys) if key.startswith(prefix)}

    def state(self) -> dict[str, Tensor]:
        return self.starting("state.")

    def file(self, role: str) -> Path:
        """A file beside the case, such as weights, that the case names under `files`."""
        return self.folder / str(self.facts["files"][role])

    def states(self, key: str) -> bool:
        """Whether the description has a value under this key, or a tensor has this name or begins with it and a dot."""
        return bool(self.facts.get(key)) or any(name == key or name.startswith(f"{key}.") for name in self.keys)


def golden_cases(kind: str, *having: str) -> list[Any]:
    """Parameters of a test, one for every case of a kind in every golden folder.

    Args:
        kind: beginning of the file names, after the folder of the method if it has one: `mote_head`, `vifi_clip/step`.
        having: keys that a case needs for the test, of its description or of its tensors (whole dotted parts).

    Returns:
        Values for `pytest.mark.parametrize` or a fixture's `params`, with ids such as `shared-mote_head_a`; one
        skipped parameter with a reason where there is no such case.
    """
    parameters = []
    for label, folder in golden_folders().items():
        for path in sorted(folder.glob(f"{kind}*.json")):
            case = Case(path)
            if all(case.states(key) for key in having):
                name = path.relative_to(folder).with_suffix("").as_posix()
                parameters.append(pytest.param(case, id=f"{label}-{name}"))
    if parameters:
        return parameters
    needed = f" with {' and '.join(having)}" if having else ""
    searched = ", ".join(str(folder) for folder in golden_folders().values())
    return [pytest.param(None, id="none", marks=pytest.mark.skip(f"no golden case {kind}*{needed} in {searched}"))]


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within a part of the largest expected value, as the golden data's README puts it."""
    assert actual.shape == expected.shape
    error = (actual.detach().double() - expected.double()).abs().max().item()
    largest = expected.abs().max().clamp(min=1e-12).item()
    limit = tolerance * largest
    if report := os.environ.get("VLBENCH_FIDELITY"):
        with Path(report).open("a") as file:
            print(os.environ["PYTEST_CURRENT_TEST"].partition("::")[0], tolerance, error / largest, file=file)
    assert error <= limit, f"off by {error:.3g}, allowed {limit:.3g}"


def temperatures(facts: dict[str, Any]) -> list[float]:
    return [math.inf if tau == "inf" else float(tau) for tau in facts["taus"]]


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)
