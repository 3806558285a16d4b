"""ViFi-CLIP against the outputs of its released code."""

import sys

import pytest
import torch

from tests.reference.golden import Case, close, golden_cases
from tests.reference.vifi_line import (
    begin_training,
    check_class_features,
    check_evaluation,
    check_gradients,
    check_losses,
    check_mixtures,
    check_rates,
    check_steps,
    clip_of,
)
from vlbench.backbones import OpenCLIP
from vlbench.cli.main import main
from vlbench.methods import ViFiCLIP, ZeroShot
from vlbench.methods.parts.class_features import prompted
from vlbench.methods.parts.prompts import templates

pytestmark = pytest.mark.quick


def beside(golden, name):
    return Case(golden.folder / f"{name}.json")


def weights_of(golden, folder):
    return clip_of(beside(golden, golden.facts["weights"]), folder)


def variant(golden):
    return golden.name.rpartition("_")[2]


def released_parameters(method):
    """Parameters by the names of the released code, in which the table of tokens is none."""
    names = {}
    for name, parameter in method.backbone.clip.named_parameters():
        if name.startswith("visual."):
            names[f"image_encoder.{name.removeprefix('visual.')}"] = parameter
        elif name == "logit_scale":
            names[name] = parameter
        elif name != "token_embedding.weight":
            names[f"text_encoder.{name}"] = parameter
    return names


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/eval"))
def test_evaluation(golden, tmp_path):
    check_evaluation(ViFiCLIP(weights_of(golden, tmp_path)).eval(), golden)


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/text"))
def test_class_features(golden, tmp_path):
    check_class_features(ViFiCLIP(clip_of(golden, tmp_path)).eval(), golden)


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/eval", "zs"))
def test_vanilla_clip_takes_the_bare_names(golden, tmp_path):
    method = ZeroShot(weights_of(golden, tmp_path), prompts=["{}"]).eval()
    with torch.no_grad():
        cosines = method.score(
            method.encode_video(golden["in.video"].float()), method.encode_classes(golden.facts["class_names"])
        )
    close(method.logit_factor * cosines, golden["zs.logits"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/train", "in.cutmix.images"))
def test_mixtures(golden):
    check_mixtures(golden)


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/train", "plain"))
def test_losses_and_gradients(golden, tmp_path):
    method = begin_training(ViFiCLIP(weights_of(golden, tmp_path), tuned=variant(golden)), golden)
    check_losses(method, golden)
    parameters = released_parameters(method)
    check_gradients(method, golden, parameters, lambda name: parameters[name].grad)
    assert method.backbone.text.token_embedding.weight.grad is None


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/step"))
def test_optimizer_steps(golden, tmp_path):
    decay = golden.facts["param_groups"][0]["weight_decay"]
    method = ViFiCLIP(weights_of(golden, tmp_path), tuned=variant(golden), weight_decay=decay)
    parameters = released_parameters(begin_training(method, golden))
    check_steps(method, golden, lambda name: parameters[name].detach())


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/prompts", "prompts"))
def test_prompts(golden):
    assert prompted(golden.facts["class_names"], templates("photo")) == golden.facts["prompts"]


@pytest.mark.parametrize(
    "golden", golden_cases("vifi_clip/schedule", "cases") + golden_cases("vl_prompting/schedule", "cases")
)
def test_learning_rates(golden):
    check_rates(golden)


COUNTS = golden_cases("vifi_clip/counts", "counts")


@pytest.mark.parametrize("golden", COUNTS)
@pytest.mark.parametrize("tuned", ["both", "image", "text"])
def test_numbers_of_parameters(golden, tuned):
    with torch.device("meta"):
        for size, model in (("B16", "ViT-B-16-quickgelu"), ("L14", "ViT-L-14-quickgelu")):
            method = ViFiCLIP(OpenCLIP(model), tuned=tuned)
            trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
            assert trained == golden.facts["counts"][size]["trainable"][tuned]


@pytest.mark.parametrize("golden", golden_cases("vifi_clip/checkpoint", "checkpoint"))
def test_an_imported_checkpoint_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    released, out = golden.folder / golden.facts["checkpoint"], tmp_path / "vifi.ckpt"
    texts = prompted(golden.facts["class_names"], templates("photo"))
    method = ViFiCLIP(clip_of(beside(golden, "clip_state"), tmp_path, released, texts)).eval()
    clip = str(tmp_path / "clip.pt")
    assert main(["weights", "import", "vifi_clip", str(released), "--backbone", clip, "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    check_evaluation(method, golden)
    assert "yacs" not in sys.modules
