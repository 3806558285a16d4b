"""Nothing that vlbench reads is executed: what its sources may call, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

import vlbench

pytestmark = pytest.mark.quick

PACKAGE = Path(vlbench.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts)

MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
"""Modules whose readers execute what they read."""
HARMLESS = {"UnpicklingError"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


def dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def keyword(call, name):
    return next((entry.value for entry in call.keywords if entry.arg == name), None)


def is_true(node):
    return isinstance(node, ast.Constant) and node.value is True


def dangers(source):
    """Calls and imports of a source text that may execute what they read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name not in HARMLESS)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in BUILTINS | SHELLS:
                yield name
            if name in ("torch.load", "torch_load") and not is_true(keyword(node, "weights_only")):
                yield f"{name} without weights_only=True"
            if name.startswith("yaml.") and name.removeprefix("yaml.") in UNSAFE_YAML:
                yield name
            if name.startswith("yaml.") and "Unsafe" in ast.dump(node):
                yield name
            if is_true(keyword(node, "shell")) or is_true(keyword(node, "allow_pickle")):
                yield f"{name} with shell or allow_pickle"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_executed_that_was_read(path):
    assert not list(dangers(path.read_text()))


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "yaml.compose(text, Loader=yaml.UnsafeLoader)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_check_sees(line):
    assert list(dangers(line))


@pytest.mark.parametrize(
    "line",
    ["model.eval()", "re.compile(text)", "yaml.safe_load(text)", "torch.load(path, weights_only=True)", "x.load(path)"],
)
def test_the_check_lets_pass(line):
    assert not list(dangers(line))
