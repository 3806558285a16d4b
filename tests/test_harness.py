"""What the suite says of a process that dies, and how equal it takes two tensors to be."""

import ctypes
import os
import subprocess
import sys
import time

import pytest
import torch

from tests.fakes import write_video
from tests.outliving import outlive
from tests.processes import HEAP_CHECKS, run_apart
from tests.tolerance import assert_same_bits, assert_same_but_rounding


def abort():
    print("the last words", flush=True)
    os.abort()


def write_beyond(bytes_beyond):
    tensor = torch.empty(1000, dtype=torch.uint8)
    ctypes.memset(tensor.data_ptr(), 1, len(tensor) + bytes_beyond)
    del tensor


def test_an_aborted_process_is_a_failure_with_its_last_words():
    with pytest.raises(pytest.fail.Exception, match=r"abort\(\) died of SIGABRT[\s\S]*the last words"):
        run_apart(abort, timeout=60)


def test_memory_written_beyond_its_end_is_a_failure():
    run_apart(write_beyond, 0, timeout=60, environment=HEAP_CHECKS)
    with pytest.raises(pytest.fail.Exception, match=r"write_beyond\(1\) died of SIGABRT"):
        run_apart(write_beyond, 1, timeout=60, environment=HEAP_CHECKS)


def test_a_process_that_does_not_end_is_killed_with_its_children(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="did not end within 6 s"):
        run_apart(outlive, str(tmp_path / "child"), timeout=6)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_run_whose_worker_dies_ends_and_names_what_was_lost(tmp_path):
    (tmp_path / "test_dies.py").write_text(
        "import os\ndef test_a(): pass\ndef test_b(): os.abort()\ndef test_c(): pass"
    )
    others = "import pytest, time\n@pytest.mark.parametrize('k', range(600))\ndef test_d(k): time.sleep(1)"
    (tmp_path / "test_others.py").write_text(others)
    (tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-n", "2", "--dist", "loadfile", str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    ended = subprocess.run(
        command, env={**environment, "PYTHONPATH": os.getcwd()}, cwd=tmp_path,  # noqa: PTH109
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == pytest.ExitCode.INTERRUPTED, ended.stdout + ended.stderr
    assert "FAILED test_dies.py::test_b" in ended.stdout
    assert "the process that ran test_dies.py::test_b died" in ended.stdout
    assert "test_dies.py (1)" in ended.stdout


def test_rounding_is_measured_by_the_largest_element():
    expected = torch.tensor([1e4, 1e-3])
    assert_same_but_rounding(expected + torch.tensor([0.05, 0.05]), expected)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_but_rounding(expected + torch.tensor([0.0, 0.2]), expected)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_but_rounding(expected.double() + 1e-8, expected.double())
    with pytest.raises(AssertionError, match="dtype"):
        assert_same_but_rounding(expected.double(), expected)


def test_same_bits_are_no_rounding():
    expected = torch.ones(3)
    assert_same_bits(expected.clone(), expected)
    with pytest.raises(AssertionError, match="not equal"):
        assert_same_bits(torch.nextafter(expected, 2 * expected), expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's threads can become real-time ones")
def test_encoding_a_video_makes_no_real_time_process(tmp_path):
    before = os.sched_getscheduler(0)
    write_video(tmp_path / "a.mkv", 4, codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"})
    assert os.sched_getscheduler(0) == before == os.SCHED_OTHER
