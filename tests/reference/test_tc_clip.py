"""TC-CLIP against the outputs of its released code."""

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
from vlbench.cli.main import main
from vlbench.methods import TCCLIP
from vlbench.methods.parts.prompts import templates
from vlbench.methods.tc_clip.released import own_name, packed

pytestmark = pytest.mark.quick

CLIP = "backbone.clip."


def sizes(arch):
    return {"seed_share": arch["a"], "context_tokens": arch["k"], "merged_at_once": arch["r"]}


def own_names(state):
    return {own_name(name): value for name, value in packed(state).items()}


def of_clip(state):
    """The part of a state dict that a CLIP has, by OpenAI's names."""
    own = {name.removeprefix(CLIP): value for name, value in own_names(state).items() if name.startswith(CLIP)}
    return {name: value for name, value in own.items() if "local_global_bias" not in name}


def built(golden, folder, **options):
    """The method with the weights of the golden folder."""
    weights = Case(golden.folder / "weights.json")
    method = TCCLIP(clip_of(weights, folder, renamed=of_clip), **{**sizes(weights.facts["arch"]), **options})
    released = {name: value for name, value in weights.state().items() if not name.startswith("token_embedding")}
    state = {name: value.float() for name, value in own_names(released).items()}
    own = method.state_dict()
    assert state.keys() == own.keys() - {f"{CLIP}token_embedding.weight"}
    method.load_state_dict({**own, **state})
    return method


def part_of(value, name):
    """The part of queries, keys or values, where those of ours are one parameter."""
    which = next((place for place, part in enumerate("qkv") if f".attn.{part}_proj." in name), None)
    return value if which is None else value.chunk(3)[which]


def own_key(name):
    for part in "qkv":
        name = name.replace(f".attn.{part}_proj.", ".attn.in_proj_")
    return own_name(name)


def check_evaluation(method, golden, prefix="out."):
    names = golden.facts["class_names"]
    with torch.no_grad():
        texts = method.encode_classes(names)
        frames = method.encode_frames(golden["in.video"].float())
        close(frames.frames, golden[f"{prefix}frame_features"], 1e-5)
        close(frames.context, golden[f"{prefix}context_tokens_projected"], 1e-5)
        videos = method.pool_frames(frames)
        classes = method.class_features(videos.context, texts)
        close(classes, unit(golden[f"{prefix}class_features_raw"]), 1e-5)
        close(method.logit_factor * method.score(videos, texts), golden[f"{prefix}logits"], 1e-5)
        if "in.views" in golden.keys:
            close(videos.video, golden["out.video_features_unit"], 1e-5)
            check_views(method, texts, golden)


@pytest.mark.parametrize("golden", golden_cases("tc_clip/eval"))
def test_evaluation(golden, tmp_path):
    check_evaluation(built(golden, tmp_path).eval(), golden)


@pytest.mark.parametrize("golden", golden_cases("tc_clip/eval", "out.layer0"))
def test_seeds_context_tokens_and_prompts(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    frames = golden["in.video"].shape[1]
    for index, block in enumerate(method.backbone.image.blocks):
        seeds = golden[f"out.layer{index}.seed_index"]
        attend, attention = block.attention.over_frames, []
        block.attention.over_frames = lambda x, clip, attend=attend, kept=attention: (
            kept.append(attend(x, clip)) or kept[-1]
        )
        context = []
        block.register_forward_hook(lambda _, __, output, kept=context: kept.append(output))
        with torch.no_grad():
            method.encode_frames(golden["in.video"].float())
        most = attention[0][1].topk(seeds.shape[-1], dim=-1).indices
        assert torch.equal(most, seeds)
        expected = golden[f"out.layer{index}.context_tokens"]
        assert context[0].shape[1] - expected.shape[1] in (frames, frames * (1 + golden.facts["arch"]["num_patches"]))
        close(context[0][:, -expected.shape[1] :], expected, 1e-5)
    with torch.no_grad():
        texts = method.encode_classes(golden.facts["class_names"])
        learned = texts.hidden[:1, 1 : 1 + len(method.learned)]
        prompts = method.generator(learned, golden["out.context_tokens_projected"])[0]
    expected = golden["out.generated_prompts_video0"]
    close(prompts[:, None].expand_as(expected), expected, 1e-5)


@pytest.mark.parametrize("golden", golden_cases("tc_clip/train", "in.cutmix.images"))
def test_mixtures(golden):
    check_mixtures(golden)


@pytest.mark.parametrize("golden", golden_cases("tc_clip/train", "plain"))
def test_losses_and_gradients(golden, tmp_path):
    method = begin_training(built(golden, tmp_path), golden)
    check_losses(method, golden)
    own = dict(method.named_parameters())
    parameters = {name: own[own_key(name)] for name in golden.facts["trainable"]}
    check_gradients(method, golden, parameters, lambda name: part_of(parameters[name].grad, name))
    trained = {name for name, parameter in own.items() if parameter.requires_grad}
    assert trained == {own_key(name) for name in golden.facts["trainable"]}


@pytest.mark.parametrize("golden", golden_cases("tc_clip/step"))
def test_optimizer_steps(golden, tmp_path):
    groups = golden.facts["param_groups"]
    method = built(golden, tmp_path, lr=groups[0]["lr"], weight_decay=groups[0]["weight_decay"])
    own = dict(method.named_parameters())
    slow, fast = sorted(method.parameter_groups(), key=lambda group: group["lr"])
    assert (slow["lr"], fast["lr"]) == (groups[0]["lr"], pytest.approx(groups[1]["lr"]))
    new = {id(own[own_key(name)]) for group in groups[1:] for name in group["names"]}
    assert {id(parameter) for parameter in fast["params"]} == new
    value_of = lambda name: part_of(own[own_key(name)], name).detach()  # noqa: E731
    check_steps(begin_training(method, golden), golden, value_of, noise=(".attn.k_proj.bias",))


def texts_of(names):
    """The method's texts of classes, without its weights."""
    method = object.__new__(TCCLIP)
    method.__dict__.update(templates=templates("name"), rephrased=None)
    return method.texts(names)


@pytest.mark.parametrize("golden", golden_cases("tc_clip/prompts", "prompts"))
def test_prompts(golden):
    assert texts_of(golden.facts["class_names"]) == golden.facts["prompts"]


@pytest.mark.parametrize("golden", golden_cases("tc_clip/schedule", "cases"))
def test_learning_rates(golden):
    check_rates(golden, floor="absolute")


@pytest.mark.parametrize("golden", golden_cases("tc_clip/counts", "vit_b16"))
def test_numbers_of_parameters(golden):
    with torch.device("meta"):
        method = TCCLIP(OpenCLIP("ViT-B-16-quickgelu"))
    counts = {name: each.numel() for name, each in method.named_parameters() if each.requires_grad}
    expected = golden.facts["vit_b16"]
    assert sum(counts.values()) == expected["trainable"]
    assert sum(count for name, count in counts.items() if "local_global_bias" in name) == expected["local_global_bias"]
    assert (
        sum(count for name, count in counts.items() if name.startswith("generator."))
        == expected["prompt_generation_layer"]
    )
    assert counts["learned"] == expected["ctx"]


@pytest.mark.parametrize("golden", golden_cases("tc_clip/init", "local_global_bias"))
def test_initial_values(golden):
    torch.manual_seed(0)
    with torch.device("meta"):
        backbone = OpenCLIP("ViT-B-32-quickgelu")
    blocks = TCCLIP(backbone).backbone.image.blocks
    assert blocks[0].attention.local_global_bias_table is None
    values = torch.cat([block.attention.local_global_bias_table.flatten() for block in blocks[1:]])
    expected = golden.facts["local_global_bias"]["stats_of_960_values"]
    assert values.std().item() == pytest.approx(expected["std"], rel=0.1)
    assert values.mean().item() == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("golden", golden_cases("tc_clip/checkpoint", "checkpoint"))
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_an_imported_checkpoint_gives_the_released_logits(golden, share, tmp_path, monkeypatch):
    """As it is, with the file's own vectors of tokens, and blended with the original weights, with theirs."""
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    released, out = golden.folder / golden.facts["checkpoint"], tmp_path / "tc_clip.ckpt"
    weights, texts = Case(golden.folder / "weights.json"), texts_of(golden.facts["class_names"])
    clip_of(weights, tmp_path, None if share else released, texts, renamed=of_clip)
    clip = str(tmp_path / "clip.pt")
    assert main(["weights", "import", "tc_clip", str(released), "--backbone", clip, "--out", str(out)]) == 0
    method = TCCLIP(OpenAICLIP(clip), **sizes(golden.facts["arch"]), original_share=share).eval()
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    with method.evaluation_weights():
        check_evaluation(method, golden, prefix="wise_ft_0.7." if share else "out.")
    assert "omegaconf" not in sys.modules
