"""The runner, with a stand-in for `vlbench` that takes no time."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from rich.console import Console

from vlbench.errors import ConfigError
from vlbench.protocols.plans import MethodConfig, ProtocolConfig, Suite, plan
from vlbench.protocols.runner import Runner
from vlbench.results.record import Record

# Behaves as its method's configuration says, and leaves what `vlbench` would leave.
STAND_IN = """
import json, os, sys, time
from pathlib import Path
import yaml
from tests.results.test_record import record
action = sys.argv[1]
configs = [yaml.safe_load(Path(p).read_text()) for o, p in zip(sys.argv[2::2], sys.argv[3::2]) if o == "--config"]
behaviour, overlay = configs[0], configs[-1]
with open(behaviour["calls"], "a") as calls:
    calls.write(f"{action}\\n")
time.sleep(behaviour.get("sleep", 0))
if behaviour.get("fail") == action:
    print("some progress\\nout of luck")
    sys.exit(3)
if action == "fit":
    folder = Path(overlay["checkpoint"]["dirpath"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "last.ckpt").write_text("weights")
else:
    assert "ckpt_path" not in overlay or Path(overlay["ckpt_path"]).is_file()
    made = record(stage=overlay["record"]["stage"])
    made.write(Path(overlay["record"]["folder"]) / "records", overlay["record"]["name"])
"""


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "calls").write_text("")
    for name in ("data.yaml", "cpu.yaml"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def behave(lab, name, **behaviour):
    (lab / f"{name}.yaml").write_text(json.dumps({"calls": str(lab / "calls"), **behaviour}))


def runner(lab, methods=("one", "two"), shots=(2,)):
    suite = Suite(
        {name: MethodConfig([f"{name}.yaml"]) for name in methods},
        [ProtocolConfig("few_shot@1", ["data.yaml"], list(shots))],
        ["cpu.yaml"],
    )
    console = Console(file=(lab / "console").open("a"), width=200)
    program = (sys.executable, str(lab / "stand_in.py"))
    return Runner(plan(suite), lab / "out", lambda name: lab / name, console, program=program)


def calls(lab):
    return (lab / "calls").read_text().split()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_runs_everything_once_and_then_nothing(lab):
    behave(lab, "one")
    behave(lab, "two")
    assert runner(lab).run() == []
    assert calls(lab) == ["fit", "test"] * 2
    assert runner(lab).run() == []
    assert len(calls(lab)) == 4
    assert all(line.startswith("done") for line in runner(lab).describe())


def test_a_failure_costs_its_own_stages_only_and_is_tried_again(lab):
    behave(lab, "one", fail="fit")
    behave(lab, "two")
    failed = [stage.name for stage in runner(lab).run()]
    assert failed == ["few_shot-data-one-2shot-seed0-fit", "few_shot-data-one-2shot-seed0-test"]
    text = (lab / "console").read_text()
    assert "exit code 3" in text
    assert "out of luck" in text
    assert calls(lab) == ["fit", "fit", "test"]
    behave(lab, "one")
    assert runner(lab).run() == []
    assert calls(lab)[3:] == ["fit", "test"]


def test_a_changed_configuration_runs_again(lab):
    behave(lab, "one")
    runner(lab, ["one"]).run()
    behave(lab, "one", note="another learning rate")
    assert [line.split()[0] for line in runner(lab, ["one"]).describe()] == ["to", "to"]
    runner(lab, ["one"]).run()
    assert calls(lab) == ["fit", "test"] * 2


def test_a_damaged_record_or_a_lost_checkpoint_runs_again(lab):
    behave(lab, "one")
    runner(lab, ["one"]).run()
    (record,) = (lab / "out" / "records").iterdir()
    record.write_text("{")
    runner(lab, ["one"]).run()
    assert calls(lab) == ["fit", "test", "test"]
    Record.read(record)
    (lab / "out" / "checkpoints" / "few_shot-data-one-2shot-seed0-fit" / "last.ckpt").unlink()
    runner(lab, ["one"]).run()
    assert calls(lab)[3:] == ["fit"]


def test_what_a_killed_process_was_writing_is_removed(lab):
    behave(lab, "one")
    runner(lab, ["one"]).run()
    stray = lab / "out" / "records" / ".some-record.json.x1y2z3"
    stray.write_text("half a rec")
    runner(lab, ["one"]).run()
    assert not stray.exists()
    assert len(calls(lab)) == 2


def test_a_dry_run_shows_commands_and_starts_none(lab):
    behave(lab, "one")
    lines = runner(lab, ["one"]).describe()
    assert [line.split()[:4] for line in lines] == [["to", "do", "vlbench", "fit"], ["to", "do", "vlbench", "test"]]
    assert calls(lab) == []
    assert not (lab / "out").exists()


def test_given_weights_reach_the_command_and_the_digest(lab):
    behave(lab, "one")
    weights = lab / "mote.ckpt"
    weights.write_bytes(b"one")
    released = MethodConfig(["one.yaml"], trains=False, checkpoint=str(weights))
    stages = plan(Suite({"one": released}, [ProtocolConfig("few_shot@1", ["data.yaml"])]))

    def again():
        program = (sys.executable, str(lab / "stand_in.py"))
        return Runner(stages, lab / "out", lambda name: lab / name, Console(file=(lab / "console").open("a")), program)

    assert again().command(stages[0])[-2:] == ["--ckpt_path", str(weights)]
    assert again().run() == []
    assert again().done(stages[0])
    weights.write_bytes(b"another one")
    assert not again().done(stages[0])
    weights.unlink()
    with pytest.raises(ConfigError, match=r"cannot read the checkpoint .*mote.ckpt: No such file"):
        again()


KILLED = """
import sys
from pathlib import Path
from tests.protocols.test_runner import runner
runner(Path(sys.argv[1]), shots=(2, 4, 8)).run()
"""


@pytest.mark.parametrize("moment", [0.1, 0.6, 1.1, 1.7, 2.4])
def test_killed_at_any_moment_it_goes_on_where_it_was(lab, moment):
    behave(lab, "one", sleep=0.05)
    behave(lab, "two", sleep=0.05)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(lab)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (lab / "out" / ".lock").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(moment)
    process.kill()
    process.wait()
    assert runner(lab, shots=(2, 4, 8)).run() == []
    records = sorted(path.name for path in (lab / "out" / "records").iterdir())
    assert records == sorted(f"few_shot-data-{m}-{k}shot-seed0-test.json" for m in ("one", "two") for k in (2, 4, 8))


def test_the_stage_dies_with_the_runner(lab):
    behave(lab, "one", sleep=60)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(lab)], stderr=subprocess.DEVNULL)
    behave(lab, "two")
    deadline = time.monotonic() + 60
    while not calls(lab) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_two_runners_do_not_share_a_folder(lab):
    behave(lab, "one")
    first, second = runner(lab, ["one"]), runner(lab, ["one"])
    with first._locked(), pytest.raises(ConfigError, match="another `vlbench run`"):
        second.run()
