"""Fixtures for every test, and the end of a run that lost one of its processes."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, settings

from vlbench.clips.options import Decoder
from vlbench.files import cache_folder

# On a busy machine an example may take any time; what hangs is ended by pytest-timeout.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_SHARED = Path(__file__).resolve().parents[2] / "shared"

_finished: set[str] = set()


def pytest_runtest_logfinish(nodeid: str) -> None:
    _finished.add(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport, sched: Any) -> None:
    """Ends the run when one of pytest-xdist's processes has died: with `--dist loadfile` it would wait for ever."""
    sched.config.hook.pytest_runtest_logreport(report=report)
    lost = Counter(test.split("::")[0] for test in sched.collection if test not in {*_finished, crashitem})
    files = ", ".join(f"{file} ({tests})" for file, tests in lost.items())
    message = f"the process that ran {crashitem} died; {lost.total()} tests were not run: {files}"
    pytest.exit(message, returncode=pytest.ExitCode.INTERRUPTED)


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder of real video clips; skips the test where there is none."""
    folder = _SHARED / "videos"
    if not folder.is_dir():
        pytest.skip(f"no videos at {folder}")
    return folder


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root that holds the rendered set shapes-s; made once, also with several test processes."""
    from filelock import FileLock

    from vlbench.synthetic.generate import is_complete, render_dataset

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    root = shared / "rendered"
    with FileLock(shared / "rendered.lock"):
        if not is_complete(root / "synthetic", "shapes-s"):
            render_dataset(root / "synthetic", sets=("shapes-s",), progress=False)
    return root


@pytest.fixture
def workplace(tmp_path: Path, rendered: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to run commands in, with the synthetic data at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLBENCH_DATA", str(rendered))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return tmp_path


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, Any]], str]:
    """Adds configurations to open_clip's registry, for one test."""
    import open_clip

    factory = open_clip.factory
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))

    def add(name: str, config: dict[str, Any]) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
        return name

    return add


@pytest.fixture(params=get_args(Decoder))
def backend(request: pytest.FixtureRequest) -> Decoder:
    """Each decoder in turn; skips those whose libraries do not load."""
    from vlbench.clips.decoding import available_backends

    name: Decoder = request.param
    if name not in available_backends():
        pytest.skip(f"the libraries of {name} do not load here")
    return name


@pytest.fixture
def untraced() -> Iterator[None]:
    """No lines are counted: for tests of calls without number, in lines of vlbench that other tests run too.

    The tracer takes as long as the calls of torch's tensors without values and of the parser that it looks at.
    """
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture
def pretended_gpu() -> None:
    """Skips the test where torch cannot pretend a GPU."""
    from vlbench.tools.memory.fake_cuda import can_pretend

    if not can_pretend():
        pytest.skip("torch below 2.10 cannot pretend a GPU on a machine without one")


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache that no other test has written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    cache_folder.cache_clear()
    yield
    cache_folder.cache_clear()
