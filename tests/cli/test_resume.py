"""A training that was killed and continued against one that was left alone."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from tests.cli.test_trainer import OVERLAYS, command
from tests.tolerance import assert_same_bits
from vlbench.cli import checkpoints
from vlbench.cli.checkpoints import Continuation, RunningCheckpoint, WholeCheckpointIO
from vlbench.cli.main import main
from vlbench.cli.training_facts import training_digest

OPTIONS = [
    *("--data.train.shots=2", "--data.batch_size=8", "--data.loading.epoch_size=64", "--trainer.max_epochs=4"),
    *("--trainer.limit_val_batches=0", "--trainer.logger=false", "--trainer.enable_progress_bar=false"),
]


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def fit(method, folder, *options):
    configs = [f"{method}_fewshot.yaml", f"demo/{method}.yaml", *OVERLAYS]
    return command("fit", *configs, options=[*OPTIONS, f"--checkpoint.dirpath={folder}", *options])


def load(folder):
    return torch.load(Path(folder) / "last.ckpt", weights_only=True)


def in_second_epoch(arguments, checkpoint, signal_):
    """Starts a training and signals to it as soon as its first checkpoint is there; exit code and last words."""
    # As many threads as this process: sums over other parts round otherwise.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-m", "vlbench", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.is_file():
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(process.pid, signal_)  # its workers too
        _, said = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, said.splitlines()[-1:]


def kill_in_second_epoch(arguments, checkpoint):
    """Starts a training and kills it as soon as the checkpoint of its first epoch is there."""
    assert in_second_epoch(arguments, checkpoint, signal.SIGKILL)[0] == -signal.SIGKILL


def test_an_interrupted_training_says_how_to_go_on(workplace):
    """Lightning leaves with exit code 1 and no word, as if the training had failed."""
    for options in ([], ["--trainer.devices=2", "--trainer.strategy=ddp"]):
        folder = Path(f"checkpoints{len(options)}")
        interrupted = in_second_epoch(fit("msta", folder, *options), folder / "last.ckpt", signal.SIGINT)
        words = "vlbench: interrupted; --resume auto goes on from the last checkpoint in checkpoint.dirpath"
        assert interrupted == (130, [words])


def test_a_training_that_sigterm_ends_has_not_succeeded(workplace):
    """Lightning leaves with exit code 0, as if all epochs were done: a runner would test what is half trained."""
    training = fit("msta", "checkpoints", "--data.num_workers=0")
    ended = in_second_epoch(training, Path("checkpoints/last.ckpt"), signal.SIGTERM)
    words = "vlbench: ended by SIGTERM; --resume auto goes on from the last checkpoint in checkpoint.dirpath"
    assert ended == (143, [words])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "workers"), [("msta", 1), ("mote", 0)])
def test_a_killed_training_ends_with_the_same_weights(workplace, method, workers, capsys):
    """Bit for bit, optimizer included; with a worker, which fetches ahead of the epoch's number."""
    workers = f"--data.num_workers={workers}"
    assert main(fit(method, "whole", workers)) == 0
    kill_in_second_epoch(fit(method, "killed", workers), Path("killed/last.ckpt"))
    assert load("killed")["vlbench"]["training"]["epochs"] == 1
    assert main(fit(method, "killed", workers, "--resume=auto")) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resume: ")]
    assert "training continues from" in " ".join(said), said
    whole, resumed = load("whole"), load("killed")
    for held in (whole, resumed):
        assert held["vlbench"]["training"].pop("seconds") > 0
    assert resumed["vlbench"] == whole["vlbench"]
    assert resumed["vlbench"]["training"]["epochs"] == 4
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    for key, value in whole["state_dict"].items():
        assert_same_bits(resumed["state_dict"][key], value)
    for key, moments in whole["optimizer_states"][0]["state"].items():
        other = resumed["optimizer_states"][0]["state"][key]
        for name, value in moments.items():
            assert_same_bits(other[name], value)

    # A finished training has nothing left to do.
    before = Path("killed/last.ckpt").stat()
    assert main(fit(method, "killed", workers, "--resume=auto")) == 0
    assert Path("killed/last.ckpt").stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in Path("killed").iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_training_killed_in_mid_epoch_goes_on_exactly(workplace, capsys, monkeypatch):
    """Bit for bit, from `running.ckpt`, with gradients accumulated over two batches, and experts drawn at random."""
    options = ["--data.num_workers=1", "--trainer.max_epochs=2", "--data.batch_size=4"]
    options += ["--data.loading.effective_batch=8", "--data.loading.epoch_size=32"]
    assert main(fit("mote", "whole", *options)) == 0

    steps = []

    def killed(self, trainer, *arguments):
        original(self, trainer, *arguments)
        if (workplace / "killed" / "running.ckpt").is_file() and trainer.global_step == 6:
            steps.append(trainer.global_step)
            raise RuntimeError("killed")

    original = RunningCheckpoint.on_train_batch_end
    monkeypatch.setattr(RunningCheckpoint, "on_train_batch_end", killed)
    with pytest.raises(RuntimeError, match="killed"):
        main(fit("mote", "killed", *options, "--checkpoint_minutes=1e-9"))
    monkeypatch.setattr(RunningCheckpoint, "on_train_batch_end", original)
    running = torch.load("killed/running.ckpt", weights_only=True)
    assert steps == [6]
    assert (running["global_step"], load("killed")["global_step"]) == (6, 4)

    torch.rand(17)
    capsys.readouterr()
    assert main(fit("mote", "killed", *options, "--resume=auto")) == 0
    assert "killed/running.ckpt, 6 steps" in capsys.readouterr().out
    whole, resumed = load("whole"), load("killed")
    for header in (whole, resumed):
        header["vlbench"]["training"].pop("seconds")
    assert resumed["vlbench"] == whole["vlbench"]
    assert resumed["global_step"] == whole["global_step"] == 8
    for key, value in whole["state_dict"].items():
        assert_same_bits(resumed["state_dict"][key], value)
    for key, moments in whole["optimizer_states"][0]["state"].items():
        for name, value in moments.items():
            assert_same_bits(resumed["optimizer_states"][0]["state"][key][name], value)
    assert [path.name for path in Path("killed").iterdir()] == ["last.ckpt"]


def test_an_epoch_in_other_batches_is_not_gone_on_with(tmp_path, capsys):
    """The training then goes on from the end of the epoch before, and says so."""
    stored = {"configuration": "a", "data": {}, "global_step": 3}
    torch.save({**stored, "batches": [1, 8]}, tmp_path / "last.ckpt")
    torch.save({**stored, "batches": [1, 8], "global_step": 5, "random": []}, tmp_path / "running.ckpt")
    assert Continuation("a", 0, {}, (1, 8)).find(tmp_path) == tmp_path / "running.ckpt"
    assert Continuation("a", 0, {}, (2, 4)).find(tmp_path) == tmp_path / "last.ckpt"
    assert "running.ckpt is of an epoch in other batches" in capsys.readouterr().out
    (tmp_path / "running.ckpt").write_bytes(b"damaged")
    assert Continuation("a", 0, {}, (1, 8)).find(tmp_path) == tmp_path / "last.ckpt"


def own_videos(root, rendered, names, folder="videos"):
    """A data set of one's own: a few of the rendered videos, under classes of these names."""
    root = root / folder
    sources = sorted((rendered / "synthetic").rglob("*.mp4"))
    for position, name in enumerate(names):
        for k, part in enumerate(("train", "train", "test", "test")):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            (root / part / name / f"{k}.mp4").symlink_to(sources[4 * position + k])
    return root


@pytest.mark.slow
def test_a_training_on_other_data_is_refused_with_what_differs(workplace, rendered, capsys):
    """Today's configuration says the same of both: only the videos are others."""

    def run(root):
        configs = ["mote_fewshot.yaml", "demo/mote.yaml", "data/folder.yaml", *OVERLAYS[1:], "all.yaml"]
        options = [
            f"--data.root={root}", "--checkpoint.dirpath=checkpoints", "--resume=auto", "--data.num_workers=0",
            "--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.logger=false", "--data.batch_size=2",
        ]  # fmt: skip
        code = main(command("fit", *configs, options=options))
        captured = capsys.readouterr()
        return code, " ".join((captured.out + captured.err).split())

    Path("all.yaml").write_text("data: {init_args: {train: {shots: null}}}")
    first = own_videos(workplace, rendered, ("left", "right"))
    code, said = run(first)
    assert code == 0, said
    before = Path("checkpoints/last.ckpt").read_bytes()
    for changed, difference in (
        (
            own_videos(workplace, rendered, ("left", "right"), "others"),
            "the dataset is 'videos' there and 'others' here",
        ),
        (own_videos(workplace / "a", rendered, ("left", "up")), "2 classes there and 2 here, such as 'up'"),
        (own_videos(workplace / "b", rendered, ("left", "right", "up")), "2 classes there and 3 here, such as 'up'"),
    ):
        code, said = run(changed)
        assert code == 2
        assert difference in said
        assert "Give another checkpoint.dirpath, or delete the checkpoints in " in said
    (first / "train" / "left" / "1.mp4").unlink()
    code, said = run(first)
    assert code == 2
    assert "4 videos there and 3 here, which are not the same ones" in said
    assert Path("checkpoints/last.ckpt").read_bytes() == before


def test_a_training_starts_anew_where_there_is_nothing_to_continue(workplace, capsys):
    def run(*options):
        arguments = fit("msta", "folder", "--data.num_workers=0", "--trainer.max_steps=2", *options)
        assert main(arguments) == 0
        return capsys.readouterr().out

    assert "last.ckpt does not exist; training starts anew" in run("--resume=auto")
    assert "training continues" in run("--resume=auto")
    assert "resume:" not in run()
    assert "another configuration; training starts anew" in run("--resume=auto", "--model.lr=0.001")
    Path("folder/last.ckpt").write_bytes(Path("folder/last.ckpt").read_bytes()[:5000])
    assert "cannot be read" in run("--resume=auto")
    assert load("folder")["global_step"] == 2


def test_a_selection_compares_validations_of_the_same_videos(workplace, capsys):
    """The same number of batches is of other videos where each holds fewer: no epoch before would compare."""

    def run(size, *options):
        sized = [
            "--selection=best_on_test",
            "--trainer.limit_val_batches=0.2",
            f"--data.loading.eval_batch_size={size}",
        ]
        quick = ["--data.num_workers=0", "--trainer.max_epochs=1"]
        assert main(fit("msta", "folder", *quick, *sized, *options)) == 0
        return capsys.readouterr().out

    run(8)
    assert "training continues" in run(8, "--resume=auto")
    assert "another configuration; training starts anew" in run(16, "--resume=auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume=auto"], "checkpoint.dirpath null"),
        (["--resume=auto", "--checkpoint.dirpath=a", "--ckpt_path=b.ckpt"], "give one of them"),
    ],
)
def test_contradictions_are_one_clear_message(workplace, options, message, capsys):
    torch.save({}, "b.ckpt")
    assert main(command("fit", "msta_fewshot.yaml", *OVERLAYS, options=options)) == 2
    assert message in capsys.readouterr().err


def config(**changes):
    base = {
        "model": {"class_path": "MSTA", "init_args": {"lr": 0.1}},
        "data": {"class_path": "UCF101", "init_args": {"root": "a", "num_workers": 1, "batch_size": 8, "frames": 8}},
        "trainer": {"max_epochs": 5, "devices": 1, "default_root_dir": "x"},
        "matmul_precision": "highest",
        "selection": "last",
        "seed_everything": 0,
    }
    for key, value in changes.items():
        room, _, name = key.partition("__")
        target = base[room] if room == "trainer" else base[room]["init_args"]
        target[name] = value
    return base


def test_where_a_training_runs_is_no_part_of_its_identity():
    same = [config(), config(data__root="b"), config(data__num_workers=9), config(data__batch_size=2)]
    same += [config(trainer__devices=4), config(trainer__default_root_dir="y"), config(data__frames=8.0)]
    eight = {"batch": 8}
    assert len({training_digest(values, eight) for values in same}) == 1
    assert training_digest(config(), {"batch": 8, "processes": 2}) == training_digest(config(), eight)
    other = [
        config(model__lr=0.2),
        config(data__frames=16),
        config(trainer__max_epochs=6),
        {**config(), "seed_everything": 1},
        {**config(), "matmul_precision": "high"},
    ]
    batches = [{"batch": 16}, {"batch": 8, "at_once": 2}, {"batch": 8, "at_once": 4}]
    digests = {training_digest(values, eight) for values in [*other, config()]}
    assert len(digests | {training_digest(config(), batch) for batch in batches}) == 9


def test_a_training_goes_on_with_the_weights_that_it_started_from_wherever_they_lie():
    moved = [config(model__pretrained_from=path) for path in ("a/last.ckpt", "b/last.ckpt")]
    assert len({training_digest(values, {"batch": 8}, "one") for values in moved}) == 1
    assert training_digest(moved[0], {"batch": 8}, "one") != training_digest(moved[0], {"batch": 8}, "another")


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def interrupted(checkpoint, target):
        target.write(b"half a check")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


class Drawing(lightning.LightningModule):
    """Draws a random number at every step, as dropout would."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.drawn = []

    def training_step(self, batch, batch_idx):
        self.drawn.append((self.current_epoch, torch.rand(()).item()))
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_random_numbers_go_on_where_they_stopped(tmp_path):
    def draw(epochs, start=None):
        module = Drawing()
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[Continuation("", seed=3)],
        )  # fmt: skip
        # A loader of its own generator, as the datamodule's.
        loader = DataLoader(torch.ones(6, 1), batch_size=2, generator=torch.Generator())
        trainer.fit(module, loader, ckpt_path=start)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return module.drawn

    whole = draw(3)
    assert len(set(whole)) == 9
    first = draw(1)
    torch.rand(17)
    assert first + draw(3, start=tmp_path / "last.ckpt") == whole
