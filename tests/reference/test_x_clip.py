"""X-CLIP against the outputs of its released code."""

import sys

import pytest
import torch

from tests.reference.golden import Case, close, golden_cases, unit
from tests.reference.vifi_line import (
    begin_training,
    check_gradients,
    check_losses,
    check_mixtures,
    check_rates,
    check_steps,
    check_views,
    clip_of,
)
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.backbones.weight_files import read_released
from vlbench.cli.main import main
from vlbench.methods import XCLIP
from vlbench.methods.parts.class_features import prompted
from vlbench.methods.parts.prompts import templates
from vlbench.methods.parts.released_files import CONFIGURATIONS
from vlbench.methods.x_clip.parts import Integration
from vlbench.methods.x_clip.released import own_name

pytestmark = pytest.mark.quick


def built(golden, folder, **options):
    """The method with the weights of the golden folder."""
    old, new = (Case(golden.folder / f"weights_{part}.json") for part in ("clip", "new"))
    method = XCLIP(clip_of(old, folder), frames=old.facts["arch"]["T"], **options)
    state = {own_name(name): value.float() for name, value in new.state().items()}
    own = method.state_dict()
    assert state.keys() <= own.keys()
    method.load_state_dict({**own, **state})
    return method


def named(method, facts):
    """Parameters by the released names that a case has."""
    own = dict(method.named_parameters())
    return {name: own[own_name(name)] for name in (*facts["trainable"], *facts["frozen"])}


def check_evaluation(method, golden):
    with torch.no_grad():
        classes = method.encode_classes(golden.facts["class_names"])
        close(classes, golden["out.text_features_raw"], 1e-5)
        frames = method.encode_frames(golden["in.video"].float())
        close(frames.frames, golden["out.frame_features"], 1e-5)
        close(frames.patches, golden["out.patch_features_time_mean"], 1e-5)
        videos = method.pool_frames(frames)
        close(videos.video, unit(golden["out.video_features_raw"]), 1e-5)
        close(method.generator(classes, videos.context), golden["out.prompts"], 1e-5)
        close(method.class_features(videos.context, classes), golden["out.class_features_raw"], 1e-5)
        close(method.logit_factor * method.score(videos, classes), golden["out.logits"], 1e-5)
        if "in.views" in golden.keys:
            check_views(method, classes, golden)


@pytest.mark.parametrize("golden", golden_cases("x_clip/eval", "out.logits"))
def test_evaluation(golden, tmp_path):
    check_evaluation(built(golden, tmp_path).eval(), golden)


@pytest.mark.parametrize("golden", golden_cases("x_clip/integration"))
def test_integration_over_time(golden):
    width = golden["out.video_features_raw"].shape[1]
    frames = golden["out.frame_features"]
    integration = Integration(width, golden.facts["arch"]["mit_heads"], frames.shape[1])
    integration.load_state_dict({key.removeprefix("mit."): value.float() for key, value in golden.state().items()})
    with torch.no_grad():
        close(integration(frames).mean(dim=1), golden["out.video_features_raw"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("x_clip/train", "in.cutmix.images"))
def test_mixtures(golden):
    check_mixtures(golden)


@pytest.mark.parametrize("golden", golden_cases("x_clip/train", "in.video"))
def test_losses_and_gradients(golden, tmp_path):
    method = begin_training(built(golden, tmp_path), golden)
    check_losses(method, golden)
    parameters = named(method, golden.facts)
    check_gradients(method, golden, parameters, lambda name: parameters[name].grad)
    assert method.backbone.text.token_embedding.weight.grad is None
    trained = {id(parameters[name]) for name in golden.facts["trainable"]}
    assert {id(parameter) for parameter in method.parameters() if parameter.requires_grad} == trained


@pytest.mark.parametrize("golden", golden_cases("x_clip/step"))
def test_optimizer_steps(golden, tmp_path):
    groups = golden.facts["param_groups"]
    method = built(golden, tmp_path, lr=groups[0]["lr"], weight_decay=groups[0]["weight_decay"])
    own = dict(method.named_parameters())
    places = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in method.parameter_groups()
        for parameter in group["params"]
    }
    for group in groups:
        for name in group["names"]:
            assert places.pop(id(own[own_name(name)])) == (pytest.approx(group["lr"]), group["weight_decay"]), name
    assert not places
    # Before the first block all class tokens are equal, so that queries and keys of its messages change nothing.
    noise = ("resblocks.0.message_attn.in_proj_weight",)
    check_steps(begin_training(method, golden), golden, lambda name: own[own_name(name)].detach(), noise)


@pytest.mark.parametrize("golden", golden_cases("x_clip/prompts", "prompts"))
def test_prompts(golden):
    assert prompted(golden.facts["class_names"], templates("bare")) == golden.facts["prompts"]


@pytest.mark.parametrize("golden", golden_cases("x_clip/schedule", "cases"))
def test_learning_rates(golden):
    check_rates(golden, floor="absolute")


MODELS = {"B32": "ViT-B-32-quickgelu", "B16": "ViT-B-16-quickgelu", "L14": "ViT-L-14-quickgelu"}


@pytest.mark.parametrize("golden", golden_cases("x_clip/counts", "counts"))
@pytest.mark.parametrize("size", ["B32_T8", "B16_T8", "B16_T32", "L14_T8"])
def test_numbers_of_parameters(golden, size):
    expected = golden.facts["counts"][size]
    model, _, frames = size.partition("_T")
    with torch.device("meta"):
        method = XCLIP(OpenCLIP(MODELS[model]), frames=int(frames))
    counts = {name: parameter.numel() for name, parameter in method.named_parameters()}
    trained = sum(counts[name] for name, parameter in method.named_parameters() if parameter.requires_grad)
    assert (sum(counts.values()), trained) == (expected["total"], expected["trainable"])
    for part, beginning in (("message", ".message_"), ("mit", "integration."), ("prompts", "generator.")):
        assert sum(count for name, count in counts.items() if beginning in name) == expected[part]


@pytest.mark.parametrize("golden", golden_cases("x_clip/init", "stats"))
def test_initial_values(golden):
    torch.manual_seed(0)
    with torch.device("meta"):
        backbone = OpenCLIP("ViT-B-32-quickgelu")
    own = XCLIP(backbone, frames=8).state_dict()
    for name, expected in golden.facts["stats"].items():
        values = own[own_name(name)]
        assert list(values.shape) == expected["shape"], name
        error = 6 / values.numel() ** 0.5
        assert values.std().item() == pytest.approx(expected["std"], rel=max(0.02, error), abs=1e-6), name
        assert values.mean().item() == pytest.approx(expected["mean"], abs=1e-6 + 2 * error * expected["std"]), name
        assert values.max().item() == pytest.approx(expected["max"], rel=0.3, abs=1e-6), name


@pytest.mark.parametrize("golden", golden_cases("x_clip/checkpoint", "checkpoint"))
def test_an_imported_checkpoint_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    released, out = golden.folder / golden.facts["checkpoint"], tmp_path / "x_clip.ckpt"
    # The file's own frozen text tower, and another image tower than its trained one.
    held = read_released(released, as_dictionaries=CONFIGURATIONS)["model"]
    text = {key: value.float() for key, value in held.items() if not key.startswith(("visual.", "mit.", "prompts_"))}
    weights = Case(golden.folder / "weights_clip.json")
    clip_of(weights, tmp_path)
    backbone = torch.load(tmp_path / "clip.pt")
    torch.save({**backbone, **text}, tmp_path / "clip.pt")
    clip = str(tmp_path / "clip.pt")
    assert main(["weights", "import", "x_clip", str(released), "--backbone", clip, "--out", str(out)]) == 0
    frames = golden["in.video"].shape[1]
    assert f"--model.frames={frames}" in capsys.readouterr().out
    method = XCLIP(OpenAICLIP(clip), frames=frames).eval()
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    check_evaluation(method, golden)
    assert "yacs" not in sys.modules


@pytest.mark.parametrize("golden", golden_cases("x_clip/checkpoint", "checkpoint"))
def test_a_file_with_another_text_tower_is_refused(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    weights = Case(golden.folder / "weights_clip.json")

    def other(state):
        return {**state, "text_projection": state["text_projection"] + 0.1}

    clip_of(weights, tmp_path, renamed=other)
    released, out = golden.folder / golden.facts["checkpoint"], tmp_path / "x_clip.ckpt"
    arguments = ["--backbone", str(tmp_path / "clip.pt"), "--out", str(out)]
    assert main(["weights", "import", "x_clip", str(released), *arguments]) == 2
    assert "X-CLIP freezes the text tower: give the backbone" in capsys.readouterr().err
    assert not out.exists()
