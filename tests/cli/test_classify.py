"""`vlbench classify`: what it prints for files, folders and lists, and what it refuses."""

import contextlib
import csv
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.fakes import cut, moving_frames, write_video
from tests.pages import assert_loads_nothing
from vlbench.cli import classify as command
from vlbench.cli.classify_model import decoders, notes, wanted_model
from vlbench.cli.main import main
from vlbench.cli.weights import class_names as of_weights
from vlbench.errors import CheckpointError, ConfigError, DataError
from vlbench.evaluation.measures import Probability
from vlbench.synthetic.generate import write_clip
from vlbench.synthetic.render import render_clip

TINY = ["--config", "zero_shot.yaml", "backbone/tiny.yaml"]
CLASSES = ["a red ball", "a green flag", "a blue box"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder with a rendered video of each class, some of them deeper, and a text."""
    root = tmp_path_factory.mktemp("shapes")
    (root / "deeper").mkdir()
    for number, (name, folder) in enumerate(zip(CLASSES, ("", "deeper/", "deeper/"), strict=True)):
        colour, shape = name.split()[1:]
        frames = render_clip(np.random.default_rng(number), colour=colour, shape=shape, motion="l2r")
        write_clip(root / f"{folder}{number}.mp4", frames)
    (root / "notes.txt").write_text("no video")
    return root


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command on the tiny CLIP; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vlbench"])

    def classified(*words, model=TINY):
        code = main(["classify", *map(str, words), *model, "--device", "cpu"])
        result = capsys.readouterr()
        return SimpleNamespace(code=code, out=result.out, err=result.err)

    return classified


def lines(result):
    return [json.loads(line) for line in result.out.splitlines()]


def test_a_folder_is_searched_and_every_form_says_the_same(run, shapes):
    of_json = run(shapes, "--classes", *CLASSES, "--format", "jsonl", "--top", "2")
    assert of_json.code == 0
    assert of_json.err == ""
    names = [f"{shapes}/{name}" for name in ("0.mp4", "deeper/1.mp4", "deeper/2.mp4")]
    assert [line["video"] for line in lines(of_json)] == names
    assert [line["best"][0]["class"] for line in lines(of_json)] == CLASSES
    for line in lines(of_json):
        assert (line["start"], line["end"], line["error"], len(line["best"])) == (None, None, None, 2)
        first, second = (each["probability"] for each in line["best"])
        assert 1 >= first >= second >= 0
    of_csv = run(shapes, "--classes", *CLASSES, "--format", "csv", "--top", "2")
    rows = [*csv.DictReader(io.StringIO(of_csv.out))]
    assert [(row["video"], row["rank"], row["class"], float(row["probability"])) for row in rows] == [
        (line["video"], str(rank), each["class"], each["probability"])
        for line in lines(of_json)
        for rank, each in enumerate(line["best"], 1)
    ]
    table = run(shapes, "--classes", *CLASSES).out
    for line in lines(of_json):
        assert f"{line['best'][0]['probability']:.3f}" in table
    assert table.count("a red ball") == 3


LISTS = {
    "classes.txt": "\ufeffa red ball\r\n\r\n  a green flag\r\na blue box",
    "classes.csv": "id,Name\n0,a red ball\n\n1,a green flag\n2,a blue box\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_classes_may_be_in_a_file(name, tmp_path):
    (tmp_path / name).write_bytes(LISTS[name].encode())
    assert command.class_names([str(tmp_path / name)]) == CLASSES
    assert of_weights(str(tmp_path / name)) == CLASSES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"run\n\nrun\n", "a.txt names run twice; a list of classes has each once"),
        ("a.txt", b"\n \n", "a.txt names no class"),
        ("a.txt", b"caf\xe9\nrun\n", "a.txt is not UTF-8 text"),
        ("a.csv", b"run\nsit\n", "a.csv:1: the header lacks name or class or class_name; its columns: run"),
        ("a.csv", b"id,name\n0,run\n1\n", "a.csv:3: 1 fields where the header has 2"),
        ("a.csv", b"id,name\n0,run\n1, \n", "a.csv:3: the row has no name of a class; give one, or remove the row"),
    ],
)
def test_a_file_that_leaves_doubts_about_the_classes_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    for read in (lambda path: command.class_names([path]), of_weights):
        with pytest.raises((ConfigError, DataError), match=re.escape(message)):
            read(str(tmp_path / name))


def test_a_list_comes_on_standard_input(run, shapes, monkeypatch):
    files = [f"{shapes}/0.mp4", f"{shapes}/deeper/1.mp4"]
    forms = (
        "\n".join(["", *files, ""]),
        "\r\n".join(files),
        "\0".join([*files, ""]),
        "\n".join(map(json.dumps, files)),
        "\ufeff" + "\r\n".join(files),
        f"{files[0]}\n{shapes}/deeper\n{files[0]}\n",  # a folder, and a name twice
    )
    for form in forms:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(form.encode())))
        result = run("-", "--classes", *CLASSES, "--format", "jsonl")
        videos = [line["video"] for line in lines(result)]
        assert videos[:2] == files
        assert len(set(videos)) == len(videos)
        assert result.code == 0


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a\xff.mp4\n b .mp4 \n\n", ["a\udcff.mp4", " b .mp4 "]),
        (b'"a".mp4\0b\n.mp4\r\0', ['"a".mp4', "b\n.mp4"]),
        (b'"a\\nb.mp4"\n"\xc3\xa9"\r\n', ["a\nb.mp4", "é"]),
    ],
)
def test_names_in_a_list_are_what_their_bytes_say(monkeypatch, content, names):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert command.video_paths(["-"]) == names


def test_names_that_are_no_text_stay_in_their_line(run, shapes, tmp_path, monkeypatch):
    odd = "a\nb\udcff\x1b[31m.mp4"
    (tmp_path / odd).write_bytes((shapes / "0.mp4").read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(odd).encode())))
    result = run("-", "--classes", *CLASSES, "--format", "jsonl")
    assert [line["video"] for line in lines(result)] == [odd]
    for form in ("table", "csv"):
        out = run(odd, "--classes", *CLASSES, "--format", form).out
        assert "a\\nb\\udcff\\u001b[31m.mp4" in out
        assert "\x1b[31m" not in out
    gone = run(f"{odd}.gone", "--classes", *CLASSES, "--format", "jsonl")
    assert gone.code == 1
    assert gone.err.splitlines()[0].startswith('unreadable: "a\\nb\\udcff\\u001b[31m.mp4.gone": ')


KINDS = {
    "rotated.mp4": {"codec": "libx264", "rotation": 90},
    "b_frames.avi": {"codec": "mpeg4", "bframes": 2},
    "ten_bit.mp4": {
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "options": {"x265-params": "log-level=none:pools=none"},
    },
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=none:frame-threads=1"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "lp=1"}},
    "h264.mkv": {"codec": "libx264", "bframes": 2},
    "h264.mov": {"codec": "libx264"},
}


def test_eight_formats_one_of_them_damaged(run, tmp_path):
    folder = tmp_path / "formats"
    folder.mkdir()
    made = {name: kind for name, kind in KINDS.items() if kind["codec"] in av.codecs_available}
    for name, kind in made.items():
        write_video(folder / name, moving_frames(20, 64, 96), **kind)
    cut(folder / "h264.mov", folder / "damaged.mp4", 0.5)
    assert len(made) >= 4
    result = run(folder, "--classes", *CLASSES, "--format", "jsonl", "--html", "page.html")
    assert result.code == 1
    failed = [line for line in lines(result) if line["error"]]
    assert [line["video"] for line in failed] == [f"{folder}/damaged.mp4"]
    assert failed[0]["best"] == []
    assert {line["video"] for line in lines(result) if line["best"]} == {f"{folder}/{name}" for name in made}
    assert result.err.splitlines()[-1] == f"vlbench: error: 1 of {len(made) + 1} videos cannot be read"
    assert f"unreadable: {folder}/damaged.mp4: " in result.err
    page = (tmp_path / "page.html").read_text()
    assert "<p>Videos that cannot be read: 1.</p>" in page
    elements = assert_loads_nothing(page)
    assert len(elements.all("img")) == len(made)
    assert all(image["src"].startswith("data:image/jpeg;base64,/9j/") for image in elements.all("img"))


def test_windows_have_times(run, tmp_path):
    write_video(tmp_path / "long.mp4", 50, fps=10)
    words = ["long.mp4", "--classes", *CLASSES, "--window", "2s", "--stride", "1500ms"]
    result = run(*words, "--format", "jsonl")
    assert [(line["start"], line["end"]) for line in lines(result)] == [(0, 2), (1.5, 3.5), (3, 5)]
    rows = [*csv.DictReader(io.StringIO(run(*words, "--format", "csv", "--top", "1").out))]
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [(0, 2), (1.5, 3.5), (3, 5)]
    table = run(*words, "--top", "1", "--html", "page.html").out
    assert "1.50 s" in table
    assert (tmp_path / "page.html").read_text().count("1.50 to 3.50 s") == 1


def test_names_are_text_on_the_page(run, shapes, tmp_path):
    (tmp_path / "<b>.mp4").write_bytes((shapes / "0.mp4").read_bytes())
    assert run("<b>.mp4", "--classes", "<i>", "x & y", "--html", "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert_loads_nothing(page)
    assert "<h2>&lt;b&gt;.mp4</h2>" in page
    assert "<b>" not in page
    assert "<i>" not in page


@pytest.mark.parametrize(("form", "expected"), [("jsonl", [0, 1, 2]), ("csv", [1, 3, 5])])
def test_a_line_is_printed_before_the_next_video_is_read(run, shapes, monkeypatch, form, expected):
    """Whoever reads the lines sees each as soon as it is there."""
    printed, told = [], []

    class Watched(io.StringIO):
        def flush(self):
            printed.append(len(self.getvalue().splitlines()))

    def results(*_, **__):
        from vlbench.inference import Classification

        for number in range(3):
            told.append(printed[-1] if printed else 0)
            yield Classification(f"{number}.mp4", ("a", "b"), np.array([1, 0], np.float32), None)

    monkeypatch.setattr("vlbench.inference.Model.classify_videos", results)
    monkeypatch.setattr(sys, "stdout", Watched())
    assert main(["classify", str(shapes), "--classes", "a", "b", *TINY, "--device", "cpu", "--format", form]) == 0
    assert told == expected


@pytest.fixture
def results(monkeypatch):
    """Has the command print made-up results; gives the function that takes them."""
    from vlbench.inference import Classification

    def use(*made, end=None):
        def classified(*_, **__):
            for video, failure in made:
                scores = np.array([] if failure else [1, 0], np.float32)
                yield Classification(video, ("a", "b"), scores, None, failure=failure)
            if end is not None:
                raise end

        monkeypatch.setattr("vlbench.inference.Model.classify_videos", classified)

    return use


@pytest.mark.parametrize("end", [KeyboardInterrupt(), DataError("scores are not finite")])
@pytest.mark.parametrize("count", [0, 2])
def test_what_was_read_is_told_where_something_ends_it(run, results, tmp_path, monkeypatch, end, count):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process may be interrupted afterwards
    results(*((f"{number}.mp4", "") for number in range(count)), end=end)
    (tmp_path / "page.html").write_text("an older page")
    result = run("a.mp4", "--classes", "a", "b", "--html", "page.html")
    assert result.code == {KeyboardInterrupt: 130, DataError: 1}[type(end)]
    page = (tmp_path / "page.html").read_text()
    assert (page == "an older page") == (result.out == "") == (count == 0)
    for number in range(count):
        assert f"{number}.mp4" in result.out
        assert f"<h2>{number}.mp4</h2>" in page


def test_a_page_is_written_though_nobody_reads_the_output(run, results, tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def flush(self):
            if self.getvalue().count("\n") == 2:
                raise BrokenPipeError

    results(("0.mp4", ""), ("1.mp4", ""))
    monkeypatch.setattr(sys, "stdout", Closed())
    assert run("a.mp4", "--classes", "a", "b", "--format", "jsonl", "--html", "page.html").code == 1
    assert "<h2>0.mp4</h2>" in (tmp_path / "page.html").read_text()


def test_a_video_that_fails_more_than_once_is_one_with_the_first_cause(run, results):
    results(("0.mp4", "the first"), ("0.mp4", "the second"), ("1.mp4", ""))
    result = run("0.mp4", "1.mp4", "--classes", "a", "b", "--window", "2s", "--format", "csv")
    assert result.err.splitlines() == [
        "unreadable: 0.mp4: the first",
        "vlbench: error: 1 of 2 videos cannot be read as a whole",
    ]


@pytest.mark.parametrize(
    ("form", "terminal", "shown"), [("table", True, True), ("jsonl", True, False), ("jsonl", False, True)]
)
def test_progress_is_not_between_lines(run, results, monkeypatch, form, terminal, shown):
    """A table comes after it, and lines in a file are elsewhere."""
    asked = []

    @contextlib.contextmanager
    def progress(total, *, shown):
        asked.append(shown)
        yield lambda video: None

    monkeypatch.setattr(command, "_progress", progress)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    results(("0.mp4", ""))
    run("0.mp4", "--classes", "a", "b", "--format", form)
    assert asked == [shown]


@pytest.mark.parametrize(("terminal", "total", "shown"), [(True, 3, True), (False, 3, False), (True, 1, False)])
def test_progress_is_for_terminals_and_many_videos(monkeypatch, terminal, total, shown):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    with command._progress(total, shown=True) as advance:
        for number in range(total):
            advance(f"{number}.mp4")
    assert ("classifying" in stream.getvalue()) == shown


# Where the model comes from ------------------------------------------------------------------------------------------

CONFIGS = ["mote_fewshot.yaml", "demo/mote.yaml", "data/folder.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml",
           "views/3x1.yaml"]  # fmt: skip
OPTIONS = [
    "--data.root=videos", "--data.frames=4", "--data.num_workers=0", "--data.batch_size=4", "--data.train.shots=1",
    "--model.init_args.layers=1", "--seed_everything=7",
]  # fmt: skip
STEPS = [
    "--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.logger=false",
    "--data.loading.effective_batch=3", "--data.loading.epoch_size=3", "--checkpoint.dirpath=weights",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a training of one step, and the record of its test."""
    home = tmp_path_factory.mktemp("trained")
    for part, count in (("train", 1), ("test", 2)):
        for label, name in enumerate(("jumping", "running", "waving")):
            (home / "videos" / part / name).mkdir(parents=True)
            for number in range(count):
                frames = moving_frames(12, seed=10 * label + number + 100 * (part == "train"))
                write_video(home / "videos" / part / name / f"{number}.mp4", frames)
    configs = [word for name in CONFIGS for word in ("--config", name)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "argv", ["vlbench"])
        patch.setenv("PYTHONWARNINGS", "ignore")
        assert main(["fit", *configs, *OPTIONS, *STEPS]) == 0
        assert main(["test", *configs, *OPTIONS, "--ckpt_path=weights/last.ckpt", "--record.name=mine"]) == 0
    return home


def test_a_checkpoint_alone_and_a_record_give_the_scores_of_the_test(trained, run, monkeypatch):
    monkeypatch.chdir(trained)
    stored = load_file("results/predictions/mine.safetensors")
    ids = json.loads((trained / "results" / "records" / "mine.json").read_text())["details"]
    names = ids["classes"]
    expected = np.sort(stored["scores"].numpy(), axis=1)[:, ::-1]
    for model in (["--ckpt_path", "weights/last.ckpt"], ["--record", "mine"]):
        result = run("videos/test", "--classes", *names, "--format", "jsonl", model=model)
        assert result.code == 0, result.err
        assert "initial weights" not in result.err
        # Both are in the order of the names of the videos.
        scores = np.array([[each["score"] for each in line["best"]] for line in lines(result)])
        np.testing.assert_allclose(scores, expected, atol=2e-6)
    assert len(lines(result)) == 6


def test_a_record_whose_weights_are_others_now_is_refused(trained, run, tmp_path):
    content = json.loads((trained / "results" / "records" / "mine.json").read_text())
    checkpoint = torch.load(trained / "weights" / "last.ckpt", weights_only=False)
    state = checkpoint["state_dict"]
    name = next(key for key, value in state.items() if value.is_floating_point())
    state[name] = state[name] + 1
    (tmp_path / "weights").mkdir()
    torch.save(checkpoint, tmp_path / "weights" / "last.ckpt")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "mine.json").write_text(json.dumps(content))
    words = ["a.mp4", "--classes", "a", "b"]
    result = run(*words, model=["--record", "records/mine.json"])
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "records/mine.json was tested with other weights than its command line gives now" in result.err
    (tmp_path / "weights" / "last.ckpt").unlink()
    assert "which is not there now; give the checkpoint by --ckpt_path" in run(
        *words, model=["--record", "records/mine.json"]
    ).err  # fmt: skip


@pytest.mark.parametrize(
    ("part", "field", "then", "said"),
    [
        ("identity", "frames", 16, "other frames than its command line gives now, 16 and not 4;"),
        ("identity", "views", "1x1", "other views than its command line gives now, 1x1 and not 3x1;"),
        ("identity", "method", "msta", "other method than its command line gives now, msta and not mote;"),
        ("identity", "weights", "0123", "other weights than its command line gives now, 0123 and not "),
        ("details", "backbone_digest", "0123", "other backbone than its command line gives now, 0123 and not "),
    ],
)
def test_a_record_of_another_model_is_refused(trained, run, tmp_path, monkeypatch, part, field, then, said):
    monkeypatch.chdir(trained)
    content = json.loads((trained / "results" / "records" / "mine.json").read_text())
    content[part][field] = then
    (tmp_path / "mine.json").write_text(json.dumps(content))
    result = run("a.mp4", "--classes", "a", "b", model=["--record", f"{tmp_path}/mine.json"])
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"mine.json was tested with {said}" in result.err


def test_a_record_of_a_bank_is_refused_and_one_without_a_checkpoint_has_none(trained, run, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    content = json.loads((trained / "results" / "records" / "mine.json").read_text())
    command = content["details"]["command"]
    for words, said in (
        (
            [*command, "--data=FeatureBankDataModule"],
            "is of a bank of features, and says nothing of clips; give --config",
        ),
        ([*command, "--ckpt_path=null"], "was tested with other weights than its command line gives now"),
    ):
        content["details"]["command"] = words
        (tmp_path / "mine.json").write_text(json.dumps(content))
        assert said in run("a.mp4", "--classes", "a", "b", model=["--record", f"{tmp_path}/mine.json"]).err


def test_a_record_is_looked_up_in_its_folder(trained, run, monkeypatch):
    monkeypatch.chdir(trained)
    (trained / "results").rename(trained / "elsewhere")
    try:
        words = ["videos/test/running", "--classes", "jumping", "running", "waving", "--format", "jsonl"]
        result = run(*words, "--folder", "elsewhere", model=["--record", "mine"])
    finally:
        (trained / "elsewhere").rename(trained / "results")
    assert (result.code, len(lines(result))) == (0, 2)


@pytest.mark.parametrize(
    ("option", "then", "shown"),
    [
        ("data.clip.sampling", "dense", "data.clip.sampling=dense and not data.clip.sampling=uniform"),
        ("data.clip.views.order", "reversed", "data.clip.views.order=reversed and not data.clip.views.order=normal"),
        ("prompts", "another one", "prompts=another one and not prompts="),
    ],
)
def test_a_record_whose_configuration_says_something_else_now_is_refused(
    trained, run, tmp_path, monkeypatch, option, then, shown
):
    monkeypatch.chdir(trained)
    content = json.loads((trained / "results" / "records" / "mine.json").read_text())
    assert content["details"]["settings"].get(option) != then
    content["details"]["settings"][option] = then
    (tmp_path / "mine.json").write_text(json.dumps(content))
    result = run("a.mp4", "--classes", "a", "b", model=["--record", f"{tmp_path}/mine.json"])
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"mine.json was tested with other options than its command line gives now, {shown}" in result.err


def test_without_weights_the_way_to_the_small_clip_is_named(run, monkeypatch):
    def offline(*_, **__):
        raise CheckpointError("cannot load the weights 'openai' of ViT-B-16-quickgelu: no network.")

    monkeypatch.setattr("vlbench.backbones.openclip.create_clip", offline)
    result = run("a.mp4", "--classes", "a", "b", model=[])
    assert result.code == 2
    assert "no network. For a first try without them add --config zero_shot.yaml backbone/tiny.yaml, a" in result.err


def test_the_model_is_on_the_device_that_is_asked_for(trained, monkeypatch):
    def made(config, ckpt_path, record=None, device="auto"):
        return config, ckpt_path, record, device

    monkeypatch.setattr("vlbench.cli.classify_model.model_of", made)
    ckpt, record, folder = Path("a.ckpt"), trained / "results" / "records" / "mine.json", trained / "results"
    assert wanted_model([], None, None, folder, "cuda") == (["zero_shot.yaml"], None, None, "cuda")
    assert wanted_model(["a.yaml"], None, None, folder, "cuda") == (["a.yaml"], None, None, "cuda")
    assert wanted_model([], ckpt, None, folder, "cuda") == ([], ckpt, None, "cuda")
    assert wanted_model([], None, "mine", folder, "cuda") == ([], None, record, "cuda")


def test_as_many_processes_decode_as_there_are_cores_and_videos(monkeypatch):
    monkeypatch.setattr("vlbench.cli.classify_model.cores_of_a_process", lambda processes: 8)
    model = SimpleNamespace(device=torch.device("cuda"))
    assert [decoders(model, videos) for videos in (1, 8, 9)] == [1, 8, 8]
    model.device = torch.device("cpu")
    assert decoders(model, 9) == 0


def test_scores_in_place_of_probabilities_are_said_to_be_scores():
    method = SimpleNamespace(
        name="mine", trained_keys=lambda: set(), probability=Probability(None, reason="votes are none")
    )
    for trained in (False, True):
        assert [*notes(SimpleNamespace(method=method), trained=trained)] == [
            "scores in place of probabilities: votes are none"
        ]


def test_initial_weights_are_said_to_be_initial(run, shapes):
    words = [shapes / "0.mp4", "--classes", *CLASSES]
    assert "note:" not in run(*words).err
    model = ["--config", "mote_fewshot.yaml", "demo/mote.yaml", "backbone/tiny.yaml"]
    assert "note: mote has its initial weights; give the checkpoint of its training" in run(*words, model=model).err


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.mp4"], "classes is None; allowed: two names or more"),
        (["a.mp4", "--classes", "running"], "classes is 'running', one name and no file; allowed: two names or more"),
        (["a.mp4", "--classes", "x" * 300], "one name and no file"),
        (["a.mp4", "--classes", "a", "a"], "classes are 2 names, 'a' twice"),
        (
            ["a.mp4", "--classes", "a", "b", "--window", "long"],
            "window is 'long'; allowed: a number of seconds such as",
        ),
        (["a.mp4", "--classes", "a", "b", "--window", "0s"], "window is 0.0; allowed: 0.01 to 1,000,000"),
        (["a.mp4", "--classes", "a", "b", "--stride", "1s"], "stride is 1s and there are no windows; give --window"),
        (["a.mp4", "--classes", "a", "b", "--html", "."], ". is a folder, and the name of the page"),
        (
            ["a.mp4", "--classes", "a", "b", "--html", "b.MP4"],
            "html is b.MP4; allowed: a name of a page, which ends in .html or .htm",
        ),
        (["a.mp4", "--classes", "a", "b", "--html", "/dev/null/a.html"], "--html: cannot write into /dev/null"),
        (["a.mp4", "--classes", "a", "b", "--top", "0"], "top is 0; allowed: 1"),
        (["a.mp4", "--classes", "a", "b", "--format", "xml"], "--format is 'xml'; allowed: table, jsonl, csv"),
        (["a.mp4", "--classes", "a", "b", "--record", "none"], "no record 'none'"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(run, words, message):
    result = run(*words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: {init_args: {clip: {views: null}}}", "--data.clip.views is null; allowed: a group of clips, crops"),
        ("data: {init_args: {clip: null}}", "--data.clip is null; allowed: a group of options"),
        ("data: {init_args: {frames: null}}", "frames is null; allowed: 1 to 4,096"),
        ("data: {init_args: [3]}", "data.init_args is [3]; allowed: names of options and their values"),
        ("seed_everything: true", "seed_everything is true; allowed: an integer"),
        ("seed_everything: red", "seed_everything is 'red'; allowed: an integer"),
        ("seed_everything: -1", "seed_everything is -1; allowed: 0 to"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_one_sentence(run, tmp_path, content, message):
    (tmp_path / "mine.yaml").write_text(content)
    result = run("a.mp4", "--classes", "a", "b", model=[*TINY, "mine.yaml"])
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err


def test_what_is_no_model_is_one_sentence(run, tmp_path):
    (tmp_path / "text.txt").write_text("a\nb\n")
    words = ["a.mp4", "--classes", "a", "b"]
    said = run(*words, model=["--config", "data/ucf101.yaml"]).err
    assert "data/ucf101.yaml configure no method: none of them has a model; add one, such as zero_shot.yaml" in said
    said = run(*words, model=["--ckpt_path", "text.txt"]).err
    assert said == "vlbench: error: text.txt cannot be read as a checkpoint: it is damaged or of another kind\n"
    (tmp_path / "text.tx").mkdir()  # is suggested for no file
    assert run(*words, model=["--ckpt_path", "text.t"]).err.endswith("did you mean text.txt?\n")


def test_names_beside_a_file_of_names_and_empty_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("classes.txt", "classes.csv"):
        (tmp_path / name).write_text("a\nb\n")
        with pytest.raises(ConfigError, match=rf"classes are 2 names, of which {name} is a file; give the file alone"):
            command.class_names([name, "a"])
    (tmp_path / "running").touch()
    assert command.class_names(["running", "jumping"]) == ["running", "jumping"]
    with pytest.raises(ConfigError, match="a name of a video is empty"):
        command.video_paths([""])


def test_a_record_goes_with_nothing_else(trained, run, monkeypatch):
    monkeypatch.chdir(trained)
    for model in (TINY, ["--ckpt_path", "weights/last.ckpt"]):
        result = run("a.mp4", "--classes", "a", "b", "--record", "mine", model=model)
        assert result.code == 2
        assert "a record says which configurations and checkpoint it is of; give either it or them" in result.err
    folder = run("a.mp4", "--classes", "a", "b", "--folder", "elsewhere")
    assert "folder is elsewhere, where a record is looked up, and there is none; give --record, too" in folder.err


def test_videos_stay_in_the_order_in_which_they_are_given():
    assert command.video_paths(["b.mp4", "a.mp4", "b.mp4"]) == ["b.mp4", "a.mp4"]
    assert command.video_paths(["x" * 300, "a\0"]) == ["x" * 300, "a\0"]  # which no file can have as its name


def test_places_without_videos_are_named(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no video; looked for \.avi, "):
        command.video_paths([str(tmp_path / "empty")])
    for content, message in ((b"\n \n", "is empty"), (b'"a\n', "is no JSON string"), (b'"a" 3\n', "is no JSON string")):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        with pytest.raises(DataError, match=message):
            command.video_paths(["-"])


def test_a_folder_that_cannot_be_searched_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "deeper")

    monkeypatch.setattr("vlbench.datasets.lists.index.FileIndex.named", refuse)
    with pytest.raises(DataError, match=r"^deeper: Permission denied; its videos would be missing, mend it$"):
        command.video_paths([str(tmp_path)])


def test_a_time_has_a_fraction_a_unit_and_a_range():
    assert [command.seconds("window", text) for text in (" .5 s ", "1.25", "20ms")] == [0.5, 1.25, 0.02]
    with pytest.raises(ConfigError, match=r"^window is 0\.009; allowed: 0\.01 to"):
        command.seconds("window", "9ms")


@pytest.mark.parametrize("text", ["", "s", "2 m", "-1s", "1e3", "nan", "inf"])
def test_a_time_is_a_number_of_seconds(text):
    with pytest.raises(ConfigError, match=r"stride is .*; allowed: a number of seconds"):
        command.seconds("stride", text)
