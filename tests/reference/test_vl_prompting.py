"""VL prompting against the outputs of its released code."""

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
    check_steps,
    clip_of,
)
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.cli.main import main
from vlbench.methods import VLPrompting
from vlbench.methods.parts.prompts import templates

pytestmark = pytest.mark.quick


def sizes(facts):
    return {
        "image_tokens": facts["n_ctx_vision"], "text_tokens": facts["n_ctx_text"],
        "image_depth": facts["depth_vision"], "text_depth": facts["depth_text"],
    }  # fmt: skip


def place(name):
    """Tower and block of a prompt with a released name."""
    if name in ("prompt_learner.ctx", "image_encoder.VPT"):
        return ("text" if name.startswith("prompt") else "image"), 0
    return ("text" if name.startswith("text") else "image"), int(name.split(".")[3])


def prompt(method, name):
    """Learned tokens by their released name, a view of all of the tower's."""
    tower, block = place(name)
    return getattr(method, f"{tower}_prompts").tokens[block]


def is_prompt(name):
    return name == "prompt_learner.ctx" or "VPT" in name


def built(golden, folder, weights=None, **options):
    """The method of a case, with its weights."""
    weights = weights or Case(golden.folder / "weights.json")
    method = VLPrompting(clip_of(weights, folder), **{**sizes(weights.facts), **options})
    prompts = weights.starting("prompt.")
    assert len(prompts) == method.image_depth + method.text_depth
    with torch.no_grad():
        for name, value in prompts.items():
            prompt(method, name).copy_(value)
    return method


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/eval"))
def test_evaluation(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    check_evaluation(method, golden)
    tokens = method.backbone.tokenize(method.texts(golden.facts["class_names"][:1]))
    inputs = method.backbone.text.token_embedding(tokens)[0]
    expected = golden["out.text_inputs_first_class"]
    behind = 1 + method.text_tokens
    close(inputs[:1], expected[:1], 1e-6)
    close(method.text_prompts.tokens[0], expected[1:behind], 1e-6)
    close(inputs[behind:], expected[behind : len(inputs)], 1e-6)


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/text"))
def test_class_features(golden, tmp_path):
    method = built(golden, tmp_path, golden, image_depth=0)  # the case has no image tower
    check_class_features(method.eval(), golden)


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/train", "in.cutmix.images"))
def test_mixtures(golden):
    check_mixtures(golden)


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/train", "plain"))
def test_losses_and_gradients(golden, tmp_path):
    method = begin_training(built(golden, tmp_path), golden)
    check_losses(method, golden)
    trained = {name: prompt(method, name) for name in golden.facts["trainable"]}
    assert {name for name, value in method.named_parameters() if value.requires_grad} <= {
        "image_prompts.tokens", "text_prompts.tokens",
    }  # fmt: skip

    def gradient(name):
        tower, block = place(name)
        return getattr(method, f"{tower}_prompts").tokens.grad[block]

    check_gradients(method, golden, trained, gradient)


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/step"))
def test_optimizer_steps(golden, tmp_path):
    method = built(golden, tmp_path, weight_decay=golden.facts["param_groups"][0]["weight_decay"])
    begin_training(method, golden)
    frozen = dict(method.backbone.clip.named_parameters())

    def value(name):
        if is_prompt(name):
            return prompt(method, name).detach()
        return frozen[name.replace("image_encoder.", "visual.").removeprefix("text_encoder.")].detach()

    check_steps(method, golden, value)


def texts_of(facts):
    """The method's texts of a case's classes, without its weights."""
    method = object.__new__(VLPrompting)
    method.__dict__.update(text_tokens=facts["n_ctx_text"], templates=templates("name"))
    return method.texts(facts["class_names"])


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/prompts", "prompts"))
def test_prompts(golden):
    count = golden.facts["prompts"][0].split().count("X")
    assert texts_of({**golden.facts, "n_ctx_text": count}) == golden.facts["prompts"]


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/init", "stats"))
def test_initial_values(golden):
    stats = golden.facts["stats"]
    torch.manual_seed(0)
    with torch.device("meta"):
        backbone = OpenCLIP("ViT-B-32-quickgelu")
    tokens = {
        "image_tokens": stats["image_encoder.VPT"]["shape"][0], "text_tokens": stats["prompt_learner.ctx"]["shape"][0],
    }  # fmt: skip
    method = VLPrompting(backbone, **tokens)
    for name, expected in stats.items():
        values = prompt(method, name)
        assert list(values.shape) == expected["shape"]
        assert values.std().item() == pytest.approx(expected["std"], rel=0.05)
        assert values.mean().item() == pytest.approx(0, abs=1.5e-3)


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/counts", "counts"))
@pytest.mark.parametrize(("tokens", "depth"), [(10, 12), (16, 9)])
def test_numbers_of_parameters(golden, tokens, depth):
    with torch.device("meta"):
        for size, model in (("B16", "ViT-B-16-quickgelu"), ("L14", "ViT-L-14-quickgelu")):
            options = {"image_tokens": tokens, "text_tokens": tokens, "image_depth": depth, "text_depth": depth}
            method = VLPrompting(OpenCLIP(model), **options)
            trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
            expected = golden.facts["counts"][size]["vl_prompting"][f"ctx{tokens}_depth{depth}"]
            assert trained == expected["new_and_trainable"]


@pytest.mark.parametrize("golden", golden_cases("vl_prompting/checkpoint", "checkpoint"))
def test_an_imported_checkpoint_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    released, out = golden.folder / golden.facts["checkpoint"], tmp_path / "vl.ckpt"
    texts = texts_of(golden.facts)
    clip_of(Case(golden.folder / "weights.json"), tmp_path, released, texts)
    clip = str(tmp_path / "clip.pt")
    assert main(["weights", "import", "vl_prompting", str(released), "--backbone", clip, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    options = {"pretrained_from": str(tmp_path / "vl.start.ckpt"), **sizes(golden.facts)}
    assert all(f"--model.{name}={value}" in said for name, value in options.items())
    method = VLPrompting(OpenAICLIP(clip), **options).eval()
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    check_evaluation(method, golden)
