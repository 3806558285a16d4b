"""ST-Adapter against the outputs of its released code."""

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
    train_on,
)
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.backbones.layouts import FrameMajor
from vlbench.cli.main import main
from vlbench.methods import STAdapter
from vlbench.methods.parts.linear_head import LinearHead
from vlbench.methods.st_adapter.blocks import BlockAdapters, PatchAdapter, STAdapterBlock
from vlbench.methods.st_adapter.released import st_adapter
from vlbench.optim import Schedule

pytestmark = pytest.mark.quick

TRAINED = re.compile(r"fc\..+|.*\.adapter_pre_.+")


def ours(name, first):
    """Our name of a parameter by its released one, the first adapted block being `first`."""
    if name.startswith("fc."):
        return name.replace("fc.", "head.")
    if match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.adapter_pre_(attn|mlp)\.(.+)", name):
        place = {"attn": "before_attention", "mlp": "before_mlp"}[match[2]]
        return f"adapters.{int(match[1]) - first}.{place}.{match[3]}"
    return f"backbone.clip.visual.{name}"


def options(config):
    return {
        "blocks": config["al"], "bottleneck": config["aw"], "before_attention": config["pre_attn"],
        "kernel": tuple(config["k"]), "lr": config["lr"],
    }  # fmt: skip


def built(golden, folder):
    """The method of a case, with its weights read from a file as the released code saves them."""
    config = golden.facts["config"]
    state = {name: value.float() for name, value in golden.state().items()}
    trained = {name: value for name, value in state.items() if TRAINED.fullmatch(name)}
    torch.save({"model": trained, "next_epoch": 1}, folder / "released.pth")
    backbone = partial(clip_of, state, folder / "clip.pt")
    imported = st_adapter(folder / "released.pth", backbone())
    assert imported.classes == config["n"]
    method = train_on(STAdapter(backbone(), **options(config)), map(str, range(config["n"])))
    method.load_state_dict({**method.state_dict(), **imported.state})
    return method


def first_of(golden):
    return golden.facts["config"]["layers"] - golden.facts["config"]["al"]


@pytest.mark.parametrize("golden", golden_cases("st_adapter/st_adapter", "out.frame_cls"))
def test_evaluation(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    pixels = method.backbone.normalize(golden["in.video_u8"].flatten(0, 1))
    with torch.no_grad():
        tokens = method.encode_frames(pixels)
        close(tokens, golden["out.frame_cls"].flatten(0, 1), 1e-5)
        close(method.pool_frames(tokens), golden["out.video_feature"].flatten(0, 1), 1e-5)
        x = method.backbone.visual.embed(pixels[0])
        for index in range(golden.facts["config"]["layers"]):
            x = method.backbone.image.run(x, FrameMajor(len(x)), start=index, stop=index + 1)
            close(x, golden[f"out.block{index}_first"], 1e-5)
    check_scores(method, golden, tokens)


@pytest.mark.parametrize("golden", golden_cases("st_adapter/st_adapter", "train.loss"))
def test_training(golden, tmp_path):
    """A step of released code decays the last adapter, which never has a gradient; here it stays as it began."""
    method = built(golden, tmp_path).train()
    name, dead = partial(ours, first=first_of(golden)), golden.facts["config"]["layers"] - 1
    dead = (f"transformer.resblocks.{dead}.adapter_pre_mlp.",)
    with torch.no_grad():
        close(loss_of(method, golden, None), golden["train.nodropout_loss"], 1e-5)
    loss = loss_of(method, golden, golden["train.dropout_keep"])
    close(loss, golden["train.loss"], 1e-5)
    loss.backward()
    check_gradients(method, golden, name, dead=dead)
    check_step(method, golden, name, dead=dead)
    assert method.leaves_parameters_unused


@pytest.mark.parametrize("golden", golden_cases("st_adapter/block", "out.tokens"))
def test_a_block(golden):
    """One block alone, cut out of a larger case."""
    config, state = golden.facts["config"], golden.state()
    adapters = BlockAdapters(config["width"], config["aw"], tuple(config["k"]), before_attention=config["pre_attn"])
    for place, adapter in (("attn", adapters.before_attention), ("mlp", adapters.before_mlp)):
        if adapter is not None:
            prefix = f"adapter_pre_{place}."
            own = {name.removeprefix(prefix): value.float() for name, value in state.items() if name.startswith(prefix)}
            adapter.load_state_dict(own)
    block = STAdapterBlock(block_of(golden), adapters)
    with torch.no_grad():
        out = block(golden["in.tokens"], FrameMajor(config["T"]))
        close(out, golden["out.tokens"], 1e-5)
        close(block(golden["in.tokens"], FrameMajor(config["T"]), 0), golden["out.tokens"][:, :1], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("st_adapter/counts"))
def test_numbers_of_parameters(golden):
    for name, counts in golden.facts.items():
        model = "ViT-B-16-quickgelu" if name.startswith("vit_b16") else "ViT-L-14-quickgelu"
        with torch.device("meta"):
            method = STAdapter(OpenCLIP(model), before_attention="b16_24x384" in name)
        assert trainable(method) == counts["trainable_without_head"]
        train_on(method, map(str, range(174 if "ssv2" in name else 400)))
        assert trainable(method) == counts["trainable"]


def trainable(method):
    return sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("golden", golden_cases("st_adapter/init"))
def test_initial_values(golden):
    torch.manual_seed(0)
    adapter, head = PatchAdapter(768, 384, (3, 1, 1)), LinearHead(768, std=0.02)
    for values in golden.facts["values"].values():
        head.use_classes([str(label) for label in range(values["fc.weight"]["shape"][0])])
        for name, stats in values.items():
            of_head = name.startswith("fc.")
            value = (head if of_head else adapter).get_parameter(
                name.removeprefix("fc.") if of_head else re.sub(r".*adapter_pre_(attn|mlp)\.", "", name)
            )
            assert list(value.shape) == stats["shape"]
            assert value.std().item() == pytest.approx(stats["std"], rel=0.02, abs=1e-12)
            assert value.mean().item() == pytest.approx(stats["mean"], abs=3e-4)
            if not of_head:
                assert value.max().item() == pytest.approx(stats["max"], rel=0.01, abs=1e-12)


@pytest.mark.parametrize("golden", golden_cases("st_adapter/schedule"))
def test_learning_rates(golden):
    for facts in golden.facts.values():
        schedule = Schedule(warmup_epochs=facts["warmup_epochs"])
        steps = {"steps_per_epoch": facts["steps_per_epoch"], "total_steps": facts["epochs"] * facts["steps_per_epoch"]}
        expected = facts["lr_used_at_step"]
        rates = [facts["base_lr"] * schedule.factor(step, **steps) for step in range(len(expected))]
        assert rates == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("golden", golden_cases("st_adapter/st_adapter", "files"))
def test_an_imported_checkpoint_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    config, out = golden.facts["config"], tmp_path / "st.ckpt"
    files = {role: golden.folder / said.split()[0] for role, said in golden.facts["files"].items()}
    tower = torch.load(files["clip_pretrained"], weights_only=True)
    clip_of({name.removeprefix("visual."): value for name, value in tower.items()}, tmp_path / "clip.pt")
    clip = str(tmp_path / "clip.pt")
    names = [f"class {label}" for label in range(config["n"])]
    (tmp_path / "names.txt").write_text("\n".join(names))
    command = ["weights", "import", "st_adapter", str(files["checkpoint"]), "--backbone", clip, "--out", str(out)]
    assert main(command) == 2
    assert f"scores {config['n']}, whose names the file lacks" in capsys.readouterr().err
    assert main([*command, "--classes", str(tmp_path / "names.txt")]) == 0
    said = capsys.readouterr().out
    given = {name: value for name, value in options(config).items() if name not in ("lr", "kernel")}
    assert all(f"--model.{name}={value}" in said for name, value in given.items())
    method = train_on(STAdapter(OpenAICLIP(clip), **given), names).eval()
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    pixels = method.backbone.normalize(golden["in.video_u8"].flatten(0, 1))
    with torch.no_grad():
        check_scores(method, golden, method.encode_frames(pixels))
