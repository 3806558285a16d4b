"""The lock and the minimum versions are those that pyproject asks for, and every bound says why it is there."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

pytestmark = pytest.mark.quick

CHECKOUT = Path(__file__).parents[1]
PYPROJECT = CHECKOUT / "pyproject.toml"


def requirements(left_out: Sequence[str] = ("docs", "datasets")) -> list[Requirement]:
    """What pyproject asks for: the dependencies and every extra but some.

    The documentation has its own pins, and `datasets` has none: it wants newer packages than the minimum versions.
    """
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name not in left_out]
    return [Requirement(line) for line in sum(extras, project["dependencies"])]


def pins(name: str) -> dict[str, Version]:
    lines = (CHECKOUT / "requirements" / name).read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


@pytest.mark.parametrize("required", requirements(), ids=str)
def test_the_minimum_versions_are_the_lower_bounds(required: Requirement) -> None:
    (bound,) = [bound.version for bound in required.specifier if bound.operator == ">="]
    assert pins("minimum.txt")[canonicalize_name(required.name)] == Version(bound)


@pytest.mark.parametrize("required", requirements(left_out=("docs", "parquet", "datasets")), ids=str)
def test_the_lock_lies_within_the_bounds(required: Requirement) -> None:
    assert pins("lock.txt")[canonicalize_name(required.name)] in required.specifier


def test_every_bound_says_why() -> None:
    bounds = [line for line in PYPROJECT.read_text().splitlines() if re.search(r'^[^#]*"[^"]*>=\d', line)]
    assert len(bounds) >= len(requirements())
    for line in bounds:
        if not line.startswith("requires-python"):
            assert re.search(r"#\s*\S+ \S+", line), f"no reason after: {line}"


@pytest.mark.parametrize("name", ["lock.txt", "minimum.txt", "docs.txt"])
def test_requirements_name_releases_and_no_place_to_get_them_from(name: str) -> None:
    for line in (CHECKOUT / "requirements" / name).read_text().splitlines():
        assert re.fullmatch(r"#.*|[\w.-]+(\[\w+\])?==[\w.]+|", line), line


def test_the_start_page_names_every_extra_of_users() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"].keys() - {"dev", "docs"}
    (named,) = re.findall(r"pip install '\.\[([\w,]+)\]'", (CHECKOUT / "docs" / "start.md").read_text())
    assert {*named.split(",")} == extras
