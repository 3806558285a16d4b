import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from vlbench.protocols.launchers import LocalLauncher
from vlbench.protocols.plans import plan
from vlbench.protocols.runner import Runner
from vlbench.protocols.suites import MethodConfig, ProtocolConfig, Suite

STAND_IN = (sys.executable, "-m", "tests.protocols.stand_in")


class Lab:
    """A folder with configurations for the stand-in, what it did, and what the runner said."""

    def __init__(self, folder):
        self.folder = folder
        self.out = folder / "out"
        (folder / "calls").touch()
        for name in ("data.yaml", "cpu.yaml"):
            (folder / name).write_text("{}")

    def behave(self, name, **behaviour):
        (self.folder / f"{name}.yaml").write_text(json.dumps({"calls": str(self.folder / "calls"), **behaviour}))

    def runner(self, methods=("one", "two"), shots=(2,), jobs=1, launcher=None, **options):
        protocol = ProtocolConfig("few_shot@1", ["data.yaml"], shots=list(shots), **options)
        suite = Suite([protocol], {name: MethodConfig([f"{name}.yaml"]) for name in methods}, ["cpu.yaml"])
        return self.of(plan(suite), jobs, launcher)

    def of(self, stages, jobs=1, launcher=None):
        console = Console(file=(self.folder / "console").open("a"), width=200)
        launcher = launcher or LocalLauncher(jobs, STAND_IN)
        return Runner(stages, self.out, lambda name: self.folder / name, console, launcher, jobs)

    @property
    def calls(self):
        """What stages were started."""
        return [call for call in self.noted if call in ("fit", "test")]

    @property
    def noted(self):
        return (self.folder / "calls").read_text().split()

    @property
    def said(self):
        return (self.folder / "console").read_text()

    def made(self):
        """Every file of the results but logs and locks, with its content where that is the same in every folder."""
        files = {path.relative_to(self.out): path for path in self.out.rglob("*") if path.is_file()}
        return {
            str(name): None if name.parts[0] == "stages" else path.read_text()
            for name, path in files.items()
            if name.parts[0] not in ("logs", ".lock")
        }


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return Lab(tmp_path)
