"""The direction of imports, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

import vlbench

PACKAGE = Path(vlbench.__file__).parent

# What a room may import from vlbench, beside itself, `errors` and `files`.
ALLOWED = {
    "cli": {
        "",
        "backbones",
        "clips",
        "datasets",
        "evaluation",
        "methods",
        "protocols",
        "results",
        "synthetic",
        "tools",
    },
    "protocols": {"datasets.specs", "results.record"},
    "results": {"", "backbones", "clips.options", "datasets", "evaluation"},
    "methods": {"backbones", "clips.batch", "datasets", "evaluation", "optim"},
    "evaluation": {"backbones", "clips.batch", "datasets"},
    "tools": {"clips.decoding", "datasets"},
    "backbones": {"synthetic.tiny_clip"},
    "clips": {"datasets"},
    "datasets": {"synthetic"},
    "synthetic": set(),
    "optim": set(),
    "errors": set(),
    "files": set(),
    "__init__": set(),
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
            top in (own, "errors", "files")
            or any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED[own] if allowed)
            or ("" in ALLOWED[own] and name in ("", "__version__"))
        )
        assert fine, f"{path.relative_to(PACKAGE)} imports vlbench.{name}; {own} may import {sorted(ALLOWED[own])}"


@pytest.mark.parametrize("method", ["mote", "msta"])
def test_no_method_imports_another(method):
    others = {"mote", "msta", "zero_shot"} - {method}
    for path in (PACKAGE / "methods" / method).rglob("*.py"):
        for name in imported_modules(path):
            assert not any(name.startswith(f"methods.{other}") for other in others), f"{path} imports {name}"


def test_every_room_is_ruled():
    assert {room(path) for path in sources()} == set(ALLOWED)
