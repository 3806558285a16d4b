"""`vlbench audit`: what it leaves, and what it refuses."""

import csv
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import moving_frames, write_video
from tests.pages import assert_loads_nothing
from tests.results.fakes import edited, record, store
from vlbench.cli.counterfactual import ORDERS, check_same, command_of
from vlbench.cli.main import main
from vlbench.clips import readers
from vlbench.errors import ConfigError, DataError
from vlbench.results.record import Record
from vlbench.results.stored import StoredEvaluation

CLASSES = ("jumping", "running", "waving")
CONFIGS = ["mote_fewshot.yaml", "demo/mote.yaml", "data/folder.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
OPTIONS = [
    "--data.root=videos",
    "--data.frames=4",
    "--data.num_workers=0",
    "--data.batch_size=4",
    "--data.train.shots=1",
]


def run(*words):
    return main([*words])


def configured(action, *options):
    return run(action, *(word for name in CONFIGS for word in ("--config", name)), *OPTIONS, *options)


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """A folder with videos, a training of one step, its record and its audit."""
    home = tmp_path_factory.mktemp("audited")
    for part, count in (("train", 1), ("test", 3)):
        for label, name in enumerate(CLASSES):
            (home / "videos" / part / name).mkdir(parents=True)
            for number in range(count):
                frames = moving_frames(12, seed=10 * label + number + 100 * (part == "train"))
                write_video(home / "videos" / part / name / f"{part}{label}{number}.mp4", frames)
    (home / "videos" / "test" / CLASSES[0] / "damaged.mp4").write_bytes(b"no video")
    opened = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "argv", ["vlbench"])
        patch.setenv("PYTHONWARNINGS", "ignore")
        steps = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.logger=false"]
        shots = ["--data.loading.effective_batch=3", "--data.loading.epoch_size=3"]
        assert configured("fit", *steps, *shots, "--checkpoint.dirpath=weights") == 0
        assert configured("test", "--ckpt_path=weights/last.ckpt", "--record.name=mine") == 0
        open_video = readers.open_video
        patch.setattr(
            readers, "open_video", lambda path, **options: opened.update([path]) or open_video(path, **options)
        )
        (home / "moves.txt").write_text("Jumping\n\nrunning\n")
        (home / "rest.csv").write_text("id,name\n0,waving\n")
        files = ["--json=a.json", "--csv=a.csv", "--html=a.html"]
        assert run("audit", "mine", "--subset", "moves=moves.txt", "rest=rest.csv", *files) == 0
    assert len(opened) == 10
    assert set(opened.values()) == {1}  # for all orders together
    return home


@pytest.fixture
def home(tested, tmp_path, monkeypatch):
    """A copy of that folder to change."""
    shutil.copytree(tested, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return tmp_path / "home"


def refused(capsys, *words):
    assert run("audit", *words) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("vlbench: error: ")
    assert error.count("\n") == 1
    return error


def test_an_audit_says_what_each_order_loses(tested):
    audit = json.loads((tested / "a.json").read_text())
    assert audit == json.loads((tested / "results" / "audits" / "mine.json").read_text())
    made = Record.read(tested / "results" / "records" / "mine.json")
    assert (audit["identity"], audit["predictions"]) == (made.identity.digest(), made.predictions)
    everything, moves, rest = audit["sections"]
    assert [view["order"] for view in everything["views"]] == list(ORDERS)
    assert (everything["videos"], moves["videos"], rest["videos"], audit["unreadable"]) == (10, 7, 3, 1)
    assert (everything["classes"], moves["classes"], rest["classes"]) == (3, 2, 1)
    views = {view["order"]: view for view in everything["views"]}
    assert views["normal"]["top1"] == made.metrics["top1"]
    assert views["normal"]["loss"] == 0
    for view in views.values():
        assert view["loss"] == pytest.approx(views["normal"]["top1"] - view["top1"])
        assert view["loss_low"] <= view["loss"] <= view["loss_high"]
        assert 0 <= view["p_value"] <= 1
    assert audit["order_score"] == views["shuffled"]["loss"]
    assert audit["time_score"] == views["middle"]["loss"]
    for each in audit["classes"]:
        assert each["order_score"] == pytest.approx(each["top1"]["normal"] - each["top1"]["shuffled"])
    assert sum(each["videos"] for each in audit["classes"]) == 10
    with (tested / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["part"] for row in rows) == {"all": 8, "subset": 16, "class": 24}
    assert len(assert_loads_nothing((tested / "a.html").read_text()).all("svg")) == 3


def test_an_order_of_the_audit_is_a_test_with_that_order(home, capsys):
    options = ["--ckpt_path=weights/last.ckpt", "--data.clip.views.order=shuffled", "--data.loading.eval_batch_size=2"]
    assert configured("test", *options, "--record.name=shuffled") == 0
    alone = Record.read(Path("results/records/shuffled.json"))
    (view,) = (
        view for view in json.loads(Path("a.json").read_text())["sections"][0]["views"] if view["order"] == "shuffled"
    )
    assert view["top1"] == alone.metrics["top1"]
    normal = Record.read(Path("results/records/mine.json"))
    assert alone.details.settings["data.clip.views.order"] == "shuffled"
    assert "data.clip.views.order" not in normal.details.settings
    assert alone.identity.settings != normal.identity.settings
    capsys.readouterr()
    assert run("leaderboard", "results", "--csv=board.csv", "--allow_dirty") == 0
    with Path("board.csv").open() as file:
        board = {row["views"]: row for row in csv.DictReader(file)}
    assert board.keys() == {"1x1", "1x1 shuffled"}
    assert board["1x1"]["comparison"] != board["1x1 shuffled"]["comparison"]
    assert {row["rank"] for row in board.values()} == {"1"}  # each among its own kind
    audit = json.loads(Path("a.json").read_text())
    for field in ("order_score", "time_score"):
        assert float(board["1x1"][field]) == pytest.approx(audit[field], abs=0.006)
        assert board["1x1 shuffled"][field] == ""
    error = refused(capsys, "shuffled")
    assert "was tested with data.clip.views.order shuffled" in error


def test_an_audit_of_other_scores_is_no_column(home):
    assert run("verify", "results") == 0
    edited(Path("results/audits/mine.json"), "predictions", value="0" * 32)
    assert run("leaderboard", "results", "--csv=board.csv", "--allow_dirty") == 0
    with Path("board.csv").open() as file:
        assert {(row["order_score"], row["time_score"]) for row in csv.DictReader(file)} == {("", "")}
    assert run("verify", "results") == 1


def test_two_audits_of_one_record_that_differ_are_refused(home, capsys):
    shutil.copytree("results", "more")
    words = ["leaderboard", "results", "more", "--allow_dirty"]
    assert run(*words) == 0
    edited(Path("more/audits/mine.json"), "time_score", value=-1.0)
    assert run(*words) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "more/audits/mine.json and results/audits/mine.json are of one record and differ: time_score" in error


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("order_score", "much", "order_score is 'much'"),
        ("time_score", 101.0, "time_score is 101.0; allowed: -100 to 100"),
        ("schema_version", 9, "schema_version is 9; this vlbench reads 1"),
        ("identity", None, "identity is None"),
    ],
)
def test_a_file_that_is_no_audit_is_named(home, capsys, field, value, said):
    edited(Path("results/audits/mine.json"), field, value=value)
    assert run("leaderboard", "results", "--allow_dirty") == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "results/audits/mine.json is not an audit of vlbench" in error
    assert said in error


def test_other_videos_are_refused(home, capsys):
    (home / "videos/test/running/test10.mp4").rename(home / "videos/test/running/other.mp4")
    error = refused(capsys, "mine")
    made = Record.read(Path("results/records/mine.json"))
    assert "was tested on other videos or classes than the DataModule lists now" in error
    assert f"identity.test_videos is {made.identity.test_videos} there and" in error


def test_other_weights_are_refused(home, capsys):
    import torch

    content = torch.load("weights/last.ckpt", weights_only=False)
    name = next(key for key, value in content["state_dict"].items() if value.is_floating_point())
    content["state_dict"][name] += 1e-3
    torch.save(content, "weights/last.ckpt")
    error = refused(capsys, "mine")
    made = Record.read(Path("results/records/mine.json"))
    assert f"identity.weights is {made.identity.weights} there and" in error


def test_a_video_that_cannot_be_read_any_more_is_named(home, capsys):
    (home / "videos/test/waving/test20.mp4").write_bytes(b"no video either")
    error = refused(capsys, "mine")
    assert "waving/test20.mp4 can be read there alone" in error


def test_other_code_is_refused(home, capsys, monkeypatch):
    from vlbench.methods.mote.module import MoTE

    score = MoTE.score
    monkeypatch.setattr(MoTE, "score", lambda self, video, classes: -score(self, video, classes))
    assert "was tested by other code than this, or on another device" in refused(capsys, "mine")


def test_missing_files_are_named(home, capsys):
    Path("weights/last.ckpt").rename("weights/best.ckpt")
    assert "the checkpoint weights/last.ckpt does not exist" in refused(capsys, "mine")
    Path("weights/best.ckpt").rename("weights/last.ckpt")
    assert "--ckpt_path is given without --config" in refused(capsys, "mine", "--ckpt_path=weights/last.ckpt")
    Path("results/predictions/mine.safetensors").unlink()
    assert "results/predictions/mine.safetensors cannot be read" in refused(capsys, "mine")
    assert "no record 'other'" in refused(capsys, "other")


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("moves.txt", "jumping", "--subset has 'moves.txt'; allowed: a name"),
        ("all=moves.txt", "jumping", "--subset has 'all=moves.txt'; allowed: a name"),
        ("a=none.txt", "", "none.txt, which is not a file"),
        ("a=moves.txt", "jumpin", "moves.txt:1: jumpin is no class of the record: did you mean jumping?"),
        ("a=moves.txt", "\n", "names no class"),
        ("a=moves.txt", "jumping\nJumping", "names jumping twice"),
        (
            "a=names.csv",
            "id,label\n0,jumping",
            "names.csv:1: the header lacks name or class or class_name; its columns: id, label",
        ),
    ],
)
def test_subsets_that_are_none_are_refused(home, capsys, option, content, said):
    Path("names.csv" if "csv" in option else "moves.txt").write_text(content)
    assert said in refused(capsys, "mine", "--subset", option)


def test_a_record_without_a_command_takes_the_configurations_of_its_test(tmp_path):
    path = store(tmp_path, "mine", np.eye(4), range(4), protocol="few_shot@1", seed=3)
    made = StoredEvaluation.load(str(path), tmp_path).record
    with pytest.raises(ConfigError, match=r"does not say which command line tested it.*give --config"):
        command_of(made, path, (), None)
    words = command_of(made, path, ("a.yaml", "b.yaml"), Path("w.ckpt"))
    assert words[:5] == ["test", "--config", "a.yaml", "--config", "b.yaml"]
    assert {"--record.protocol=few_shot@1", "--seed_everything=3", "--ckpt_path=w.ckpt"} < set(words)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"weights": "other"}, "identity.weights is w there and other here"),
        ({"test_videos": "other"}, "identity.test_videos is None there and other here"),
        ({"frames": 16}, "they differ in frames; give the configurations"),
        ({"settings": "0ther"}, "they differ in settings, prompts=video there and prompts=mote here"),
    ],
)
def test_what_differs_is_said(changed, said):
    made = record(50, settings="5e77", classes=["a"])
    object.__setattr__(made.details, "settings", {"prompts": "video"})
    now = record(50, **changed).identity
    settings = {"prompts": "mote" if "settings" in changed else "video"}
    if said is None:
        check_same(made, Path("r.json"), now, settings)
        return
    with pytest.raises(DataError) as error:
        check_same(made, Path("r.json"), now, settings)
    assert said in str(error.value)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_scores_are_high_where_order_decides_and_low_where_it_does_not(workplace):
    """The classes of shapes-s differ in the order of their frames, those of shapes-u in their objects."""
    assert run("run", "--suite", "audit.yaml", "--out", "out") == 0
    audits = {}
    for path in sorted(Path("out/records").iterdir()):
        assert run("audit", str(path)) == 0
        audits[path.stem] = json.loads((Path("out/audits") / path.name).read_text())
    clip = audits["few_shot-synthetic-zero_shot-test"]["sections"][0]
    (shuffled,) = (view for view in clip["views"] if view["order"] == "shuffled")
    assert shuffled["loss_low"] <= 0 <= shuffled["loss_high"]
    assert audits["few_shot-synthetic-mote-8shot-seed0-test"]["order_score"] > 20
    assert audits["few_shot-synthetic-msta-8shot-seed0-test"]["order_score"] > 10
    for method in ("zero_shot-test", "mote-seed0-test", "msta-seed0-test"):
        assert audits[f"zero_shot-synthetic-{method}"]["order_score"] < 5
