"""SIGKILL at every operation that changes a file: readers see the old file or the new one."""

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tests.attacks.writes import in_child, killed, moments
from tests.processes import run_apart
from tests.protocols import stand_in
from tests.protocols.conftest import Lab
from tests.results.test_record import record
from vlbench.cli import results
from vlbench.cli.checkpoints import WholeCheckpointIO
from vlbench.errors import DataError
from vlbench.files import TEMPORARY
from vlbench.results import pairs
from vlbench.results.pairs import digest_of, read_pair, read_records, write_pair
from vlbench.results.record import Record


class RecordScenario:
    """A record with its scores, over those of an earlier test."""

    def prepare(self, folder):
        self._write(folder, 1.0)

    def run(self, folder):
        self._write(folder, 2.0)

    def _write(self, folder, top1):
        made = record()
        made = replace(made, metrics={**made.metrics, "top1": top1})
        write_pair(made, lambda path: path.write_bytes(b"%f" % top1 * 100_000), folder, "a")

    def check(self, folder):
        Record.read(folder / "records" / "a.json")
        try:
            made, _ = read_pair(folder / "records" / "a.json", digest_of)
        except DataError as error:
            said = str(error)
        else:
            return self._is_new(made)
        # Between the two renames the old record is beside the new scores, which its digest tells.
        assert "they are not of one run: run `vlbench test` again" in said
        assert (folder / "predictions" / "a.safetensors").read_bytes() == b"%f" % 2.0 * 100_000
        return False

    def _is_new(self, made):
        assert made.metrics["top1"] in (1.0, 2.0)
        return made.metrics["top1"] == 2.0


class CheckpointScenario:
    """The checkpoint of an epoch, over that of the epoch before."""

    def prepare(self, folder):
        self._save(folder, 1)

    def run(self, folder):
        self._save(folder, 2)

    def _save(self, folder, epoch):
        weights = {f"layer{n}": torch.full((300, 40), float(epoch)) for n in range(3)}
        WholeCheckpointIO().save_checkpoint({"epoch": epoch, "state_dict": weights}, folder / "last.ckpt")

    def check(self, folder):
        content = WholeCheckpointIO().load_checkpoint(folder / "last.ckpt")
        assert all(weights.eq(content["epoch"]).all() for weights in content["state_dict"].values())
        return content["epoch"] == 2


class LeaderboardScenario:
    """Two files of a leaderboard, over those of fewer records."""

    def prepare(self, folder):
        self.old = self._write(folder, "one")
        self.new = {**self.old}
        with tempfile.TemporaryDirectory() as other:
            shutil.copytree(folder, other, dirs_exist_ok=True)
            self.new = self._write(Path(other), "two")

    def run(self, folder):
        self._write(folder, "two")

    def _write(self, folder, method):
        made = record()
        replace(made, identity=replace(made.identity, method=method)).write(folder / "records", method)
        files = {form: folder / f"leaderboard.{form}" for form in ("csv", "html")}
        with contextlib.redirect_stdout(io.StringIO()):
            results.print_leaderboard([folder], **files, allow_dirty=True, allow_mixed=True)
        return {form: path.read_bytes() for form, path in files.items()}

    def check(self, folder):
        made = {form: (folder / f"leaderboard.{form}").read_bytes() for form in self.old}
        assert all(made[form] in (self.old[form], self.new[form]) for form in made)
        return made == self.new


class Immediately:
    """Runs the stand-in's stages in this process."""

    interval = 0.0

    def start(self, name, digest, arguments, log):
        with contextlib.redirect_stdout(io.StringIO()):
            self.code = stand_in.run(arguments)
        return self

    def poll(self):
        return self.code

    def close(self):
        pass


class RunnerScenario:
    """A suite of a training and a test: the runner's marks, the stages' checkpoints and records."""

    def prepare(self, folder):
        Lab(folder).behave("one")

    def run(self, folder):
        assert self._runner(folder).run() == []

    def _runner(self, folder):
        return Lab(folder).runner(["one"], launcher=Immediately())

    def check(self, folder):
        for path in folder.rglob("out/**/*"):
            if path.is_dir() or path.name.startswith(TEMPORARY):
                continue
            if path.suffix in (".json", ".ckpt", ".done"):
                assert json.loads(path.read_text())
            if path.suffix == ".yaml":
                assert yaml.safe_load(path.read_text())
        list(read_records([folder]))
        done, _, of, *_ = self._runner(folder).describe()[-1].split()
        return (done, of) == ("2", "2") if of.isdecimal() else done == "2"


SCENARIOS = {
    "record": RecordScenario,
    "checkpoint": CheckpointScenario,
    "leaderboard": LeaderboardScenario,
    "runner": RunnerScenario,
}


def attack(name, folder, cases=None):
    """Kills a scenario at every operation, or at some, in a process apart; returns how often it was killed.

    Args:
        name: Name of the scenario.
        folder: Folder to work in.
        cases: What picks some of all moments; all by default.
    """
    pairs._TRIES = 2  # no other process writes here
    scenario = SCENARIOS[name]()
    base = Path(folder) / "base"
    base.mkdir(parents=True)
    scenario.prepare(base)
    every = moments(scenario.run, _copy(base, "counted"))
    kills = 0
    for fatal, moment in cases(every) if cases else every:
        place = _copy(base, "killed")
        try:
            kills += killed(scenario.run, place, fatal, moment)
            scenario.check(place)
            assert in_child(scenario.run, place) == 0, "a new run fails"
            assert scenario.check(place), "a new run leaves the old file"
            if name == "runner":
                assert not list(place.rglob(f"{TEMPORARY}*")), "a new run leaves what the killed one was writing"
        except (AssertionError, DataError, ValueError, OSError, RuntimeError) as error:
            raise AssertionError(f"{name}, killed {moment} operation {fatal} of {len(every)}: {error!r}") from error
    return kills


def _copy(base, name):
    place = base.parent / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, place)
    return place


def attack_everywhere(name, folder):
    kills = attack(name, folder)
    assert kills > 15, kills
    Path(folder, "report").write_text(f"{name}: {kills} kills")


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_write_readers_see_the_old_file_or_the_new_one(name, tmp_path):
    run_apart(attack_everywhere, name, str(tmp_path / "lab"), timeout=200)
    print((tmp_path / "lab" / "report").read_text())


def attack_at_random(folder, seed, kills):
    draw = random.Random(seed)
    begun, done = time.monotonic(), dict.fromkeys(SCENARIOS, 0)
    while sum(done.values()) < kills:
        name = draw.choice(list(SCENARIOS))
        place = Path(folder) / f"{sum(done.values())}-{name}-{os.urandom(3).hex()}"
        done[name] += attack(name, place, lambda every: draw.sample(every, 10))
        shutil.rmtree(place)
    (Path(folder) / "report").write_text(f"{done}, {time.monotonic() - begun:.0f} s")


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_hundreds_of_random_kills_at_writes(tmp_path, capsys):
    seed = int(os.environ.get("VLBENCH_SOAK_SEED", random.SystemRandom().randrange(10**6)))
    with capsys.disabled():
        print(f"\nVLBENCH_SOAK_SEED={seed}")
    run_apart(attack_at_random, str(tmp_path), seed, 400, timeout=2900)
    with capsys.disabled():
        print((tmp_path / "report").read_text())
