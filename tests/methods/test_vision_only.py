"""Networks with a linear head: their classes, what trains, and what checkpoints of them say."""

import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from pytorchvideo.models.x3d import create_x3d

from vlbench.backbones import TinyCLIP, VideoNetwork
from vlbench.cli.main import main
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import VisionOnly
from vlbench.results.record import Record

NAMES = ("red", "green", "blue")


def data(names=NAMES):
    return SimpleNamespace(train_classes=ClassList(names, tuple(range(len(names))), names))


def small(pretrained=None):
    return VideoNetwork("x3d_m", pretrained, frames=4, image_size=32)


def made(names=NAMES, backbone=None, **options):
    torch.manual_seed(0)
    method = VisionOnly(backbone or small(), **options)
    method.use(data(names))
    return method


def batch(size=3):
    video = torch.randint(0, 256, (size, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ClipBatch(video, torch.arange(size) % len(NAMES), [str(index) for index in range(size)], {})


@pytest.mark.parametrize("backbone", [small, TinyCLIP], ids=["x3d", "clip"])
def test_the_loss_is_the_cross_entropy_of_the_head(backbone):
    method = made(backbone=backbone(), dropout=0.0)
    assert method.head.weight.shape == (3, method.backbone.embed_dim)
    loss = method.training_loss(batch())["loss"]
    features = method.backbone.encode_frames(method.backbone.normalize(batch().video)).mean(dim=1)
    logits = features @ method.head.weight.T + method.head.bias
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch().labels))
    loss.backward()
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in method.named_parameters() if parameter.grad is not None} == trained
    assert {"head.weight", "head.bias"} < trained
    assert not any(name.startswith(("backbone.clip.tr", "backbone.clip.to", "backbone.clip.logit")) for name in trained)


@pytest.mark.parametrize(("trained", "count"), [("head", 3 * 2049), ("nothing", 0)])
def test_what_trains(trained, count, tmp_path):
    torch.save(reference(3).state_dict(), tmp_path / "x3d.pyth")
    method = made(backbone=small(str(tmp_path / "x3d.pyth")), trained=trained)
    assert sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad) == count
    assert sum(parameter.numel() for group in method.parameter_groups() for parameter in group["params"]) == count


def test_the_tower_has_a_rate_of_its_own():
    method = made(lr=0.1, backbone_lr_ratio=0.25)
    tower, head = method.parameter_groups()
    assert (head["lr"], tower["lr"]) == (0.1, 0.025)
    assert {*head["params"]} == {*method.head.parameters()}
    assert {*tower["params"]} == {*method.backbone.network.parameters()}


def reference(classes):
    torch.manual_seed(1)
    return create_x3d(input_clip_length=4, input_crop_size=32, model_num_class=classes)


def test_a_released_head_scores_as_many_classes_and_is_replaced_otherwise(tmp_path):
    torch.save({"model_state": reference(3).state_dict()}, tmp_path / "x3d.pyth")
    path = str(tmp_path / "x3d.pyth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = made(backbone=small(path))
    assert torch.equal(method.head.weight, reference(3).blocks[5].proj.weight)
    with torch.no_grad():
        method.head.weight.zero_()
    method.on_fit_start()  # of a training that goes on
    assert not method.head.weight.any()
    method.use(data(("one", "two", "three")))
    assert torch.equal(method.head.weight, reference(3).blocks[5].proj.weight)  # of other classes, it begins again
    with pytest.warns(UserWarning, match=r"head of .*x3d.pyth has 3 classes and the training subset 2: a new head"):
        other = made(NAMES[:2], backbone=small(path))
    assert other.head.weight.shape == (2, 2048)
    with pytest.raises(
        ConfigError, match=r"trained is 'nothing' and the head of .* 3 classes .* subset 2; train a head"
    ):
        made(NAMES[:2], backbone=small(path), trained="nothing")
    with pytest.raises(ConfigError, match=r"the head of no file has 0 classes"):
        made(trained="nothing")


def test_a_checkpoint_names_the_classes_of_its_head():
    method = made()
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    assert checkpoint["vlbench"]["class_names"] == [*NAMES]
    again = made(backbone=method.backbone)
    again.on_load_checkpoint(dict(checkpoint))
    without_data = VisionOnly(method.backbone)
    loaded = dict(checkpoint)
    without_data.on_load_checkpoint(loaded)
    without_data.load_state_dict(loaded["state_dict"])
    assert torch.equal(without_data.head.weight, method.head.weight)
    for names in (("green", "red", "blue"), NAMES[:2]):
        said = f"{len(names)} classes ({', '.join(map(repr, names))}); vision_only has no open vocabulary"
        with pytest.raises(CheckpointError, match=re.escape(said)):
            made(names, backbone=method.backbone).on_load_checkpoint(dict(checkpoint))
    del checkpoint["vlbench"]["class_names"]
    with pytest.raises(CheckpointError, match="does not name the classes"):
        made(backbone=method.backbone).on_load_checkpoint(dict(checkpoint))


def test_novel_classes_are_refused():
    method = made()
    novel = EvaluationSet(Subset(classes="novel"), ClassList(("grey",), (3,), (*NAMES, "grey")), {}, "made up")
    method.use(SimpleNamespace(train_classes=data().train_classes, sets=lambda part: [novel]))
    with pytest.raises(ConfigError, match=r"vision_only has no open vocabulary.*novel-split1 has other classes"):
        method.evaluator("test")
    assert method.encode_classes(NAMES) is None


@pytest.mark.parametrize("backbone", [small, TinyCLIP], ids=["x3d", "clip"])
def test_compiled_towers_have_the_same_keys_and_features(backbone, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda *x: compiled.append(1) or function(*x))
    method = made(backbone=backbone()).eval()
    keys, video = [*method.state_dict()], method.backbone.normalize(batch().video)
    with torch.no_grad():
        before = method.encode_video(video)
        method.compile_blocks()
        torch.testing.assert_close(method.encode_video(video), before)
    assert len(compiled) == (len(method.backbone.image.blocks) if method.backbone.capabilities.blocks else 1)
    assert [*method.state_dict()] == keys


@pytest.mark.slow
def test_a_training_and_its_test_make_a_record(workplace, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    configs = ["x3d_fewshot.yaml", "data/synthetic.yaml", "trainer/cpu.yaml", "smoke/steps.yaml", "field/x3d.yaml"]
    words = [word for name in configs for word in ("--config", name)]
    assert main(["fit", *words, "--data.train.shots=1", "--checkpoint.dirpath=checkpoints"]) == 0
    assert main(["test", *words, "--data.train.shots=1", "--ckpt_path=checkpoints/last.ckpt"]) == 0
    (path,) = Path("results/records").iterdir()
    record = Record.read(path)
    assert (record.identity.method, record.identity.backbone) == ("vision_only", "x3d_m:None")
    assert not record.identity.untrained
    assert record.details.settings["backbone.frames"] == 4
    assert "prompts" not in record.details.settings
    assert record.details.training_settings["trained"] == "all"
    assert main(["verify", "results"]) == 0
    capsys.readouterr()
    novel = ["--data.test.classes=novel", "--ckpt_path=checkpoints/last.ckpt"]
    assert main(["test", *words, *novel]) == 2
    assert "vision_only has no open vocabulary" in " ".join(capsys.readouterr().err.split())
    assert main(["rescore", str(path), "--prompts", "mote", "--config", *configs]) == 2
    assert "no prompt changes its scores" in " ".join(capsys.readouterr().err.split())
