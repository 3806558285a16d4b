"""The multi-modal adapter against the outputs of its released code."""

import inspect

import pytest
import torch
import torch.nn.functional as F

from tests.reference.adapted_clip import (
    begin_training,
    cases_where,
    check_features,
    check_gradients,
    check_imported,
    check_step,
    check_tokens,
    clip_of,
    cosines_of,
    image_of,
    imported,
    number_of_parameters,
)
from tests.reference.golden import close, golden_cases
from vlbench.methods import MMA
from vlbench.methods.parts.multimodal_adapter import BlockAdapter
from vlbench.methods.parts.prompts import templates

pytestmark = pytest.mark.quick

LAYERS = {"text_adapter": "text", "visual_adapter": "video", "shared_adapter": "shared"}
# Adapters at the embedding level, number 0, belong to no released configuration.
TRAINED = cases_where(golden_cases("mma/mma_", "video_grad_norms"), lambda config: config["start"] > 0)


def options_of(config):
    return {
        "first_block": config["start"], "last_block": config["end"], "bottleneck": config["dim"],
        "scale": config["scale"],
    }  # fmt: skip


def parameter(method, name):
    kind, block, *layer, part = name.split(".")
    side = LAYERS[kind]
    own = side if side == "shared" else f"{side}_{layer[0]}"
    return getattr(getattr(method.adapters[int(block) - method.first_block], own), part)


def built(golden, folder):
    method = MMA(clip_of(golden, folder), **options_of(golden.facts["config"]))
    weights = golden.starting("adapter.")
    assert {f"adapter_learner.{name}" for name in weights} == set(golden.facts["trainable"])
    assert len(weights) == len([*method.adapters.parameters()])
    with torch.no_grad():
        for name, value in weights.items():
            parameter(method, name).copy_(value)
    return method


def logits_of(method, clips):
    return method.training_logits(method.encode_video(method.backbone.normalize(clips)), method.train_text())


@pytest.mark.parametrize("golden", TRAINED)
def test_evaluation(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    check_features(method, golden, "no_adapter")
    scale = method.logit_factor
    close(scale * cosines_of(method, golden, image_of(golden)), golden["image.logits"], 1e-5)
    for view in range(golden["in.video_u8"].shape[1]):
        cosines = cosines_of(method, golden, golden["in.video_u8"][:, view])
        close(scale * cosines, golden["video.logits"][:, view], 1e-5)


@pytest.mark.parametrize("golden", TRAINED)
@pytest.mark.parametrize("of", ["image", "video"])
def test_losses_gradients_and_a_step(golden, tmp_path, of):
    method = begin_training(built(golden, tmp_path), golden)
    clips = image_of(golden) if of == "image" else golden["in.video_u8"][:, 0]
    loss = F.cross_entropy(logits_of(method, clips), golden["in.labels"])
    close(loss, golden[f"{of}.loss"], 1e-4)  # a difference of large logits
    loss.backward()
    check_gradients(golden, f"{of}.grad.", lambda name: parameter(method, name).grad)
    if of == "video":
        check_step(method, golden, "video.after_step.", lambda name: parameter(method, name))


@pytest.mark.parametrize("golden", golden_cases("mma/schedule", "cases"))
def test_learning_rates(golden):
    for case in golden.facts["cases"].values():
        expected = case["lr_in_epoch"]
        schedule = inspect.signature(MMA).parameters["schedule"].default
        for step in range(3 * len(expected)):
            factor = schedule.factor(step, steps_per_epoch=3, total_steps=3 * len(expected))
            assert golden.facts["base_lr"] * factor == pytest.approx(expected[step // 3], rel=1e-9)


@pytest.mark.parametrize("golden", golden_cases("mma/prompts", "token_ids"))
def test_prompts(golden):
    method = object.__new__(MMA)
    method.__dict__.update(templates=templates("photo"))
    check_tokens(method, golden)


@pytest.mark.parametrize("golden", golden_cases("mma/init_stats", "values"))
def test_initial_values(golden):
    torch.manual_seed(0)
    adapter = BlockAdapter(768, 512, 32, temporal=False)
    for name, stats in golden.facts["values"].items():
        kind, _, *layer, part = name.split(".")
        side = LAYERS[kind]
        values = getattr(getattr(adapter, side if side == "shared" else f"{side}_{layer[0]}"), part)
        assert list(values.shape) == stats["shape"]
        assert values.std().item() == pytest.approx(stats["std"], rel=0.05)
        assert values.mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("golden", golden_cases("mma/counts"))
def test_numbers_of_parameters(golden):
    for name, counts in golden.facts.items():
        model = f"{name[:8].replace('/', '-')}-quickgelu"
        assert number_of_parameters(MMA, model) == counts["trainable"]


@pytest.mark.parametrize("golden", golden_cases("mma/mma_ckpt", "files"))
def test_an_imported_checkpoint_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    options = options_of(golden.facts["config"])
    method = imported(MMA, golden, tmp_path, monkeypatch, **options)
    said = capsys.readouterr().out
    assert all(f"--model.{name}={options[name]}" in said for name in ("first_block", "last_block", "bottleneck"))
    check_imported(method, golden, "image.logits", "video.logits")
