"""Processes that make a bank together: each its own files, and what one of them meets reaches the command."""

import multiprocessing
import os
from types import SimpleNamespace

import pytest

from vlbench.bank import share
from vlbench.bank.share import Share, devices, write_together
from vlbench.errors import ConfigError, VlbenchError

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Processes that are forked from this one, which is quicker than importing torch in each."""
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(share.multiprocessing, "get_context", lambda _: forking)


def shares(count, make=None, folder=None):
    return [Share(make, {}, folder, "cpu", rank, count) for rank in range(count)]


def worked(monkeypatch, work, count=3):
    """What the command is told of processes that do something, and the error that it ends with."""
    told = []
    monkeypatch.setattr(share, "_work", work)
    with pytest.raises(VlbenchError) as error:
        write_together(shares(count), told.append)
    return told, error.value


def test_a_process_that_dies_is_named_once_the_others_are_done(monkeypatch):
    def work(part, connection, parent):
        connection.send(part.rank)
        if part.rank == 1:
            os._exit(3)
        connection.send(10)

    told, error = worked(monkeypatch, work)
    assert sorted(told) == [0, 1, 2, 10, 10]
    assert str(error).startswith("1 of 3 encoding processes died with exit code 3; the same command goes on")


def test_the_error_of_a_process_is_that_of_the_command(monkeypatch):
    def work(part, connection, parent):
        if part.rank == 2:
            connection.send(ConfigError("the lists differ"))

    _, error = worked(monkeypatch, work)
    assert (type(error), str(error)) == (ConfigError, "the lists differ")


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [(ConfigError("no videos"), ConfigError, "no videos"), (KeyError("a"), VlbenchError, "KeyError: 'a'")],
)
def test_what_an_encoder_raises_is_sent(raised, kind, said):
    def make(arguments, device):
        raise raised

    with pytest.raises(kind) as error:
        write_together(shares(2, make), lambda _: None)
    assert str(error.value) == said


@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
def test_every_missing_file_is_made_by_one_process(tmp_path, count):
    """Those that are there are nobody's, and no process takes those of another one."""
    pieces = [f"piece{number}" for number in range(8)]

    def write(folder, missing, progress):
        for name in missing:
            with (folder / name).open("x") as file:
                file.write(str(os.getpid()))
        progress(len(missing))

    def make(arguments, device):
        return SimpleNamespace(pieces=lambda: pieces, missing=lambda _: [*pieces[1:4], *pieces[5:]], write=write)

    told = []
    write_together(shares(count, make, tmp_path), told.append)
    assert sum(told) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [*pieces[1:4], *pieces[5:]]
    makers = {pieces.index(path.name) % count: path.read_text() for path in tmp_path.iterdir()}
    assert all(path.read_text() == makers[pieces.index(path.name) % count] for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("gpus", "expected"), [(0, ["cpu"] * 3), (1, ["cuda:0"] * 3), (2, ["cuda:0", "cuda:1", "cuda:0"])]
)
def test_gpus_are_taken_in_turn(monkeypatch, gpus, expected):
    monkeypatch.setattr(share.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(share.torch.cuda, "device_count", lambda: gpus)
    assert devices(3) == expected
