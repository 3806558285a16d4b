"""`vlbench weights export` of methods on fixed classes: what it takes, says, refuses and leaves alone."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.deploy.methods import NAMES, moved
from tests.deploy.test_formats import needs_onnx
from tests.test_docs import ROOT, blocks
from vlbench.backbones import TinyCLIP
from vlbench.cli.main import main
from vlbench.clips.options import Views
from vlbench.clips.readers import TestViews
from vlbench.datasets.specs import VideoItem
from vlbench.deploy import KEY, FixedClasses
from vlbench.methods import MSTA, OST, NearestMean, ZeroShot

FRAMES = 4
OPTIONS = {"MSTA": {"blocks": 2, "bottleneck": 64}, "OST": {}, "NearestMean": {}}


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def configuration(kind):
    model = {
        "class_path": kind.__name__,
        "init_args": {"backbone": {"class_path": "TinyCLIP"}, **OPTIONS[kind.__name__]},
    }
    clip = {"sampling": "uniform", "test_short_side": 1.25, "views": {"clips": 2, "crops": 1}}
    return {"seed_everything": 0, "model": model, "data": {"frames": FRAMES, "clip": clip}}


def checkpoint(kind, path, *, configured=True):
    """A file as a training leaves it, without the training."""
    method = moved(kind, depth=None)
    method.configuration = configuration(kind) if configured else None
    content = {"state_dict": dict(method.state_dict())}
    method.on_save_checkpoint(content)
    torch.save(content, path)
    return method


def export(*words):
    return main(["weights", "export", *map(str, words)])


@pytest.fixture
def names(workplace):
    Path("classes.txt").write_text("\n".join(NAMES))
    return "classes.txt"


def test_a_checkpoint_alone_becomes_a_program(names, capsys):
    method = checkpoint(MSTA, "last.ckpt")
    assert export("last.ckpt", "--classes", names, "--format", "torch_export", "--out", "msta.pt2") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("wrote msta.pt2: msta, 4 fixed classes, views of 4 frames of 32 x 32 pixels, ")
    assert second.startswith("checked against the method: probabilities differ by ")
    extra = {KEY: ""}
    program = torch.export.load("msta.pt2", extra_files=extra).module()
    said = json.loads(extra[KEY])
    assert (said["classes"], said["frames"], said["short_side"]) == (list(NAMES), FRAMES, 40)
    assert (said["views"]["clips"], said["sampling"]) == (2, "uniform")
    assert said["weights"] == method.trained_digest()
    pixels = torch.randint(0, 256, (2, 2, FRAMES, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad(), method.evaluation_weights():
        torch.testing.assert_close(program(pixels), FixedClasses(method, NAMES, FRAMES)(pixels), rtol=0, atol=1e-5)


def test_what_a_checkpoint_does_not_say_configurations_do(names, capsys):
    checkpoint(MSTA, "old.ckpt", configured=False)
    Path("training.yaml").write_text(yaml.safe_dump(configuration(MSTA)))
    Path("data.yaml").write_text(
        yaml.safe_dump({"data": {"init_args": {"frames": 2, "clip": {"test_short_side": 1.0}}}})
    )
    command = ["old.ckpt", "--classes", names, "--format", "torch_export", "--out", "msta.pt2"]
    assert export(*command) == 2
    assert "give the configurations of its training by --config" in capsys.readouterr().err
    assert export(*command, "--config", "training.yaml", "data.yaml") == 0
    assert "views of 2 frames of 32 x 32" in capsys.readouterr().out


def test_a_method_that_nothing_trains_of_has_no_checkpoint(names, capsys):
    configs = ["--config", "zero_shot.yaml", "backbone/tiny.yaml"]
    assert export("--out", "zero.pt2", "--format", "torch_export", "--classes", names, *configs) == 0
    assert "wrote zero.pt2: zero_shot, 4 fixed classes, views of 8 frames" in capsys.readouterr().out
    trained = ["--config", "msta_fewshot.yaml", "backbone/tiny.yaml"]
    assert export("--out", "msta.pt2", "--format", "torch_export", "--classes", names, *trained) == 2
    assert "msta trains, and its weights are in no configuration; give a checkpoint" in capsys.readouterr().err
    assert export("--out", "none.pt2", "--format", "torch_export", "--classes", names) == 2
    assert "there is no checkpoint; give one, or the --config" in capsys.readouterr().err


def test_a_head_has_its_own_classes(names, capsys):
    checkpoint(NearestMean, "head.ckpt")
    assert export("head.ckpt", "--out", "head.pt2", "--format", "torch_export") == 0
    assert "nearest_mean, 4 fixed classes" in capsys.readouterr().out
    Path("others.txt").write_text("\n".join(NAMES[::-1]))
    assert export("head.ckpt", "--out", "other.pt2", "--format", "torch_export", "--classes", "others.txt") == 2
    assert "it scores its 4 training classes in their order" in capsys.readouterr().err
    assert not Path("other.pt2").exists()


def test_descriptions_that_a_dataset_ships_are_used(names, capsys):
    checkpoint(OST, "ost.ckpt")
    assert export("ost.ckpt", "--classes", names, "--out", "ost.safetensors") == 2
    assert "ships no descriptions; give model.descriptions" in capsys.readouterr().err
    # Those of the synthetic set are read; in OST's templates they are too long for the tiny CLIP.
    assert export("ost.ckpt", "--classes", "synthetic", "--out", "ost.safetensors") == 2
    assert "'A video of a red ring rising" in capsys.readouterr().err


def test_fixed_classes_are_not_tested(names, capsys):
    checkpoint(MSTA, "last.ckpt")
    assert export("last.ckpt", "--classes", names, "--out", "msta.safetensors") == 0
    capsys.readouterr()
    configs = ["msta_fewshot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    words = [part for name in configs for part in ("--config", name)]
    assert main(["test", *words, "--ckpt_path", "msta.safetensors"]) == 2
    assert "msta.safetensors has the weights of a program on fixed classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "msta.onnx", "--format", "torch_export", "--classes", "classes.txt"], "a name that ends in .pt2"),
        (["--out", "msta.pt2", "--format", "onnx", "--classes", "classes.txt"], "a name that ends in .onnx"),
        (["--out", "msta.pt2", "--format", "torch_export"], "classes is null, and msta scores any classes"),
        (
            ["--out", "msta.safetensors"],
            "give --classes with a dataset, such as ucf101, or a file with one name a line",
        ),
        (["--out", "msta.pt2", "--format", "torch_export", "--classes", "ucf10"], "ucf10"),
        (["--out", "msta.pt2", "--format", "pt2", "--classes", "classes.txt"], "pt2"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(words, message, names, capsys):
    checkpoint(MSTA, "last.ckpt")
    assert export("last.ckpt", *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["classes.txt", "last.ckpt"]


def test_a_damaged_checkpoint_is_named(names, capsys):
    checkpoint(MSTA, "last.ckpt")
    whole = Path("last.ckpt").read_bytes()
    Path("last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert export("last.ckpt", "--classes", names, "--format", "torch_export", "--out", "msta.pt2") == 2
    assert "last.ckpt cannot be read as a checkpoint" in capsys.readouterr().err


def test_a_checkpoint_without_frames_needs_them(names, capsys):
    method = moved(MSTA, depth=None)
    method.configuration = {key: value for key, value in configuration(MSTA).items() if key != "data"}
    content = {"state_dict": dict(method.state_dict())}
    method.on_save_checkpoint(content)
    torch.save(content, "last.ckpt")
    assert export("last.ckpt", "--classes", names, "--format", "torch_export", "--out", "msta.pt2") == 2
    assert "the number of frames of a view is not known; give a --config with data.frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "script"),
    [pytest.param("onnx", "classify_onnx.py", marks=needs_onnx), ("torch_export", "classify_torch.py")],
)
def test_the_documented_scripts_name_the_class(kind, script, names, rendered, capsys, monkeypatch):
    """As they are written, on a video of shapes-s, with the probabilities that vlbench's views of it have."""
    video = min(rendered.rglob("*.mp4"))
    out = {"onnx": "zero.onnx", "torch_export": "zero.pt2"}[kind]
    configs = ["--config", "zero_shot.yaml", "backbone/tiny.yaml"]
    assert export("--out", out, "--format", kind, "--classes", names, *configs) == 0
    for block in blocks((ROOT / "docs" / "deployment.md").read_text()):
        if block.title:
            Path(block.title).write_text(block.text)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setattr(sys, "argv", [script, out, str(video)])
    monkeypatch.delitem(sys.modules, "pixels", raising=False)
    capsys.readouterr()
    runpy.run_path(script, run_name="__main__")
    monkeypatch.delitem(sys.modules, "pixels")
    said = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    item = VideoItem(video, 0, "video")
    clip = TestViews([item], frames=8, sampling="uniform", views=Views(), size=32, resize=32, backend="pyav")[0]
    with torch.no_grad():
        method = ZeroShot(TinyCLIP(), prompts="video").eval()
        probabilities = FixedClasses(method, NAMES, 8)(clip.crops[0].cut(clip.video)[None])[0]
    values, order = probabilities.sort(descending=True)
    assert [name for _, name in said] == [NAMES[index] for index in order[:3]]
    # pillow's cubic interpolation rounds another way than torchvision's.
    assert [float(value) for value, _ in said] == pytest.approx(values[:3].tolist(), abs=5e-3)
