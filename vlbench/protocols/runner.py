"""Executes a plan, each stage in a process of its own, and survives being killed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vlbench.errors import ConfigError, DataError, VlbenchError
from vlbench.files import TEMPORARY, write_atomically
from vlbench.protocols.failures import diagnose
from vlbench.protocols.launchers import Job, Launcher, LocalLauncher
from vlbench.protocols.stages import Stage, checkpoint_folder
from vlbench.ranges import JOBS
from vlbench.results.curves import curves_page, curves_section
from vlbench.results.pairs import digest_of, read_pair
from vlbench.yaml_files import read_yaml

_TAIL = 15  # lines of a failed stage's log that are shown


@dataclass
class _Running:
    stage: Stage
    job: Job
    started: float


class Runner:
    """Runs stages, each after the one whose weights it needs, skips what is done, goes on after a failure.

    Args:
        stages: Stages of the plan, in order.
        out: Results folder: `records`, `predictions`, `checkpoints`, `stages` (their configurations and what is done)
            and `logs` lie below it.
        find: Turns a configuration's name into its file.
        console: Console that progress is printed on.
        launcher: Launcher that runs stages; this machine by default.
        jobs: Most stages at once.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        out: Path,
        find: Callable[[str], Path],
        console: Console | None = None,
        launcher: Launcher | None = None,
        jobs: int = 1,
    ) -> None:
        JOBS.check("jobs", jobs)
        self.stages = stages
        self.out = out
        self.console = console or Console()
        self.launcher = launcher or LocalLauncher(jobs)
        self.jobs = jobs
        self.paths = {name: find(name) for stage in stages for name in stage.configs}
        contents = {name: _settings(path) for name, path in self.paths.items()}
        contents |= {file: _file_digest(file) for file in {file for stage in stages for file in stage.files}}
        self.digests = _digests(stages, contents)
        self._curves: dict[str, str] = {}

    def done(self, stage: Stage) -> bool:
        """Whether this very stage was finished: a stage whose configuration has changed since is not."""
        digest = self.digests[stage.name]
        try:
            if not stage.leaves_weights:
                paths = [self.out / "records" / f"{name}.json" for name in stage.records]
                # Without its scores a record can be neither verified nor asked again.
                return all(read_pair(path, digest_of)[0].details.stage == digest for path in paths)
            mark = json.loads(self._mark(stage).read_text())
            folder = checkpoint_folder(self.out, stage.name)
            return bool(mark["digest"] == digest) and all((folder / name).is_file() for name in stage.checkpoints)
        except (OSError, ValueError, KeyError, DataError):
            return False

    def command(self, stage: Stage) -> list[str]:
        """What `vlbench` is called with."""
        if stage.action == "choose":
            folders = [checkpoint_folder(self.out.absolute(), name) for name in (*stage.candidates, stage.name)]
            *candidates, best = (str(folder / "last.ckpt") for folder in folders)
            return ["weights", "choose", *candidates, "--out", best]
        configs = [str(path) for path in (*(self.paths[name] for name in stage.configs), self._overlay(stage))]
        weights = ["--ckpt_path", str(Path(stage.checkpoint).absolute())] if stage.checkpoint else []
        resume = ["--resume", "auto"] if stage.action == "fit" else []
        return [stage.action, *(argument for config in configs for argument in ("--config", config)), *resume, *weights]

    def describe(self) -> list[str]:
        """One line a stage: whether it is done, and its command; then how many remain, and records of no stage."""
        done = [self.done(stage) for stage in self.stages]
        lines = [
            f"{'done' if finished else 'to do':5}  vlbench {shlex.join(self.command(stage))}"
            for stage, finished in zip(self.stages, done, strict=True)
        ]
        return [*lines, f"{sum(done)} of {len(done)} stages done, {len(done) - sum(done)} to do", *self._foreign()]

    def run(self) -> list[Stage]:
        """Runs what is not done.

        Returns:
            The stages that failed, or could not run because the one they need failed.

        Raises:
            ConfigError: If another runner works in the same folder, or this one was started several times, by torchrun.
        """
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise ConfigError(
                "`vlbench run` was started by torchrun; start it once, without: a stage starts as many processes as "
                "trainer.devices says"
            )
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with self._locked(), closing(self.launcher), Progress(*columns, console=self.console) as progress:
            self._sweep()
            failed = self._work(progress)
        for line in self._foreign():
            self._say(line)
        return [stage for stage in self.stages if stage.name in failed]

    def _work(self, progress: Progress) -> set[str]:
        """Runs stages until none is left; returns the names of those that failed."""
        failed: set[str] = set()
        waiting = []
        for stage in self.stages:
            if self.done(stage):
                self._say(f"[dim]recorded  {escape(stage.name)}[/]")
            else:
                waiting.append(stage)
        running: list[_Running] = []
        task = progress.add_task("", total=len(self.stages), completed=len(self.stages) - len(waiting))
        while waiting or running:
            for stage in [stage for stage in waiting if failed.intersection(stage.needs)]:
                missing = next(name for name in stage.needs if name in failed)
                self._say(f"[red]left out[/]  {escape(stage.name)}: {escape(missing)} failed")
                failed.add(stage.name)
                waiting.remove(stage)
                progress.advance(task)
            unfinished = {stage.name for stage in (*waiting, *(item.stage for item in running))}
            ready = [stage for stage in waiting if not unfinished.intersection(stage.needs)]
            for stage in ready[: self.jobs - len(running)]:
                waiting.remove(stage)
                running.append(_Running(stage, self._start(stage), time.monotonic()))
            progress.update(task, description=", ".join(item.stage.name for item in running))
            time.sleep(self.launcher.interval)
            for item in list(running):
                code = item.job.poll()
                if code is None:
                    continue
                running.remove(item)
                if not self._finish(item, code):
                    failed.add(item.stage.name)
                progress.advance(task)
        progress.update(task, description="finished")
        return failed

    def _start(self, stage: Stage) -> Job:
        if stage.action != "choose":
            overlay = stage.overlay(self.out.absolute(), self.digests[stage.name])
            write_atomically(self._overlay(stage), yaml.safe_dump(overlay, sort_keys=False).encode())
        log = self._log(stage)
        log.parent.mkdir(parents=True, exist_ok=True)
        return self.launcher.start(stage.name, self.digests[stage.name], self.command(stage), log)

    def _finish(self, item: _Running, code: int) -> bool:
        """Notes and reports how a stage ended; returns whether it is done."""
        stage, seconds = item.stage, time.monotonic() - item.started
        if stage.action == "fit":
            self._write_curves(stage)
        if code == 0 and stage.leaves_weights:
            write_atomically(self._mark(stage), json.dumps({"digest": self.digests[stage.name]}).encode())
        if code == 0 and self.done(stage):
            self._say(f"[green]ran[/]       {escape(stage.name)} in {seconds:.0f} s")
            return True
        log = self._log(stage)
        lines = _lines(log)
        tail = lines[-_TAIL:]
        name = escape(stage.name)
        self._say(
            f"[red]failed[/]    {name} with exit code {code} after {seconds:.0f} s; the end of {escape(str(log))}:"
        )
        self.console.print("\n".join(tail), markup=False, highlight=False)
        cause, help_ = diagnose(stage.action, code, lines)
        if cause is not None and not any(cause in line for line in tail):
            self.console.print(f"the first error in it: {cause}", markup=False, highlight=False, soft_wrap=True)
        if help_ is not None:
            self._say(f"[yellow]{help_}[/]")
        return False

    def _write_curves(self, ended: Stage) -> None:
        """Writes the page with the curves of every training that has begun; a page that cannot be written is said."""
        try:
            for stage in self.stages:
                # The log of another one is read once here, and again when that one ends.
                new = stage is ended or (stage.name not in self._curves and self._overlay(stage).is_file())
                if stage.action == "fit" and new:
                    self._curves[stage.name] = curves_section(stage.name, self.out / "runs" / stage.name)
            sections = [self._curves[stage.name] for stage in self.stages if stage.name in self._curves]
            write_atomically(self.out / "training.html", curves_page(sections).encode())
        except (OSError, VlbenchError) as error:
            self._say(f"[yellow]no training.html:[/] {escape(str(error))}")

    def _sweep(self) -> None:
        """Removes what a killed process was writing, and nothing that anybody else left there or a job is writing."""
        if any(self.out.glob("jobs/[!.]*.json")):
            return
        for folder in (".", "checkpoints/*", "records", "predictions", "stages", "jobs"):
            for path in self.out.glob(f"{folder}/{TEMPORARY}*"):
                if path.is_file():
                    path.unlink()

    def _foreign(self) -> list[str]:
        """What to say of records that no stage makes: the suite has changed, or another one used the folder."""
        planned = {name for stage in self.stages for name in stage.records}
        names = sorted(path.stem for path in (self.out / "records").glob("[!.]*.json") if path.stem not in planned)
        if not names:
            return []
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return [
            f"{len(names)} records are of no stage of this suite and stay in the leaderboard until deleted: {listed}"
        ]

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _overlay(self, stage: Stage) -> Path:
        return self.out.absolute() / "stages" / f"{stage.name}.yaml"

    def _mark(self, stage: Stage) -> Path:
        return self.out / "stages" / f"{stage.name}.done"

    def _log(self, stage: Stage) -> Path:
        return self.out / "logs" / f"{stage.name}.log"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps a second runner out of the folder; the lock goes with the process, however it ends."""
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another `vlbench run` works in {self.out}; wait for it or give another --out"
                ) from error
            except OSError as error:  # as on some file systems of clusters
                self._say(
                    f"[yellow]{escape(str(self.out))} cannot be locked ({error.strerror}): see to it that no other "
                    "`vlbench run` works there[/]"
                )
            yield


def _lines(log: Path) -> list[str]:
    """Lines of a log; none where somebody has removed it."""
    try:
        return log.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _settings(path: Path) -> bytes:
    """What a configuration says: another comment is not another configuration."""
    return json.dumps(read_yaml(path), sort_keys=True, default=str).encode()


def _file_digest(checkpoint: str) -> bytes:
    try:
        with Path(checkpoint).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    except OSError as error:
        raise ConfigError(
            f"cannot read the checkpoint {checkpoint}: {error.strerror}; paths in a suite start at the current folder"
        ) from error


def _digests(stages: Sequence[Stage], contents: Mapping[str, bytes]) -> dict[str, str]:
    digests: dict[str, str] = {}
    for stage in stages:
        digests[stage.name] = stage.digest(contents, [digests[name] for name in stage.needs])
    return digests
