"""The direction of imports, read from the syntax trees."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vlbench

pytestmark = pytest.mark.quick

PACKAGE = Path(vlbench.__file__).parent

# What every room may import.
FOR_ALL = (
    *("commit", "errors", "files", "names", "pages", "processes", "ranges", "regular_files"),
    *("settings", "temporary", "yaml_files"),
)

# What a room may import from vlbench beside itself.
ALLOWED = {
    "cli": {
        "",
        "backbones",
        "bank",
        "clips",
        "datasets",
        "deploy",
        "evaluation",
        "inference",
        "methods",
        "protocols",
        "results",
        "synthetic",
        "tools",
    },
    "api": {"cli", "clips", "datasets", "evaluation", "inference", "results"},
    "inference": {"backbones", "clips", "datasets", "evaluation", "methods"},
    "bank": {"", "backbones.base", "clips", "datasets"},
    "protocols": {"datasets.specs", "results.curves", "results.pairs"},
    "results": {"", "backbones", "clips.options", "datasets", "evaluation"},
    "methods": {"backbones", "clips.batch", "datasets", "evaluation", "optim"},
    "evaluation": {"backbones", "clips.batch", "datasets"},
    "tools": {
        "",
        "backbones.base",
        "bank.bank",
        "clips.batch",
        "clips.container",
        "clips.decoding",
        "clips.sampling",
        "clips.transforms",
        "datasets",
        "evaluation.operations",
        "methods.base",
    },
    "deploy": {"evaluation.evaluator", "methods.base"},
    "backbones": {"synthetic.tiny_clip"},
    "clips": {"datasets"},
    "datasets": {"synthetic"},
    "synthetic": set(),
    "optim": set(),
    "commit": set(),
    "errors": set(),
    "settings": set(),
    "files": set(),
    "names": set(),
    "pages": set(),
    "ranges": set(),
    "regular_files": set(),
    "temporary": set(),
    "processes": set(),
    "yaml_files": set(),
    "__init__": {"api"},
    "__main__": {"cli"},
}


def imported_modules(path: Path) -> set[str]:
    """Names below vlbench that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("vlbench").removeprefix(".") for name in found if name.split(".")[0] == "vlbench"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = room(path)
    for name in imported_modules(path):
        top = name.split(".")[0]
        fine = (
            top in (own, *FOR_ALL)
            or any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED[own] if allowed)
            or ("" in ALLOWED[own] and name in ("", "__version__"))
        )
        assert fine, f"{path.relative_to(PACKAGE)} imports vlbench.{name}; {own} may import {sorted(ALLOWED[own])}"


NO_METHODS = {
    *("__init__", "__pycache__", "base", "loops", "parts", "stated", "training"),
    *("open_vclip_released", "released", "vifi_released"),
}
METHODS = {path.stem for path in (PACKAGE / "methods").iterdir()} - NO_METHODS


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_method_imports_another(method):
    others = METHODS - {method}
    module = PACKAGE / "methods" / method
    paths = [*module.rglob("*.py")] if module.is_dir() else [module.with_suffix(".py")]
    assert paths
    for path in paths:
        for name in imported_modules(path):
            assert not any(name.startswith(f"methods.{other}") for other in others), f"{path} imports {name}"


def imported_files(path: Path) -> set[str]:
    """Files below vlbench that a file imports, also inside functions and for types alone."""
    files = set()
    for name in imported_modules(path):
        parts = name.split(".") if name else []
        # The last part may be a class or a function of the module before it.
        for length in (len(parts), len(parts) - 1):
            stem = PACKAGE.joinpath(*parts[: max(length, 0)])
            file = next((each for each in (stem.with_suffix(".py"), stem / "__init__.py") if each.is_file()), None)
            if file is not None:
                files.add(str(file.relative_to(PACKAGE)))
                break
    return files


def test_no_circle_between_files():
    graph = {}
    for path in sources():
        name = str(path.relative_to(PACKAGE))
        # The package names what `vlbench.api` gives, for editors, and imports it when it is asked for.
        graph[name] = imported_files(path) if name != "__init__.py" else set()
    assert sum(len(others) for others in graph.values()) > 100, "imports were not resolved to files"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"files import each other in a circle: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_class_is_swapped_under_a_living_object(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            assert node.attr != "__class__", f"{path.relative_to(PACKAGE)}:{node.lineno} assigns __class__"


def test_every_room_is_ruled():
    assert {room(path) for path in sources()} == set(ALLOWED)
