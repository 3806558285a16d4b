"""A record and its scores, which belong together, also beside a writer."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.results.fakes import record, store
from vlbench.cli import results
from vlbench.errors import DataError
from vlbench.results.pairs import digest_of, predictions_path, read_pair, read_records, write_pair
from vlbench.results.record import Record
from vlbench.results.stored import StoredEvaluation, find_record
from vlbench.results.verify import verify


@pytest.fixture
def pair(tmp_path):
    return store(tmp_path, "run", np.eye(4), range(4))


def readers(folder):
    """Every command that reads records with their scores."""
    return {
        "leaderboard": lambda: results.print_leaderboard([folder]),
        "report": lambda: results.report("run", folder),
        "compare": lambda: results.compare("run", "run", folder),
        "rescore": lambda: results.rescore("run", half=True, folder=folder),
    }


@pytest.mark.quick
def test_a_record_holds_the_digest_of_its_scores(pair):
    assert Record.read(pair).predictions == digest_of(predictions_path(pair))[0]


@pytest.mark.quick
@pytest.mark.parametrize("command", ["leaderboard", "report", "compare", "rescore"])
@pytest.mark.parametrize("scores", ["another run's", "damaged"])
def test_scores_that_are_not_the_records_are_refused(tmp_path, tmp_path_factory, pair, command, scores):
    other = store(tmp_path_factory.mktemp("other"), "run", np.eye(4)[[0, 1, 2, 0]], range(4))
    content = predictions_path(other).read_bytes() if scores == "another run's" else b"damaged"
    predictions_path(pair).write_bytes(content)
    with pytest.raises(DataError, match=r"run\.json: predictions is .* not of one run"):
        readers(tmp_path)[command]()


@pytest.mark.quick
@pytest.mark.parametrize("command", ["leaderboard", "report", "compare", "rescore"])
def test_a_record_that_does_not_say_which_scores_are_its_own_is_refused(tmp_path, pair, command):
    pair.write_text(pair.read_text().replace(Record.read(pair).predictions, "").replace('"predictions": ""', '"x": 1'))
    pair.write_text(pair.read_text().replace('"x": 1', '"predictions": null'))
    with pytest.raises(DataError, match="predictions is null"):
        readers(tmp_path)[command]()


@pytest.mark.quick
@pytest.mark.parametrize("command", ["report", "compare", "rescore"])
def test_metrics_that_do_not_follow_from_the_scores_are_refused(tmp_path, pair, command):
    text = pair.read_text()
    pair.write_text(text.replace('"top1": 100.0', '"top1": 99.0'))
    assert pair.read_text() != text
    with pytest.raises(DataError, match=r"metrics\.top1 is 99\.0, it was 100\.0"):
        readers(tmp_path)[command]()


@pytest.mark.quick
def test_scores_may_be_missing_from_a_leaderboard_and_from_nothing_else(tmp_path, pair):
    predictions_path(pair).unlink()
    commands = readers(tmp_path)
    assert commands.pop("leaderboard")() == 0
    for command in commands.values():
        with pytest.raises(DataError, match=r"its scores .*run\.safetensors cannot be read: No such file"):
            command()


@pytest.mark.quick
def test_hidden_files_are_no_records(tmp_path, pair):
    (pair.parent / ".run.abc.json").write_text("half a rec")
    (pair.parent / ".other.json").write_text(pair.read_text())
    assert len(list(read_records([tmp_path]))) == 1
    assert find_record("run", tmp_path) == pair
    with pytest.raises(DataError, match=r"no record '\.other'"):
        find_record(".other", tmp_path)
    assert verify([tmp_path]).records == 1


@pytest.mark.quick
def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(DataError, match=r"metrics\.top1 is nan"):
        write_pair(record(float("nan")), lambda path: path.write_bytes(b"scores"), tmp_path, "run")
    assert not list(tmp_path.rglob("*.*"))


def test_nothing_waits_for_the_disk_between_the_two_files(tmp_path, monkeypatch):
    happened = []

    def noted(name, function):
        def call(first, *others):
            happened.append(
                (name, Path(f"/proc/self/fd/{first}").readlink().suffix if name == "sync" else first.suffix)
            )
            return function(first, *others)

        return call

    monkeypatch.setattr(os, "fsync", noted("sync", os.fsync))
    monkeypatch.setattr(Path, "replace", noted("replace", Path.replace))
    store(tmp_path, "run", np.eye(4)[:3], range(3))
    scores = happened.index(("replace", ".safetensors"))
    assert happened[:scores].count(("sync", ".json")) == 1
    assert happened[scores + 1 :] == [("replace", ".json")]


WRITER = """
import sys
from pathlib import Path
import numpy as np
from tests.results.fakes import store

folder = Path(sys.argv[1])
print("ready", flush=True)
for turn in range(10**9):
    store(folder, "run", np.eye(4)[[0, 1, 2, turn % 4]], range(4), seconds=float(turn))
"""


def test_readers_survive_a_writer_beside_them(tmp_path, pair):
    """One process replaces the record and its scores as fast as it can; every one of 400 readings is whole."""
    checkout = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout.readline() == "ready\n"
            seen = set()
            for _ in range(100):
                (read,) = read_records([tmp_path])
                assert verify([tmp_path]).findings == ()
                stored = StoredEvaluation.load("run", tmp_path)
                seen |= {read.predictions, stored.record.predictions, read_pair(pair, digest_of)[0].predictions}
            deadline = time.monotonic() + 60
            while len(seen) <= 2 and time.monotonic() < deadline:
                time.sleep(0.001)  # on one core the writer needs it
                seen.add(read_pair(pair, digest_of)[0].predictions)
            assert len(seen) > 2, "the writer wrote nothing"
            assert writer.poll() is None
        except DataError as error:
            names = sorted(path.name for path in tmp_path.rglob("*.*"))
            error.add_note(f"exit code of the writer: {writer.poll()}; files: {names}")
            raise
        finally:
            writer.kill()
