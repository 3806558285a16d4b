"""LoRA against the outputs of CLIP-LoRA's released code."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

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
from vlbench.backbones import OpenAICLIP
from vlbench.methods import LoRA
from vlbench.methods.lora.attention import LowRank
from vlbench.methods.parts.prompts import templates
from vlbench.optim import Schedule

pytestmark = pytest.mark.quick

LETTERS = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "proj": "o"}
TOWERS = {"both": "both", "vision": "image", "text": "text"}
WITH_GRADIENTS = golden_cases("lora/lora_", "image.grad")


def options_of(config):
    return {
        "rank": config["r"], "alpha": config["alpha"], "dropout": config["drop"], "parts": "".join(config["params"]),
        "towers": TOWERS[config["encoder"]], "lr": config["lr"],
    }  # fmt: skip


def term(method, module):
    """The term on a projection with a released name."""
    tower = method.backbone.image if module.startswith("visual.") else method.backbone.text
    *_, index, _, projection = module.split(".")
    return tower.blocks[int(index)].attention.terms()[LETTERS[projection]]


def matrix(method, name):
    module, _, letter = name.rpartition(".w_lora_")
    return getattr(term(method, module), {"A": "down", "B": "up"}[letter]).weight


def built(golden, folder):
    method = LoRA(clip_of(golden, folder), **options_of(golden.facts["config"]))
    weights = golden.starting("lora.")
    assert set(weights) == set(golden.facts["trainable"])
    with torch.no_grad():
        for name, value in weights.items():
            matrix(method, name).copy_(value)
    return method


class Forced(nn.Module):
    """Dropout with a mask of all tokens `(N, L, D)`, of those that are read where x has one token a sequence."""

    def __init__(self, keep, share, read):
        super().__init__()
        self.keep, self.share, self.read = keep, share, read

    def forward(self, x):
        keep = self.keep[:, : x.shape[1]] if x.shape[1] > 1 else self.keep[range(len(x)), self.read].unsqueeze(1)
        return x * keep / (1 - self.share)


def force_dropout(method, golden):
    ends = method.backbone.tokenize(golden.facts["prompts"]).argmax(dim=-1)
    for module, keep in golden.starting("image.dropout_keep.").items():
        read = 0 if module.startswith("visual.") else ends
        term(method, module).dropout = Forced(keep.float(), method.dropout, read)


def loss_of(method, golden, clips):
    logits = method.training_logits(method.encode_video(method.backbone.normalize(clips)), method.train_text())
    return F.cross_entropy(logits, golden["in.labels"])


@pytest.mark.parametrize("golden", WITH_GRADIENTS)
def test_evaluation(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    check_features(method, golden, "no_lora")
    close(cosines_of(method, golden, image_of(golden)), golden["image.cosine"], 1e-5)
    for view in range(golden["in.video_u8"].shape[1]):
        close(cosines_of(method, golden, golden["in.video_u8"][:, view]), golden["video.cosine"][:, view], 1e-5)
    assert method.logit_factor == golden.facts["logit_scale_constant"]


@pytest.mark.parametrize("golden", cases_where(WITH_GRADIENTS, lambda config: config["drop"] > 0))
def test_a_step_of_images(golden, tmp_path):
    method = begin_training(built(golden, tmp_path), golden)
    force_dropout(method, golden)
    loss = loss_of(method, golden, image_of(golden))
    close(loss, golden["image.loss"], 1e-5)
    loss.backward()
    check_gradients(golden, "image.grad.", lambda name: matrix(method, name).grad)
    # Adam amplifies rounding where a gradient is tiny.
    check_step(method, golden, "image.after_step.", lambda name: matrix(method, name), tolerance=2e-4)


@pytest.mark.parametrize("golden", cases_where(WITH_GRADIENTS, lambda config: config["drop"] > 0))
def test_gradients_of_videos(golden, tmp_path):
    method = begin_training(built(golden, tmp_path), golden).eval()
    loss = loss_of(method, golden, golden["in.video_u8"][:, 0])
    close(loss, golden["video.loss_nodropout"], 1e-5)
    loss.backward()
    check_gradients(golden, "video.grad.", lambda name: matrix(method, name).grad)


@pytest.mark.parametrize("golden", cases_where(WITH_GRADIENTS, lambda config: config["drop"] == 0))
def test_gradients_without_dropout_are_those_of_the_loss_and_not_the_released_ones(golden, tmp_path):
    """Released: the way back through a layer leaves its term out, so that only the last block's gradients are right."""
    method = begin_training(built(golden, tmp_path), golden)
    loss = loss_of(method, golden, image_of(golden))
    close(loss, golden["image.loss"], 1e-5)
    loss.backward()
    released = golden.starting("image.grad.")
    off = {name: (matrix(method, name).grad - value).norm() / value.norm() for name, value in released.items()}
    last = max(int(name.split("resblocks.")[1].split(".")[0]) for name in released)
    assert all(error < 1e-4 for name, error in off.items() if f"resblocks.{last}." in name)
    assert all(error > 1e-2 for name, error in off.items() if f"resblocks.{last}." not in name)

    expected = gradients_through_merged_weights(method, golden)
    for name, value in expected.items():
        close(matrix(method, name).grad, value, 1e-4)


class Towers(nn.Module):
    """Features of single frames and of texts."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels, tokens):
        return self.backbone.encode_frames(pixels)[:, 0], self.backbone.text.encode(tokens)


def gradients_through_merged_weights(method, golden):
    """Gradients of the loss of a whole backbone whose attention has the weights `W + s B A`, by released names."""
    backbone = OpenAICLIP(method.backbone.identity.pretrained).requires_grad_(False)
    matrices = {name: matrix(method, name).detach().requires_grad_() for name in golden.starting("lora.")}
    weights = {}
    for name in matrices:
        module, _, letter = name.rpartition(".w_lora_")
        path, _, projection = module.rpartition(".")
        if letter == "B":
            product = golden.facts["scaling"] * matrices[name] @ matrices[f"{module}.w_lora_A"]
            key = f"backbone.clip.{path}.in_proj_weight"
            weight = weights.get(key, backbone.clip.get_submodule(path).in_proj_weight)
            first = "qkv".index(LETTERS[projection]) * weight.shape[1]
            thirds = [
                part + product if i * weight.shape[1] == first else part for i, part in enumerate(weight.chunk(3))
            ]
            weights[key] = torch.cat(thirds)
    pixels, tokens = backbone.normalize(image_of(golden)), backbone.tokenize(golden.facts["prompts"])
    frames, texts = torch.func.functional_call(Towers(backbone), weights, (pixels, tokens))
    logits = golden.facts["logit_scale_constant"] * F.normalize(frames, dim=-1) @ F.normalize(texts, dim=-1).T
    F.cross_entropy(logits, golden["in.labels"]).backward()
    return {name: value.grad for name, value in matrices.items()}


@pytest.mark.parametrize("golden", golden_cases("lora/schedule", "cases"))
def test_learning_rates(golden):
    for case in golden.facts["cases"].values():
        schedule = Schedule(warmup_epochs=0, final_ratio=1e-6 / case["base_lr"])
        rates = [
            case["base_lr"] * schedule.factor(step, steps_per_epoch=7, total_steps=case["total"])
            for step in range(case["total"])
        ]
        assert rates == pytest.approx(case["lr_used_at_step"], rel=1e-9)
    assert LoRA.PAPER["final_ratio"] * LoRA.PAPER["lr"] == pytest.approx(1e-6)


@pytest.mark.parametrize("golden", golden_cases("lora/prompts", "token_ids"))
def test_prompts(golden):
    method = object.__new__(LoRA)
    method.__dict__.update(templates=templates("photo"))
    check_tokens(method, golden)


@pytest.mark.parametrize("golden", golden_cases("lora/init_stats", "values"))
def test_initial_values(golden):
    torch.manual_seed(0)
    for name, stats in golden.facts["values"].items():
        rank, width = sorted(stats["shape"])
        own = LowRank(width, rank, scale=1.0, dropout=0.0)
        values = (own.down if name.endswith("A") else own.up).weight
        assert list(values.shape) == stats["shape"]
        assert values.std().item() == pytest.approx(stats["std"], rel=0.05)
        for bound in ("min", "max"):
            assert getattr(values, bound)().item() == pytest.approx(stats[bound], rel=0.02)


COUNTS = {"ViT-B/16": "ViT-B-16-quickgelu", "ViT-L/14": "ViT-L-14-quickgelu"}


@pytest.mark.parametrize("golden", golden_cases("lora/counts"))
def test_numbers_of_parameters(golden):
    for name, counts in golden.facts.items():
        model, parts, rank, towers = name.split("_")
        options = {"parts": parts, "rank": int(rank[1:]), "towers": TOWERS[towers]}
        assert number_of_parameters(LoRA, COUNTS[model], **options) == counts["trainable"]


@pytest.mark.parametrize("golden", golden_cases("lora/lora_ckpt", "files"))
def test_an_imported_checkpoint_gives_the_released_cosines(golden, tmp_path, monkeypatch, capsys):
    options = options_of(golden.facts["config"])
    method = imported(LoRA, golden, tmp_path, monkeypatch, **options)
    said = capsys.readouterr().out
    assert all(f"--model.{name}={options[name]}" in said for name in ("rank", "parts", "towers"))
    check_imported(method, golden, "image.cosine", "video.cosine")
