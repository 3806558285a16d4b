"""Suites from their files, through the command line."""

import json
from pathlib import Path

import pytest
import torch

from tests.results.fakes import store
from vlbench.cli.configs import find_config
from vlbench.cli.main import main
from vlbench.errors import ConfigError
from vlbench.protocols.plans import plan
from vlbench.protocols.runner import Runner
from vlbench.protocols.suites import MethodConfig, Suite

pytestmark = pytest.mark.quick


def test_a_suite_is_read_with_its_defaults(tmp_path):
    method = {"configs": ["zero_shot.yaml"], "trains": False}
    datasets = ["data/ucf101.yaml", ["data/hmdb51.yaml", "views/10x3.yaml"]]
    protocol = {"protocol": "few_shot@1", "datasets": datasets, "methods": {"clip": method}}
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps({"protocols": [protocol]}))
    suite = Suite.read(path)
    (entry,) = suite.protocols
    assert (suite.methods, suite.overlays) == ({}, [])
    assert entry.methods == {"clip": MethodConfig(["zero_shot.yaml"], trains=False)}
    assert entry.datasets == datasets
    assert (entry.shots, entry.seeds, entry.selection) == (None, None, "last")


@pytest.mark.parametrize("wrong", [{"protocol": "few_shot@1"}, {"datasets": []}, {"selection": "best"}, {"shot": [2]}])
def test_a_suite_with_a_mistake_is_refused(tmp_path, wrong):
    entry = wrong if "protocol" in wrong else {"protocol": "few_shot@1", "datasets": [], **wrong}
    if "datasets" in wrong:
        del entry["protocol"]
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps({"protocols": [entry]}))
    with pytest.raises(ConfigError, match=r"own\.yaml is not a suite"):
        Suite.read(path)


def test_overlays_of_the_command_line_come_last(tmp_path, capsys):
    arguments = ["run", "--suite", "demo.yaml", "--out", str(tmp_path / "out"), "--dry_run"]
    assert main([*arguments, "--overlays", "trainer/ddp.yaml", "views/3x1.yaml"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    *_, steps, ddp, views, _stage = [word for word in line.split() if word.endswith(".yaml")]
    assert steps.endswith("demo/steps.yaml")
    assert ddp.endswith("trainer/ddp.yaml")
    assert views.endswith("views/3x1.yaml")
    assert not (tmp_path / "out").exists()


def test_no_jobs_are_too_few(tmp_path, capsys):
    assert main(["run", "--suite", "demo.yaml", "--out", str(tmp_path), "--jobs", "0"]) == 2
    assert "jobs is 0; allowed: 1 to 100,000" in capsys.readouterr().err


def test_a_run_ends_with_where_its_page_is(tmp_path, monkeypatch, capsys):
    """Also a second run, of which everything is recorded."""
    monkeypatch.chdir(tmp_path)
    suite = {
        "protocols": [{"protocol": "few_shot@1", "datasets": ["data/synthetic.yaml"]}],
        "methods": {"zero_shot": {"configs": ["zero_shot.yaml"], "trains": False}},
    }
    Path("suite.yaml").write_text(json.dumps(suite))
    (stage,) = plan(Suite.read(Path("suite.yaml")))
    runner = Runner([stage], Path("out"), find_config)
    store(Path("out"), stage.name, torch.eye(4), [0, 1, 2, 3], stage=runner.digests[stage.name])
    assert main(["run", "--suite", "suite.yaml", "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert "recorded" in said
    *_, last = said.splitlines()
    assert last == "The page is out/leaderboard.html, its tables are out/leaderboard.csv and out/leaderboard.md."
    assert all(Path(f"out/leaderboard.{suffix}").is_file() for suffix in ("html", "csv", "md"))
