"""Executes a plan, each stage in a process of its own, and survives being killed."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vlbench.errors import ConfigError, DataError
from vlbench.files import write_atomically
from vlbench.protocols.stages import Stage, checkpoint_folder
from vlbench.results.record import Record

_TAIL = 15  # lines of a failed stage's log that are shown


class Runner:
    """Runs stages in order, skips what is done, goes on after a failure.

    Args:
        stages: the plan.
        out: results folder: `records`, `predictions`, `checkpoints`, `stages` (their configurations and what is done)
            and `logs` lie below it.
        find: turns a configuration's name into its file.
        console: where progress goes.
        program: what a stage's command is given to.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        out: Path,
        find: Callable[[str], Path],
        console: Console | None = None,
        program: Sequence[str] = (sys.executable, "-m", "vlbench"),
    ) -> None:
        self.stages = stages
        self.out = out
        self.console = console or Console()
        self.program = program
        self.paths = {name: find(name) for stage in stages for name in stage.configs}
        contents = {name: path.read_bytes() for name, path in self.paths.items()}
        contents |= {stage.checkpoint: _file_digest(stage.checkpoint) for stage in stages if stage.checkpoint}
        self.digests = _digests(stages, contents)

    def done(self, stage: Stage) -> bool:
        """Whether this very stage was finished: a stage whose configuration has changed since is not."""
        digest = self.digests[stage.name]
        try:
            if stage.action == "test":
                record = Record.read(self.out / "records" / f"{stage.name}.json")
                return bool(record.details["stage"] == digest)
            mark = json.loads(self._mark(stage).read_text())
            return bool(mark["digest"] == digest) and (checkpoint_folder(self.out, stage.name) / "last.ckpt").is_file()
        except (OSError, ValueError, KeyError, DataError):
            return False

    def command(self, stage: Stage) -> list[str]:
        """What `vlbench` is called with."""
        configs = [str(path) for path in (*(self.paths[name] for name in stage.configs), self._overlay(stage))]
        weights = ["--ckpt_path", str(Path(stage.checkpoint).absolute())] if stage.checkpoint else []
        return [stage.action, *(argument for config in configs for argument in ("--config", config)), *weights]

    def describe(self) -> list[str]:
        """One line a stage: whether it is done, and its command."""
        return [
            f"{'done' if self.done(stage) else 'to do':5}  vlbench {shlex.join(self.command(stage))}"
            for stage in self.stages
        ]

    def run(self) -> list[Stage]:
        """Runs what is not done.

        Returns:
            The stages that failed, or could not run because the one they need failed.

        Raises:
            ConfigError: if another runner works in the same folder.
        """
        failed: dict[str, Stage] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with self._locked(), Progress(*columns, console=self.console) as progress:
            self._sweep()
            task = progress.add_task("", total=len(self.stages))
            for stage in self.stages:
                progress.update(task, description=stage.name)
                if stage.weights_from in failed:
                    failed[stage.name] = stage
                    self._say(f"[red]left out[/] {stage.name}: {stage.weights_from} failed")
                elif self.done(stage):
                    self._say(f"[dim]recorded  {stage.name}[/]")
                elif not self._execute(stage):
                    failed[stage.name] = stage
                progress.advance(task)
            progress.update(task, description="finished")
        return list(failed.values())

    def _execute(self, stage: Stage) -> bool:
        overlay = stage.overlay(self.out.absolute(), self.digests[stage.name])
        write_atomically(self._overlay(stage), yaml.safe_dump(overlay, sort_keys=False).encode())
        log = self.out / "logs" / f"{stage.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*self.program, *self.command(stage)],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent,
            )  # fmt: skip
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        seconds = time.monotonic() - started
        if code == 0 and stage.action == "fit":
            write_atomically(self._mark(stage), json.dumps({"digest": self.digests[stage.name]}).encode())
        if code == 0 and self.done(stage):
            self._say(f"[green]ran[/]       {stage.name} in {seconds:.0f} s")
            return True
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
        self._say(f"[red]failed[/]    {stage.name} with exit code {code} after {seconds:.0f} s; the end of {log}:")
        self.console.print(tail, markup=False, highlight=False)
        return False

    def _sweep(self) -> None:
        """Removes what a killed process was writing: files under their temporary, hidden names."""
        for folder in ("records", "predictions", "stages"):
            for path in (self.out / folder).glob(".*"):
                path.unlink()

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _overlay(self, stage: Stage) -> Path:
        return self.out.absolute() / "stages" / f"{stage.name}.yaml"

    def _mark(self, stage: Stage) -> Path:
        return self.out / "stages" / f"{stage.name}.done"

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
            yield


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
        needed = digests[stage.weights_from] if stage.weights_from else None
        digests[stage.name] = stage.digest(contents, needed)
    return digests


def _die_with_parent() -> None:
    """In the child: the kernel ends it when the runner dies, even by SIGKILL, so that no stage runs twice at once."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)
