"""`vlbench regress`: its exit codes and reports, and that defects put into vlbench on purpose show."""

import json
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml

from tests.cli.mutants import CAUGHT_BY
from tests.results.fakes import store
from vlbench.cli.configs import find_config
from vlbench.cli.main import main
from vlbench.cli.registry import COMMANDS
from vlbench.protocols.launchers import LocalLauncher
from vlbench.results.regression import Expectation

ROOT = Path(__file__).parents[2]


class FakeLauncher:
    """Runs nothing: a stage leaves what `behave` says at once."""

    interval = 0.0
    code, shift, missing = 0, 0, ""

    def __init__(self, jobs=1):
        self.environment = {}

    def start(self, name, digest, arguments, log):
        overlay = yaml.safe_load(Path(arguments[-1 if arguments[0] == "test" else -3]).read_text())
        if arguments[0] == "fit":
            folder = Path(overlay["checkpoint"]["dirpath"])
            folder.mkdir(parents=True)
            torch.save({"optimizer_states": []}, folder / "last.ckpt")
        elif name != self.missing:
            seed = overlay["seed_everything"]
            scores = torch.eye(4).roll(self.shift, 1) + 0.01 * seed
            details = {"vlbench": "1", "device": "cpu", "python": "3", "packages": {}, "training": {"steps": 5}}
            store(Path(overlay["record"]["folder"]), name, scores, [0, 1, 2, 3], stage=digest, **details)
        return self

    def poll(self):
        return self.code

    def close(self):
        pass


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A suite of which nothing is run, and its bands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vlbench.protocols.launchers.LocalLauncher", FakeLauncher)
    suite = {
        "protocols": [{"protocol": "few_shot@1", "datasets": ["data/synthetic.yaml"], "shots": [2], "seeds": [9]}],
        "methods": {
            "zero": {"configs": ["zero_shot.yaml"], "trains": False},
            "msta": {"configs": ["msta_fewshot.yaml"]},
        },
    }
    Path("suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    assert regress("--update", "--seeds", "1", "0", "2") == 0
    return Path("suite.yaml")


def regress(*options):
    return main(["regress", "--suite", "suite.yaml", "--expected", "bands.json", *options])


def test_an_update_makes_bands_of_its_seeds(suite):
    made = Expectation.read(Path("bands.json"))
    assert (made.suite, made.seeds, list(made.bands)) == (
        "suite.yaml", (1, 0, 2), ["few_shot-synthetic-zero-test", "few_shot-synthetic-msta-2shot-test"],
    )  # fmt: skip
    band = made.bands["few_shot-synthetic-msta-2shot-test"]["cosine"]
    assert band.expected == pytest.approx(1.01)
    beyond = made.margins["cosine"] + 0.02 * made.spread
    assert (band.low, band.high) == pytest.approx((1 - beyond, 1.02 + beyond))


def test_values_in_their_bands_are_no_regression(suite, capsys):
    assert regress("--out", "out") == 0
    assert "no regression" in capsys.readouterr().out
    assert json.loads(Path("out/regression.json").read_text())["passed"]
    assert ElementTree.parse("out/regression.xml").getroot().get("failures") == "0"
    assert Path("out/regression.md").read_text().count("| ok |") == 14
    assert [path.stem for path in Path("out/runs/records").iterdir() if "seed" in path.stem] == [
        "few_shot-synthetic-msta-2shot-seed1-test"  # the first seed of the bands
    ]


def test_values_out_of_their_bands_are_one(suite, monkeypatch, capsys):
    monkeypatch.setattr(FakeLauncher, "shift", 1)
    assert regress("--out", "out") == 1
    assert "6 of 14 values are out of their bands" in capsys.readouterr().out
    assert ElementTree.parse("out/regression.xml").getroot().get("failures") == "6"
    assert "| top1 | 100 | 98.7 .. 101.3 | 0 | REGRESSION |" in Path("out/regression.md").read_text()


def test_runs_are_made_anew(suite, monkeypatch):
    assert regress("--out", "out") == 0
    monkeypatch.setattr(FakeLauncher, "shift", 1)
    assert regress("--out", "out") == 1


@pytest.mark.parametrize("broken", [{"code": 3}, {"missing": "few_shot-synthetic-zero-test"}])
def test_a_broken_run_is_no_regression(suite, monkeypatch, capsys, broken):
    assert regress("--out", "out") == 0
    for name, value in broken.items():
        monkeypatch.setattr(FakeLauncher, name, value)
    assert regress("--out", "out") == 2
    assert "stages failed; their logs are in out/runs/logs" in capsys.readouterr().err
    assert not list(Path("out").glob("regression.*")), "a report of an earlier run"


def test_bands_of_another_suite_are_a_broken_run(suite, capsys):
    text = Path("suite.yaml").read_text()
    suite.write_text(text.replace("- 2\n", "- 4\n"))
    assert regress() == 2
    assert "do not fit what was run" in capsys.readouterr().err
    Path("bands.json").unlink()
    assert regress() == 2
    assert "make it with --update" in capsys.readouterr().err


@pytest.fixture
def mutant(monkeypatch):
    """Puts a defect into the stages that are run."""

    def put(name):
        program = (sys.executable, "-m", "tests.cli.mutants", name)
        monkeypatch.setattr("vlbench.protocols.launchers.LocalLauncher", partial(LocalLauncher, program=program))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))

    return put


@pytest.mark.slow
def test_a_defect_shows_without_training(workplace, mutant):
    """The same as below in seconds."""
    read = yaml.safe_load((ROOT / "configs" / "suite" / "regression.yaml").read_text())
    read["methods"] = {"zero_shot": read["methods"]["zero_shot"]}
    Path("suite.yaml").write_text(yaml.safe_dump(read))
    assert regress("--update", "--seeds", "0") == 0
    for name, code in (("none", 0), ("text_not_normalised", 1)):
        mutant(name)
        assert regress("--out", name) == code, name


def test_the_workflow_compares_what_there_is():
    workflow = yaml.safe_load((ROOT / "docs" / "workflows" / "regression.yml").read_text())
    lines = [step.get("run", "") for step in workflow["jobs"]["regression"]["steps"]]
    (line,) = (line for line in lines if line.startswith("vlbench regress"))
    options = COMMANDS["regress"].parser().parse_args(line.split()[2:])
    assert find_config(options.suite, below="suite").is_file()
    assert Expectation.read(ROOT / options.expected).suite == options.suite
    reports = {word for step in lines for word in step.split() if word.startswith(f"{options.out}/")}
    assert reports == {"regression/regression.md"}


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CAUGHT_BY)
def test_defects_show(workplace, mutant, capsys, name):
    mutant(name)
    expected = ROOT / "benchmarks" / "expected" / "regression.json"
    code = main(["regress", "--suite", "regression.yaml", "--expected", str(expected), "--out", "out"])
    if code == 2:  # a defect may make a training diverge, whose scores are no numbers: the command names the stage
        assert CAUGHT_BY[name]
        assert "stages failed; their logs are in" in capsys.readouterr().err
        return
    checks = json.loads(Path("out/regression.json").read_text())["checks"]
    failed = {(check["evaluation"], check["metric"]) for check in checks if not check["passed"]}
    assert CAUGHT_BY[name] <= failed
    assert code == bool(CAUGHT_BY[name])
    assert bool(failed) == bool(CAUGHT_BY[name])
