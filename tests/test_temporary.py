"""Temporary folders, with processes that are killed, that live on and that come at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vlbench.temporary import temporary_folder

HOLDER = """
import signal, sys
from vlbench.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "weights").write_text("large")
    print(folder, flush=True)
    sys.stdin.read()
"""
FORKED = """
import os, sys
from vlbench.temporary import temporary_folder
with temporary_folder() as folder:
    if not os.fork():  # as a data worker
        sys.stdin.read()
        os._exit(0)
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""
MANY = """
from vlbench.temporary import temporary_folder
for _ in range(50):
    with temporary_folder() as folder:
        (folder / "file").write_text("mine")
        assert (folder / "file").read_text() == "mine"
    assert not folder.exists()
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def start(program: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("")


def test_a_folder_goes_with_its_block(base: Path) -> None:
    with temporary_folder() as folder:
        assert folder.is_relative_to(base)
        (folder / "file").touch()
    assert not folder.exists()


def test_the_next_command_removes_what_a_killed_one_left() -> None:
    process, left = start(HOLDER)
    alive, kept = start(HOLDER)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / "weights").exists()
    with temporary_folder() as folder:
        assert not left.exists()
        assert (kept / "weights").exists()
        assert folder.exists()
    end(alive)
    assert not kept.exists()


def test_a_forked_process_keeps_the_folder() -> None:
    process, folder = start(FORKED)
    process.wait()
    with temporary_folder():
        assert folder.exists()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.read()  # ends with the last process that has it
    with temporary_folder():
        assert not folder.exists()
    process.stdout.close()


def test_many_commands_at_once_remove_no_folder_in_use() -> None:
    processes = [subprocess.Popen([sys.executable, "-c", MANY]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4


@pytest.mark.parametrize("attack", ["file", "link", "open"])
def test_a_folder_that_is_not_this_users_alone_is_not_used(attack: str, base: Path) -> None:
    with temporary_folder() as folder:
        place = folder.parent
    place.rmdir()
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    if attack == "file":
        place.touch()
    elif attack == "link":
        place.symlink_to(elsewhere)
    else:
        place.mkdir()
        place.chmod(0o777)
        (place / "another").mkdir()
    with temporary_folder() as folder:
        assert folder.parent == base
        (folder / "file").touch()
    assert not folder.exists()
    assert not list(elsewhere.iterdir())
    assert attack != "open" or (place / "another").exists()


def test_a_cache_that_cannot_be_kept_goes_with_the_process(base: Path) -> None:
    program = "from vlbench.files import cache_folder; print(cache_folder(), cache_folder().is_dir())"
    blocked = base / "file"
    blocked.touch()
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "XDG_CACHE_HOME": str(blocked)},
        capture_output=True,
        text=True,
        check=True,
    )
    folder, was_there = said.stdout.split()
    assert was_there == "True"
    assert Path(folder).is_relative_to(base)
    assert not Path(folder).exists()
