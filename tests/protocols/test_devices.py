"""Which GPUs a stage gets, on a machine that only pretends to have some."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocols.conftest import STAND_IN
from tests.protocols.test_launchers import overlapping
from vlbench.cli.main import main
from vlbench.protocols import devices
from vlbench.protocols.devices import shares, visible_devices
from vlbench.protocols.launchers import LocalLauncher


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr(devices, "count_devices", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("variable", "seen"),
    [
        (None, tuple("01234567")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("3", ("3",)),
        ("4, 2,0", ("4", "2", "0")),
        ("1,-1,2", ("1",)),
        ("7,8,0", ("7",)),
        ("GPU-8932f937,GPU-46e0ff", ("GPU-8932f937", "GPU-46e0ff")),
        ("MIG-1f2e", ("MIG-1f2e",)),
    ],
)
def test_what_is_visible_already_is_respected(eight, variable, seen):
    assert visible_devices({} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}) == seen


@pytest.mark.quick
@given(st.integers(0, 16), st.integers(1, 20))
def test_shares_are_equal_and_apart_while_there_are_enough(count, jobs):
    gpus = tuple(map(str, range(count)))
    parts = shares(gpus, jobs)
    assert len(parts) == jobs
    assert len(set(map(len, parts))) == 1
    assert not gpus or all(parts)
    if jobs <= count:
        given_out = [gpu for part in parts for gpu in part]
        assert len(given_out) == len(set(given_out)) > count - jobs
    elif gpus:
        assert {gpu for part in parts for gpu in part} == set(gpus)


@pytest.mark.parametrize(("jobs", "each"), [(8, 1), (2, 4)])
def test_every_stage_at_once_has_gpus_of_its_own(lab, eight, jobs, each):
    for name in ("one", "two"):
        lab.behave(name, note_environment=["CUDA_VISIBLE_DEVICES"], sleep=0.5)
    assert lab.runner(shots=(2, 4, 8, 16), jobs=jobs).run() == []
    assert overlapping(lab.noted) > 1
    shown = {line.partition("=")[2] for line in lab.noted if line.startswith("CUDA_VISIBLE_DEVICES=")}
    assert len(shown) > 1
    gpus = [gpu for part in shown for gpu in part.split(",")]
    assert len(gpus) == len(set(gpus)) == each * len(shown)


@pytest.mark.parametrize(("drivers", "variable"), [(0, "HIP_VISIBLE_DEVICES"), (8, "CUDA_VISIBLE_DEVICES")])
def test_rocms_own_variable_is_shared_out_where_there_is_no_other_driver(lab, monkeypatch, drivers, variable):
    monkeypatch.setattr(devices, "count_devices", lambda: drivers)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    expected = {"HIP_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "4,5"}
    expected[variable] = expected[variable][0]  # the first of two stages at once
    lab.behave("one", environment=expected)
    assert lab.runner(["one"], jobs=2).run() == []


def test_one_stage_at_a_time_sees_what_the_runner_sees(lab, eight, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a")
    lab.behave("one", environment={"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a"})
    assert lab.runner(["one"]).run() == []


def test_a_server_that_died_is_replaced_by_one_on_the_same_gpus(lab, eight):
    launcher = LocalLauncher(2, STAND_IN)
    lab.behave("one", note_environment=["CUDA_VISIBLE_DEVICES"], kill_server=True)
    lab.runner(["one"], shots=(2, 4, 8), jobs=2, launcher=launcher).run()
    shown = [line for line in lab.noted if line.startswith("CUDA_VISIBLE_DEVICES=")]
    assert len(shown) == 3
    assert set(shown) <= {"CUDA_VISIBLE_DEVICES=0,1,2,3", "CUDA_VISIBLE_DEVICES=4,5,6,7"}


def test_a_dry_run_says_which_gpus_a_stage_gets(eight, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["run", "--suite", "smoke.yaml", "--out", out, "--jobs", "4", "--dry_run"]) == 0
    assert "stage 2 of 4 at once: GPU 2, 3" in capsys.readouterr().out
    assert main(["run", "--suite", "smoke.yaml", "--out", out, "--dry_run"]) == 0
    assert "stage 1 of 1 at once: GPU 0, 1, 2, 3, 4, 5, 6, 7" in capsys.readouterr().out


@pytest.mark.quick
def test_counting_imports_no_torch():
    code = "import sys, vlbench.protocols.devices as d; d.count_devices(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
