"""`leaderboard`, `compare`, `report` and `rescore` on the command line."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.results.fakes import CLASSES, record, store
from vlbench.backbones import TinyCLIP
from vlbench.cli.main import main
from vlbench.cli.methods import with_prompts
from vlbench.errors import DataError
from vlbench.methods import ZeroShot
from vlbench.results.row import COLUMNS
from vlbench.results.stored import StoredEvaluation


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder with two evaluations of 8 videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    good, bad = [0, 0, 1, 1, 2, 2, 3, 0], [0, 1, 1, 0, 2, 0, 0, 3]
    store(Path("results"), "good", torch.eye(4)[good], labels, method="mote", features_depend_on_classes=True)
    store(Path("results"), "bad", torch.eye(4)[bad], labels)
    return Path("results")


def test_leaderboard_writes_every_form(results, capsys):
    files = {name: Path("out") / f"board.{name}" for name in ("csv", "html", "markdown", "latex")}
    assert main(["leaderboard", "results", *(part for name in files for part in (f"--{name}", str(files[name])))]) == 0
    with files["csv"].open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["rank"], line["top1"]) for line in lines] == [
        ("mote", "1", "87.5"),
        ("msta", "2", "50.0"),
    ]
    assert tuple(lines[0]) == COLUMNS
    assert "87.50" in files["markdown"].read_text()
    assert r"\toprule" in files["latex"].read_text()
    assert files["html"].read_text().startswith("<!doctype html>")
    assert "87.50" in capsys.readouterr().out


def test_leaderboard_refuses_what_it_should_not_rest_on(results, capsys):
    record(seed=3, git_commit="0123-dirty").write(results / "records", "dirty")
    assert main(["leaderboard", "results"]) == 1
    assert "--allow_dirty" in capsys.readouterr().err
    assert main(["leaderboard", "results", "--allow_dirty"]) == 0
    record(seed=4, test_list=None).write(results / "records", "old")
    assert main(["leaderboard", "results", "--allow_dirty"]) == 1
    assert main(["leaderboard", "results", "--allow_dirty", "--allow_mixed"]) == 0


def test_compare(results, capsys):
    assert main(["compare", "bad", "results/records/good.json"]) == 0
    said = capsys.readouterr().out
    assert "8 videos: 3 right in both, 1 only in A, 4 only in B, 0 in neither" in said
    assert "B - A = +37.50 points" in said
    assert "p = 0.375" in said
    assert main(["compare", "bad", "goods"]) == 2
    assert "did you mean good?" in capsys.readouterr().err


def test_compare_refuses_another_number_of_classes(results, capsys):
    store(results, "few", torch.eye(2)[[0] * 8], [0] * 8, classes=["a", "b"])
    assert main(["compare", "bad", "few"]) == 2
    assert "4 classes" in capsys.readouterr().err


def test_report(results, capsys):
    assert main(["report", "good", "--csv", "classes.csv", "--confusion", "confusion.csv"]) == 0
    said = capsys.readouterr().out
    assert said.index("wave_hand") < said.index("a & b") < said.index("run <fast>")  # the worst first
    assert "jump (1)" in said
    with Path("classes.csv").open() as file:
        assert [(line["name"], line["correct"]) for line in csv.DictReader(file)] == [
            ("jump", "2"), ("run <fast>", "2"), ("a & b", "2"), ("wave_hand", "1"),
        ]  # fmt: skip
    assert Path("confusion.csv").read_text().count("\n") == 5


def test_names_of_files_are_text_in_titles(results, capsys):
    store(results, "[b]mine", torch.eye(4)[[0, 1, 2, 3]], [0, 1, 2, 3], seed=5)
    for words, title in (
        (["leaderboard", "results", "--csv", "[/b].csv"], "[/b].csv"),
        (["report", "[b]mine"], "[b]mine"),
        (["rescore", "[b]mine", "--half"], "[b]mine"),
    ):
        assert main(words) == 0
        assert title in capsys.readouterr().out


def test_a_report_in_a_file_has_whole_names_and_numbers(results, monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS")
    names = [f"{'a' * 32}_{label}" for label in range(4)]
    store(results, "long", torch.eye(4)[[1, 0, 3, 2]], [0, 1, 2, 3], classes=names, seed=6)
    assert main(["report", "long"]) == 0
    out = capsys.readouterr().out
    for name, other in zip(names, (names[1], names[0], names[3], names[2]), strict=True):
        (line,) = [line for line in out.splitlines() if line.startswith(f"│ {name} ")]
        assert f"0.0 │       0.0 │ {other} (1)" in line


def test_frames_of_videos_need_a_page_and_a_folder(results, capsys):
    assert main(["report", "good", "--videos", "."]) == 2
    assert "videos is . and there is no page to show frames on; give --html FILE" in capsys.readouterr().err
    assert main(["report", "good", "--html", "page.html", "--videos", "nowhere"]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err
    assert not Path("page.html").exists()


def test_rescore(results, capsys):
    Path("list.txt").write_text("\n".join(CLASSES[:2]) + "\n")
    Path("latin1.txt").write_bytes("café\n".encode("latin-1"))
    assert main(["rescore", "bad", "--classes", "list.txt"]) == 0
    assert "50.00" in capsys.readouterr().out
    # As every other list of classes, in a spreadsheet too.
    Path("list.csv").write_text("".join(f"{number},{name}\n" for number, name in enumerate(("name", *CLASSES[:2]))))
    assert main(["rescore", "bad", "--classes", "list.csv"]) == 0
    assert "50.00" in capsys.readouterr().out
    assert main(["rescore", "good", "--half"]) == 0
    assert "half_top1" in capsys.readouterr().out
    for refused, reason in (
        (["good", "--classes", "list.txt"], "the video features of mote depend on the list of classes"),
        (["bad"], "give --classes FILE"),
        (["bad", "--half", "--classes", "list.txt"], "or --half"),
        (["bad", "--prompts", "nothing.txt"], "not a file"),
        (["bad", "--prompts", "mote"], "give the test's --config"),
        (["bad", "--classes", "nothing.txt"], "not a file"),
        (["bad", "--classes", "latin1.txt"], "latin1.txt is not UTF-8 text"),
        (["bad", "--classes", "list.txt", "--config", "zero_shot.yaml"], "are for the text tower of other prompts"),
    ):
        assert main(["rescore", *refused]) == (1 if "depend on" in reason or "UTF-8" in reason else 2)
        assert reason in capsys.readouterr().err


def test_no_accuracy_of_classes_without_videos(results, capsys):
    store(Path("results"), "narrow", torch.eye(4)[[0, 1]], [0, 1])
    Path("list.txt").write_text("\n".join(CLASSES[2:]) + "\n")
    assert main(["rescore", "narrow", "--classes", "list.txt"]) == 1
    assert "narrow has no video of these 2 classes" in capsys.readouterr().err


QUIET = """
import sys
from vlbench.cli.main import main

for command in sys.argv[1:]:
    try:
        code = main(command.split())
    except SystemExit as left:
        code = left.code
    heavy = {"torch", "torchmetrics", "torchvision", "lightning", "open_clip"} & sys.modules.keys()
    print("LOADED", command, code, *heavy, sep="|")
"""


def test_questions_to_records_load_no_torch(results):
    Path("list.txt").write_text("\n".join(CLASSES[:2]) + "\n")
    names = ("leaderboard", "verify", "report", "compare", "rescore")
    commands = [
        *(f"{name} --help" for name in names),
        "leaderboard results --csv board.csv --html board.html --markdown board.md --latex board.tex",
        "verify results",
        "report good --csv classes.csv --confusion confusion.csv",
        "compare good bad",
        "rescore good --half",
        "rescore bad --classes list.txt",
    ]
    program = [sys.executable, "-c", QUIET, *commands]
    done = subprocess.run(program, capture_output=True, text=True, env=os.environ, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert lines == [f"LOADED|{command}|0" for command in commands]


@pytest.mark.slow
def test_what_a_test_leaves_can_be_evaluated_again(workplace, capsys):
    """The files of a real run, not of the fakes."""
    configs = ["zero_shot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    options = [part for name in configs for part in ("--config", name)]
    assert main(["test", *options, "--data.num_workers=0", "--record.name=real"]) == 0
    assert main(["leaderboard", "results", "--html", "board.html", "--csv", "board.csv", "--allow_dirty"]) == 0
    with Path("board.csv").open() as file:
        (line,) = csv.DictReader(file)
    capsys.readouterr()
    assert main(["report", "real", "--csv", "classes.csv"]) == 0
    with Path("classes.csv").open() as file:
        classes = list(csv.DictReader(file))
    right = sum(int(entry["correct"]) for entry in classes)
    assert 100 * right / 160 == pytest.approx(float(line["top1"]), abs=0.01)
    Path("all.txt").write_text("\n".join(entry["name"] for entry in classes))
    capsys.readouterr()
    assert main(["rescore", "real", "--classes", "all.txt"]) == 0
    assert f"{float(line['top1']):.2f}" in capsys.readouterr().out
    assert main(["verify", "results"]) == 0
    assert "1 records verified" in capsys.readouterr().out
    assert main(["compare", "real", "real"]) == 0
    assert "p = 1" in capsys.readouterr().out


@pytest.mark.slow
def test_other_prompts_score_as_if_they_had_been_tested(workplace, capsys, monkeypatch):
    """MSTA, whose adapted text tower only its checkpoint gives."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["vlbench"])
        return main(list(arguments))

    names = ["msta_fewshot.yaml", "demo/msta.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    options = [part for name in names for part in ("--config", name)] + ["--data.num_workers=0"]
    quick = ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--trainer.logger=false", "--data.train.shots=1"]
    assert run("fit", *options, *quick, "--checkpoint.dirpath=checkpoints", "--model.lr=0.01") == 0
    checkpoint = ["--ckpt_path", "checkpoints/last.ckpt"]
    Path("prompts.txt").write_text("nobody ever {}\n\nno film of {} here\n")
    others = "--model.prompts=['nobody ever {}', 'no film of {} here']"
    assert run("test", *options, *checkpoint, "--record.name=first") == 0
    assert run("test", *options, *checkpoint, "--record.name=second", others) == 0
    first, second = (StoredEvaluation.load(name, Path("results")) for name in ("first", "second"))
    assert not np.allclose(first.predictions.cosines, second.predictions.cosines, atol=1e-2)
    again = with_prompts(first, ["nobody ever {}", "no film of {} here"], names, Path(checkpoint[1]))
    np.testing.assert_allclose(again.predictions.cosines, second.predictions.cosines, rtol=0, atol=1e-5)
    capsys.readouterr()
    assert run("rescore", "first", "--prompts", "prompts.txt", "--config", *names, *checkpoint) == 0
    assert f"{second.record.metrics['top1']:.2f}" in capsys.readouterr().out
    assert run("rescore", "first", "--prompts", "prompts.txt", "--config", *names) == 2
    assert "was tested with backbone and weights" in capsys.readouterr().err


class Halved(ZeroShot):
    """Scores the second half of the classes half as high: stored features times class features is not its score."""

    def score(self, video, classes):
        cosines = super().score(video, classes)
        return cosines * torch.where(torch.arange(len(classes)) < len(classes) // 2, 1.0, 0.5)


def rescored_by(method, monkeypatch, features):
    """A stored evaluation of `method` under the prompts `a video of {}`."""
    method.eval().requires_grad_(False)
    monkeypatch.setattr("vlbench.cli.methods.build", lambda configs, meta=True: method)
    digest = method.backbone.identity.digest
    store(Path("results"), "other", torch.eye(4), [0, 1, 2, 3], features=features, weights=None, backbone_digest=digest)
    return with_prompts(StoredEvaluation.load("other", Path("results")), ["a video of {}"], ["zero_shot.yaml"], None)


def test_other_prompts_are_scored_as_the_method_scores(workplace, monkeypatch):
    features = torch.nn.functional.normalize(torch.randn(4, 128, generator=torch.Generator().manual_seed(0)), dim=-1)
    plain = rescored_by(ZeroShot(TinyCLIP()), monkeypatch, features).predictions.scores
    halved = rescored_by(Halved(TinyCLIP()), monkeypatch, features).predictions.scores
    np.testing.assert_allclose(halved, plain * [1, 1, 0.5, 0.5], rtol=0, atol=1e-6)
    assert np.abs(plain[:, 2:]).max() > 1e-3


def test_other_prompts_need_features(workplace, monkeypatch):
    with pytest.raises(DataError, match="other holds no features of its videos, as zero_shot makes more than one"):
        rescored_by(ZeroShot(TinyCLIP()), monkeypatch, torch.empty(4, 0))
