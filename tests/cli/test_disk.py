"""Disks that are full, folders that are no folders: one sentence, nothing half-written, and before the work is done."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.test_trainer import OVERLAYS, command
from vlbench.cli.checkpoints import WholeCheckpointIO
from vlbench.cli.main import main
from vlbench.errors import ConfigError, WriteError
from vlbench.evaluation.stored_scores import check_half_classes
from vlbench.files import TEMPORARY, check_name, check_writable, write_atomically
from vlbench.methods.base import VideoTextMethod


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def evaluate(*options):
    return main(command("test", "zero_shot.yaml", *OVERLAYS, options=["--data.num_workers=0", *options]))


@pytest.fixture
def untouched(monkeypatch):
    """No video is evaluated."""

    def evaluated(*_):
        raise AssertionError("evaluated")

    monkeypatch.setattr(VideoTextMethod, "test_step", evaluated)


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--record.bootstrap=-5"], "bootstrap is -5; allowed: 0"),
        (["--record.name=../../x"], "record.name is '../../x', which becomes the name of a file"),
        (["--record.name=" + "x" * 260], "at most 200 bytes"),
        (["--record.folder=file"], "record.folder: cannot write into file/predictions: Not a directory"),
        (["--record.folder=" + "x" * 260], "File name too long"),
        (["--record.name=taken", "--record.folder=results"], "results/records/taken.json is a folder"),
    ],
)
def test_a_bad_option_of_the_record_is_refused_before_the_evaluation(workplace, untouched, capsys, options, answer):
    Path("file").write_text("")
    Path("results/records/taken.json").mkdir(parents=True)
    assert evaluate(*options) == 2
    said = capsys.readouterr().err
    assert answer in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 3])
def test_half_of_too_few_classes_is_refused_before_the_evaluation(workplace, rendered, untouched, capsys, classes):
    sources = sorted((rendered / "synthetic").rglob("*.mp4"))
    for position in range(classes):
        folder = workplace / "videos" / "test" / f"class{position}"
        folder.mkdir(parents=True)
        (folder / "a.mp4").symlink_to(sources[position])
    options = ["--data.root=videos", "--data.num_workers=0", "--record.half_classes=true"]
    assert main(command("test", "zero_shot.yaml", "data/folder.yaml", *OVERLAYS[1:], options=options)) == 2
    said = capsys.readouterr().err
    assert f"classes of a random half of {classes} have videos" in said
    assert "set record.half_classes to false" in said


@pytest.mark.quick
def test_halves_need_two_classes_with_videos():
    check_half_classes(range(4), 4)
    for labels, classes in ((range(3), 3), ([0], 1), ([0, 1], 20)):
        with pytest.raises(ConfigError, match="half_classes is true"):
            check_half_classes(labels, classes)


def limited():
    """Files of this process are at most 20 kB: the next byte is refused, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def process(words, **options):
    """A command in a process without coverage, whose own file would be too large."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(
        [sys.executable, "-m", "vlbench", *words, "--data.num_workers=0", "--trainer.enable_progress_bar=false"],
        capture_output=True, text=True, check=False, timeout=120, env={**environment, "OMP_NUM_THREADS": "1"},
        **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("action", ["test", "fit"])
def test_a_full_disk_is_one_sentence(workplace, action):
    """The tables of scores do not fit, nor does the checkpoint; what was there before stays."""
    target = Path("full/predictions/x.safetensors") if action == "test" else Path("full/last.ckpt")
    target.parent.mkdir(parents=True)
    target.write_text("old")
    if action == "test":
        words = command("test", "zero_shot.yaml", *OVERLAYS, options=["--record.folder=full", "--record.name=x"])
    else:
        options = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--checkpoint.dirpath=full"]
        words = command(
            "fit", "mote_fewshot.yaml", *OVERLAYS, options=[*options, "--data.train.shots=1", "--trainer.logger=false"]
        )
    assert process(command("test", "zero_shot.yaml", *OVERLAYS)).returncode == 0  # writes caches, which would not fit
    ended = process(words, preexec_fn=limited)
    assert ended.returncode == 1, ended.stderr[-2000:]
    path = target.absolute() if action == "fit" else target
    assert ended.stderr.splitlines()[-1].startswith(f"vlbench: error: cannot write {path}: File too large")
    assert "Traceback" not in ended.stderr
    assert target.read_text() == "old"
    assert not list(Path().rglob(f"{TEMPORARY}*"))


@pytest.mark.quick
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["mkstemp", "fsync", "replace"])
def test_whatever_the_disk_refuses_is_named_and_undone(tmp_path, monkeypatch, code, call):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr({"mkstemp": "tempfile.mkstemp"}.get(call, f"os.{call}"), refuse)
    with pytest.raises(WriteError, match=f"cannot write {path}: {os.strerror(code)}"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.quick
def test_a_checkpoint_on_a_full_disk_says_what_is_wrong(tmp_path, monkeypatch):
    original = Path.open

    def full(self, mode="r", *arguments, **options):
        return original(Path("/dev/full") if mode == "wb" else self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(WriteError, match=r"last\.ckpt: No space left on device"):
        WholeCheckpointIO().save_checkpoint({"weights": torch.zeros(9999)}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.quick
def test_a_folder_where_a_file_is_expected_is_named(tmp_path, capsys):
    (tmp_path / "board.csv").mkdir()
    (tmp_path / "board.csv" / "x").touch()
    with pytest.raises(WriteError, match=r"board\.csv: Is a directory"):
        write_atomically(tmp_path / "board.csv", b"")
    with pytest.raises(WriteError, match=r"x/y: (Not a directory|File exists)"):
        write_atomically(tmp_path / "board.csv" / "x" / "y", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["board.csv"]


@pytest.mark.quick
def test_a_name_of_255_bytes_is_written(tmp_path):
    write_atomically(tmp_path / ("x" * 251 + ".csv"), b"")
    with pytest.raises(WriteError, match="File name too long"):
        write_atomically(tmp_path / ("x" * 300 + ".csv"), b"")


@pytest.mark.quick
@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/a", "a\0", "a\nb", "\ud800", "x" * 201, "é" * 101])
def test_names_that_become_other_files_are_refused(name):
    with pytest.raises(ConfigError, match=r"the name of a thing is .* becomes the name of a file"):
        check_name("the name of a thing", name)


@pytest.mark.quick
@pytest.mark.parametrize("name", ["a", "é" * 100, "mote_fewshot-2x", "a b", "a..b", "日本"])
def test_other_names_are_fine(name):
    check_name("the name of a thing", name)


@pytest.mark.quick
def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    check_writable(tmp_path / "a" / "b", "record.folder")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    with pytest.raises(ConfigError, match=r"record\.folder: cannot write into /proc/x"):
        check_writable(Path("/proc/x"), "record.folder")


def test_a_removed_folder_is_made_again(workplace, monkeypatch):
    """Of a test whose results folder somebody removed while it ran, nothing is lost."""
    original = VideoTextMethod.test_step

    def step(self, *arguments):
        shutil.rmtree("results", ignore_errors=True)
        return original(self, *arguments)

    monkeypatch.setattr(VideoTextMethod, "test_step", step)
    assert evaluate("--data.test.classes=novel") == 0
    (path,) = Path("results/records").iterdir()
    assert json.loads(path.read_text())["evaluated"] > 0


@pytest.mark.parametrize(
    ("environment", "options", "answer"),
    [
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, [], "2 tasks (SLURM_NTASKS) and the run has 1 processes"),
        ({"SLURM_NTASKS": "1"}, ["--trainer.devices=2", "--trainer.strategy=ddp"], "and the run has 2 processes"),
        (
            {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
            ["--trainer.devices=2", "--trainer.strategy=ddp"],
            "put srun in front of the command",
        ),
        ({"SLURM_NTASKS": "2"}, [], "the options of trainer do not fit this machine or each other"),
    ],
)
def test_tasks_that_would_all_do_the_same_are_refused(
    workplace, untouched, monkeypatch, capsys, environment, options, answer
):
    environment = {**environment, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_ID": "7"}
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert evaluate(*options) == 2
    said = capsys.readouterr().err
    assert answer in said
    if "run has" in answer:
        assert "give srun --ntasks=" in said


def test_an_interactive_job_counts_as_none(workplace, monkeypatch):
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}.items():
        monkeypatch.setenv(name, value)
    assert evaluate("--data.test.classes=novel") == 0
