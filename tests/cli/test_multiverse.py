"""Universes of a comparison are what `vlbench test` gives with those options."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.pages import assert_loads_nothing
from vlbench.cli.main import main
from vlbench.errors import DataError
from vlbench.results.callback import RecordWriter
from vlbench.results.kept_file import parse_kept
from vlbench.results.multiverse_records import multiverse
from vlbench.results.record import Record
from vlbench.results.verify import verify

CLASSES = ("a red ring moving left", "a red ring moving right", "a green flag rising", "a green flag growing")
PLAIN = ["data/folder.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml", "smoke/steps.yaml"]
KEEP = ["--record.keep=[views,templates]", "--record.keep_prompts=[video,photo,bare]"]
MSTA = ["--config", "demo/msta.yaml", "--model.consistency=0", "--data.train.shots=2"]
EPOCHS = [
    *("--selection=best_on_test", "--record.keep=[epochs,views,templates]", KEEP[1]),
    *("--trainer.max_epochs=2", "--trainer.limit_val_batches=1.0"),
]
VIEWS = ["--data.clip.views={clips: 3, crops: 3}", "--data.clip.test_short_side=1.25"]


def run(action, *options, name="zero_shot.yaml"):
    words = [part for config in (name, *PLAIN) for part in ("--config", config)]
    return main([action, *words, "--data.root=mine", *options])


@pytest.fixture(scope="module")
def kept(tmp_path_factory, rendered):
    """A folder with the results of a frozen method and of a trained one, whose views, templates and epochs are kept."""
    place = tmp_path_factory.mktemp("multiverse")
    source = rendered / "synthetic" / "shapes-s"
    folder = place / "mine"
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for part, count in (("train", 2), ("test", 6)):
        listed = [line.split() for line in (source / f"{part}.txt").read_text().splitlines()]
        lines = [
            f"{path} {label}"
            for label, number in enumerate((0, 1, 10, 12))
            for path, _ in [line for line in listed if int(line[1]) == number][:count]
        ]
        (folder / part).symlink_to(source / part)
        (folder / f"{part}.txt").write_text("\n".join([*lines, *(["broken.mp4 1"] if part == "test" else [])]))
    (folder / "broken.mp4").write_text("no video")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("PYTHONWARNINGS", "ignore")
        patch.setattr(sys, "argv", ["vlbench"])
        assert run("test", *KEEP, *VIEWS) == 0
        training = [*MSTA, "--checkpoint.dirpath=ck"]
        assert run("fit", *training, *EPOCHS, *VIEWS, name="msta_fewshot.yaml") == 0
        trained = [*MSTA, "--ckpt_path=ck/last.ckpt"]
        assert run("test", *trained, *KEEP, *VIEWS, name="msta_fewshot.yaml") == 0
    return place


@pytest.fixture
def place(kept, monkeypatch):
    monkeypatch.chdir(kept)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    return kept


def evaluated(name, *options, method="zero_shot.yaml"):
    """Accuracy of a test with some options, and its record."""
    extra = [] if method == "zero_shot.yaml" else [*MSTA]
    assert run("test", *extra, "--record.folder=single", f"--record.name={name}", *options, name=method) == 0
    return Record.read(Path(f"single/records/{name}.json"))


def views(text):
    clips, crops = text.split("x")
    return [f"--data.clip.views={{clips: {clips}, crops: {crops}}}", VIEWS[1]]


def test_ten_universes_are_what_a_test_gives(place):
    outcome = multiverse([Path("results")], allow_dirty=True)
    assert outcome.methods == ("msta", "zero_shot")
    assert {choice.name: choice.options for choice in outcome.choices} == {
        "epoch": ("last", "best_on_test"),
        "prompts": ("video", "photo", "bare"),
        "views": ("1x1", "2x1", "3x1", "1x3", "2x3", "3x3"),
        "fusion": ("probabilities", "logits", "cosines", "softmax_of_mean"),
        "missing videos": ("count as wrong", "dropped"),
    }
    chosen = [
        ("zero_shot", "photo", "1x1", "probabilities"), ("zero_shot", "bare", "3x1", "logits"),
        ("zero_shot", "video", "2x3", "softmax_of_mean"), ("zero_shot", "photo", "1x3", "cosines"),
        ("zero_shot", "bare", "3x3", "probabilities"), ("zero_shot", "photo", "2x1", "softmax_of_mean"),
        ("msta", "photo", "1x1", "probabilities"), ("msta", "bare", "2x3", "logits"),
        ("msta", "video", "3x1", "softmax_of_mean"),
    ]  # fmt: skip
    found = set()
    for number, (method, prompts, looks, fusion) in enumerate(chosen):
        options = [f"--model.prompts={prompts}", f"--model.view_fusion={fusion}", *views(looks)]
        config = "zero_shot.yaml" if method == "zero_shot" else "msta_fewshot.yaml"
        checkpoint = [] if method == "zero_shot" else ["--ckpt_path=ck/last.ckpt"]
        record = evaluated(f"{number}", *options, *checkpoint, method=config)
        row = outcome.methods.index(method)
        universe = outcome.index(prompts=prompts, views=looks, fusion=fusion)
        assert outcome.accuracies[(row, *universe)] == record.metrics["top1"]
        dropped = outcome.index(prompts=prompts, views=looks, fusion=fusion, missing_videos="dropped")
        right = round(record.metrics["top1"] / 100 * record.expected)
        assert outcome.accuracies[(row, *dropped)] == 100 * right / record.evaluated
        found.add(record.metrics["top1"])
    assert len(found) > 3  # universes differ
    best = ["--ckpt_path=ck/best.ckpt", "--selection=best_on_test", "--model.prompts=photo", *views("3x1")]
    record = evaluated("best", *best, method="msta_fewshot.yaml")
    universe = outcome.index(prompts="photo", views="3x1", epoch="best_on_test")
    assert outcome.accuracies[(0, *universe)] == record.metrics["top1"]


def test_the_command_shows_what_it_writes(place, capsys):
    files = [f"--{kind}=out.{kind}" for kind in ("json", "csv", "html")]
    assert main(["multiverse", "results", "--allow_dirty", *files]) == 0
    said = capsys.readouterr().out
    assert "288 universes of 2 methods" in said
    assert "best epoch on test adds" in said
    values = json.loads(Path("out.json").read_text())
    assert len(Path("out.csv").read_text().splitlines()) == 1 + 288
    pair = values["pairs"][0]
    assert pair["a_leads"] + pair["equal"] + pair["b_leads"] == pytest.approx(1)
    recorded = {r.identity.method: r.metrics["top1"] for r in map(Record.read, Path("results/records").iterdir())}
    for each in values["methods"]:
        assert each["lowest"] <= each["recorded"] <= each["highest"]
        assert each["recorded"] == recorded[each["method"]]
    page = assert_loads_nothing(Path("out.html").read_text())
    assert all(name in page.text for name in recorded)
    assert len(page.all("circle")) == len(recorded)


def test_results_that_keep_scores_are_verified_and_tampering_is_found(place, tmp_path):
    assert verify([Path("results")]).findings == ()
    outcome = tmp_path / "copy"

    shutil.copytree("results", outcome)
    path = next((outcome / "kept").glob("zero_shot*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (finding,) = verify([outcome]).findings
    assert "they are not of one run" in str(finding)
    with pytest.raises(DataError, match="they are not of one run"):
        multiverse([outcome], allow_dirty=True)
    path.unlink()
    (finding,) = verify([outcome]).findings
    assert "cannot be read" in str(finding)


def test_a_record_names_the_epochs_of_its_training(place, tmp_path):
    """By their digests, where they lie beside it."""
    shutil.copytree("results", outcome := tmp_path / "copy")
    (path,) = (outcome / "records").glob("msta*")
    first, last = sorted((outcome / "epochs").rglob("*.safetensors"))
    named = Record.read(path).details.epochs
    assert [*named] == [f"{each.parent.name}/{each.name}" for each in (first, last)]
    first.write_bytes(last.read_bytes())
    (finding,) = verify([outcome]).findings
    assert "the file is of another training or epoch" in str(finding)
    with pytest.raises(DataError, match="the file is of another training or epoch"):
        multiverse([outcome], allow_dirty=True)
    elsewhere = evaluated("elsewhere", "--ckpt_path=ck/last.ckpt", method="msta_fewshot.yaml")
    assert elsewhere.details.epochs == {}


@pytest.mark.parametrize("interval", ["0.5", "1", "3", "{minutes: 1}"])
def test_epochs_are_not_kept_of_a_training_that_validates_elsewhere_than_at_their_end(place, capsys, interval):
    options = [*MSTA, *EPOCHS, f"--trainer.val_check_interval={interval}", "--checkpoint.dirpath=other"]
    assert run("fit", *options, name="msta_fewshot.yaml") == 2
    assert "trainer.val_check_interval is" in capsys.readouterr().err
    assert not Path("other").exists()


def test_a_training_that_goes_on_has_kept_all_of_its_epochs(place, tmp_path, capsys):
    options = [*MSTA, "--selection=best_on_test", f"--checkpoint.dirpath={tmp_path}", "--trainer.limit_val_batches=1"]
    assert run("fit", *options, "--trainer.max_epochs=1", name="msta_fewshot.yaml") == 0
    more = [*EPOCHS, f"--record.folder={tmp_path}", f"--ckpt_path={tmp_path}/last.ckpt"]
    assert run("fit", *options, *more, name="msta_fewshot.yaml") == 2
    assert "this training goes on after 1 epochs that were not kept" in capsys.readouterr().err
    assert not list((tmp_path / "epochs").rglob("*.safetensors"))


def test_epochs_are_kept_only_of_a_training_that_looks_at_the_test_videos(place, capsys):
    options = [*MSTA, "--record.keep=[epochs]", "--checkpoint.dirpath=other"]
    assert run("fit", *options, name="msta_fewshot.yaml") == 2
    assert "--selection best_on_test" in capsys.readouterr().err
    assert not Path("other").exists()


def test_another_test_of_the_name_leaves_no_kept_scores_behind(place):
    assert run("test", *KEEP, "--record.folder=again", "--record.name=a") == 0
    (kept,) = Path("again/kept").iterdir()
    assert Record.read(Path("again/records/a.json")).details.kept[:12] in kept.name
    assert run("test", "--record.folder=again", "--record.name=a") == 0
    assert Record.read(Path("again/records/a.json")).details.kept is None
    assert not list(Path("again/kept").iterdir())


def test_a_continued_training_neither_loses_nor_doubles_its_epochs(place, tmp_path, monkeypatch):
    """Those that an earlier start came to farther on stay until they are made anew, those before stay."""

    def killed(self, trainer, *arguments):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")

    (whole,) = Path("results/epochs").iterdir()
    options = [*EPOCHS, f"--record.folder={tmp_path}", f"--checkpoint.dirpath={tmp_path}/ck"]
    stale = tmp_path / "epochs" / whole.name / "epoch-0002-all-split1.safetensors"
    stale.parent.mkdir(parents=True)
    for name in ("epoch-0001-all-split1", "epoch-0002-all-split1"):
        stale.with_name(f"{name}.safetensors").write_text("of other weights")
    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "on_train_epoch_start", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run("fit", *MSTA, *options, *VIEWS, name="msta_fewshot.yaml")
    assert stale.read_text() == "of other weights"  # a record of the earlier start may name it
    (before,) = [path.stat().st_mtime_ns for path in stale.parent.glob("epoch-0001-*")]
    assert run("fit", *MSTA, *options, *VIEWS, "--resume=auto", name="msta_fewshot.yaml") == 0
    assert [path.stat().st_mtime_ns for path in stale.parent.glob("epoch-0001-*")] == [before]
    one, other = (sorted(folder.iterdir()) for folder in (whole, stale.parent))
    assert [path.name for path in one] == [path.name for path in other]
    for number, pair in enumerate(zip(one, other, strict=True), start=1):
        first, second = (parse_kept(path.read_bytes(), path) for path in pair)
        assert (first.weights, first.epoch, second.epoch) == (second.weights, number, number)
        assert (first.scores == second.scores).all()
