"""AIM against the outputs of its released code."""

import re
import sys
from functools import partial

import pytest
import torch

from tests.reference.golden import close, golden_cases
from tests.reference.image_towers import (
    block_of,
    check_gradients,
    check_scores,
    check_step,
    clip_of,
    loss_of,
    optimized,
    train_on,
)
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.backbones.layouts import FrameMajor
from vlbench.cli.main import main
from vlbench.methods import AIM
from vlbench.methods.aim.blocks import Adapter, AIMBlock, BlockAdapters
from vlbench.methods.aim.released import aim
from vlbench.methods.parts.linear_head import LinearHead
from vlbench.optim import EpochSchedule

pytestmark = pytest.mark.quick

PLACES = {"S": "space", "T": "time", "MLP": "joint", "T_in": "before_time"}
ADAPTER = re.compile(r"(S|T|MLP)_Adapter(_in)?\.D_fc([12])\.(weight|bias)")
MEAN, STD = ((122.769, 116.74, 104.04), (68.493, 66.63, 70.321))
"""The released constants of the pixels, CLIP's in grey levels, rounded."""


def of_adapter(name):
    """Our name of an adapter's parameter within its block by the released one; `None` for other parameters."""
    match = ADAPTER.fullmatch(name)
    return match and f"{PLACES[match[1] + (match[2] or '')]}.{2 * int(match[3]) - 2}.{match[4]}"


def ours(name):
    """Our name of a parameter by its released one."""
    if name.startswith("cls_head.fc_cls."):
        return name.replace("cls_head.fc_cls.", "head.")
    name = name.removeprefix("backbone.")
    if name == "temporal_embedding":
        return "positions"
    if match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(\w*Adapter.+)", name):
        return f"adapters.{match[1]}.{of_adapter(match[2])}"
    return f"backbone.clip.visual.{name}"


def options(golden):
    facts = golden.facts
    return {
        "frames": facts["config"]["T"], "adapter_scale": float(facts["adapter_scale"]),
        "adapter_before_time": facts["num_tadapter"] == 2,
    }  # fmt: skip


def training(golden):
    """Options of a training: the large recipe has another learning rate for everything but the head."""
    rates = optimized(golden.facts["optimizer"])
    (head, _), (rest, _) = rates["cls_head.fc_cls.weight"], rates["backbone.temporal_embedding"]
    return {"label_smoothing": golden.facts["label_smoothing"], "lr": head, "backbone_lr_ratio": rest / head}


def built(golden, folder):
    """The method of a case, with its weights read from a file as the released code saves them."""
    state = {name: value.float() for name, value in golden.state().items()}
    config = f"model = dict(backbone=dict(adapter_scale={golden.facts['adapter_scale']}))"
    torch.save({"meta": {"epoch": 3, "config": config}, "state_dict": state}, folder / "released.pth")
    tower = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    backbone = partial(clip_of, tower, folder / "clip.pt")
    imported = aim(folder / "released.pth", backbone())
    assert imported.header["training"]["epochs"] == 3
    assert imported.options == {**options(golden), "ratio": 0.25}
    names = map(str, range(golden.facts["config"]["n"]))
    method = train_on(AIM(backbone(), **options(golden), **training(golden)), names)
    method.load_state_dict({**method.state_dict(), **imported.state})
    mean, std = (torch.tensor(values).view(3, 1, 1) / 255 for values in (MEAN, STD))
    method.backbone.mean, method.backbone.std = mean, std
    return method


@pytest.mark.parametrize("golden", golden_cases("aim/aim", "out.frame_features"))
def test_evaluation(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    pixels = method.backbone.normalize(golden["in.video_u8"].flatten(0, 1))
    with torch.no_grad():
        frames = method.encode_frames(pixels)
        close(frames, golden["out.frame_features"].flatten(0, 1), 1e-5)
        x = method.backbone.visual.embed(pixels[0], method.positions.unsqueeze(1))
        for index in range(golden.facts["config"]["layers"]):
            x = method.backbone.image.run(x, FrameMajor(len(x)), start=index, stop=index + 1)
            close(x, golden[f"out.block{index}_first"], 1e-5)
    check_scores(method, golden, frames)


@pytest.mark.parametrize("golden", golden_cases("aim/aim", "train.loss"))
def test_training(golden, tmp_path):
    method = built(golden, tmp_path).train()
    kept = golden["train.drop_path_keep"]  # of each block but the first, for the branches of time and of the MLP
    for adapters, rate in zip(method.adapters, golden.facts["drop_path"], strict=True):
        assert adapters.drop.rate == pytest.approx(rate)
    for adapters, (time, joint) in zip(method.adapters[1:], kept, strict=True):
        adapters.drop.draw = partial(forced, [time, joint], adapters.drop.rate)
    loss = loss_of(method, golden, golden["train.dropout_keep"])
    close(loss, golden["train.loss"], 1e-5)
    loss.backward()
    check_gradients(method, golden, ours)
    check_step(method, golden, ours)
    assert not method.leaves_parameters_unused


def forced(draws, rate, x):
    """The next draw, of the positions of tokens that there are."""
    return draws.pop(0)[: x.shape[1], None] / (1 - rate)


@pytest.mark.parametrize("golden", golden_cases("aim/block", "out.tokens"))
def test_a_block(golden):
    """One block alone, cut out of a larger case."""
    config, state = golden.facts["config"], golden.state()
    adapters = BlockAdapters(
        config["width"], config["width"] // 4, before_time=golden.facts["num_tadapter"] == 2,
        scale=golden.facts["adapter_scale"], drop=0.0,
    )  # fmt: skip
    adapters.load_state_dict({own: value.float() for name, value in state.items() if (own := of_adapter(name))})
    block = AIMBlock(block_of(golden), adapters)
    with torch.no_grad():
        out = block(golden["in.tokens"], FrameMajor(config["T"]))
        close(out, golden["out.tokens"], 1e-5)
        close(block(golden["in.tokens"], FrameMajor(config["T"]), 0), golden["out.tokens"][:, :1], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("aim/counts"))
def test_numbers_of_parameters(golden):
    classes = {"k400": 400, "sthv2": 174}
    for name, counts in golden.facts.items():
        size, dataset, frames = name.split("_")
        if (frames, dataset) not in {("8f", "k400"), ("32f", "k400"), ("8f", "sthv2")}:
            continue  # others differ in the head and in the number of positions alone
        with torch.device("meta"):
            backbone = OpenCLIP("ViT-B-16-quickgelu" if size == "base" else "ViT-L-14-quickgelu")
            method = AIM(backbone, frames=int(frames[:-1]), adapter_before_time=(size, dataset) == ("base", "sthv2"))
        trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
        assert trained == counts["without_head"]
        assert trained + classes[dataset] * (backbone.image.width + 1) == counts["trainable"]


def test_the_adapters_have_the_papers_number_of_parameters():
    with torch.device("meta"):
        method = AIM(OpenCLIP("ViT-B-16-quickgelu"))
    assert sum(parameter.numel() for parameter in method.adapters.parameters()) == 10_651_392


@pytest.mark.parametrize("golden", golden_cases("aim/init"))
def test_initial_values(golden):
    torch.manual_seed(0)
    width = golden.facts["values"]["temporal_embedding"]["shape"][-1]
    adapter, head = Adapter(width, width // 4), LinearHead(width)
    for name, stats in golden.facts["values"].items():
        if name.startswith("cls_head."):
            head.use_classes([str(label) for label in range(stats["shape"][0])])
            value = head.get_parameter(name.rpartition(".")[2])
        elif "Adapter" in name:
            value = adapter.get_parameter(of_adapter(name.split(".", 3)[3]).partition(".")[2])
        else:
            continue
        assert list(value.shape) == stats["shape"]
        assert value.std().item() == pytest.approx(stats["std"], rel=0.03, abs=1e-12)
        assert value.mean().item() == pytest.approx(stats["mean"], abs=3e-4)


@pytest.mark.parametrize("golden", golden_cases("aim/schedule"))
def test_learning_rates(golden):
    for facts in golden.facts.values():
        warmup = facts["lr_config"]["warmup_iters"]
        schedule = EpochSchedule(warmup_epochs=warmup, initial_ratio=0.1, cosine_from="start")
        steps = {"steps_per_epoch": facts["steps_per_epoch"], "total_steps": facts["epochs"] * facts["steps_per_epoch"]}
        expected = facts["lr_used_at_step"]
        rates = [facts["base_lr"] * schedule.factor(step, **steps) for step in range(len(expected))]
        assert rates == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("golden", golden_cases("aim/aim", "files"))
def test_an_imported_checkpoint_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    released, out = golden.folder / golden.facts["files"]["checkpoint"], tmp_path / "aim.ckpt"
    state = torch.load(released, weights_only=True)["state_dict"]
    tower = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    clip_of(tower, tmp_path / "clip.pt")
    clip = str(tmp_path / "clip.pt")
    names = [f"class {label}" for label in range(golden.facts["config"]["n"])]
    (tmp_path / "names.txt").write_text("\n".join(names))
    command = ["weights", "import", "aim", str(released), "--out", str(out), "--classes", str(tmp_path / "names.txt")]
    assert main([*command, "--backbone", "tiny"]) == 2
    assert "does not fit" in capsys.readouterr().err
    assert main([*command, "--backbone", clip]) == 0
    said = capsys.readouterr().out
    assert all(f"--model.{name}={value}" in said for name, value in options(golden).items())
    method = train_on(AIM(OpenAICLIP(clip), **options(golden)), names).eval()
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        frames = method.encode_frames((golden["in.video_u8"].flatten(0, 1) - mean) / std)
    check_scores(method, golden, frames)
    # A tower of other weights is refused, not taken for the original one.
    clip_of({**tower, "conv1.weight": tower["conv1.weight"].add(1).half()}, tmp_path / "other.pt")
    assert main([*command, "--backbone", str(tmp_path / "other.pt")]) == 2
    assert "was trained on another tower" in capsys.readouterr().err
