"""Open-VCLIP against the outputs of its released code."""

import sys

import open_clip
import pytest
import torch

from tests.reference.golden import close, golden_cases
from tests.reference.open_vclip_line import (
    begin,
    beside,
    check_groups,
    check_mean,
    check_rates,
    check_step,
    check_views,
    clip_of,
    give,
    running_mean,
)
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.cli.main import main
from vlbench.methods import OpenVCLIP
from vlbench.methods.parts.prompts import templates

pytestmark = pytest.mark.quick

REACH = {"none": 0, "expand_temporal_view": 1, "expand_temporal_view_step2": 2, "expand_temporal_view_step3": 3}


def names_of(golden):
    return beside(golden, "clip_state").facts["class_names"]


def finetuned(golden):
    """Fine-tuned weights by the keys of the method's state dict."""
    state = beside(golden, "finetuned_state").starting("ft.")
    return {f"backbone.clip.{name}": value.float() for name, value in state.items()}


def built(golden, folder, **options):
    """The method with the fine-tuned weights of a case's folder, whose start are the original ones."""
    method = OpenVCLIP(clip_of(golden, folder)[0], **options)
    give(method, finetuned(golden))
    return method


def released_parameters(method):
    return dict(method.backbone.clip.named_parameters())


@pytest.mark.parametrize("golden", golden_cases("open_vclip/eval_views"))
@pytest.mark.parametrize("kind", REACH)
def test_features_and_logits(golden, kind, tmp_path):
    method = built(golden, tmp_path, neighbours=REACH[kind], original_share=0.0)
    clips = method.backbone.normalize(golden["in.video_u8"][:, 0])
    with torch.no_grad():
        classes = method.encode_classes(names_of(golden))
        frames = method.encode_frames(clips)
        close(classes, golden["out.class_features"], 1e-5)
        close(frames, golden[f"out.{kind}.frame_features"], 1e-5)
        logits = method.logit_factor * method.score(method.pool_frames(frames), classes)
        close(logits, golden[f"out.{kind}.logits"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("open_vclip/test_patched"))
def test_a_test_with_a_share_of_the_original_weights(golden, tmp_path):
    method = built(golden, tmp_path, original_share=golden.facts["patching_ratio"])
    check_views(method, golden, names_of(golden))
    with method.evaluation_weights():
        close(method.backbone.logit_scale.exp(), golden["out.logit_scale"].exp(), 1e-6)
        close(method.backbone.visual.proj, golden["out.patched.visual.proj"], 1e-6)


@pytest.mark.parametrize("golden", golden_cases("open_vclip/train_step"))
def test_training_steps(golden, tmp_path):
    facts = golden.facts
    method = begin(built(golden, tmp_path, interpolated_loss=facts["loss_ratio"]), names_of(golden))
    parameters = released_parameters(method)
    names = {id(parameter): name for name, parameter in parameters.items()}
    optimizer, trained = check_groups(method, golden, names)
    assert trained == {name for name in parameters if name.startswith("visual.")} | {"logit_scale"}
    for step, share in enumerate(facts["alphas"]):
        clips = method.backbone.normalize(golden[f"in.step{step}.video_u8"])
        labels = torch.tensor(facts["labels"][step])
        optimizer.zero_grad()
        _, gradients = method.interpolated_gradient(clips, labels, share)
        with torch.no_grad():
            video = method.encode_video(clips)
            close(method.training_logits(video, method._classes), golden[f"out.step{step}.logits_current"], 1e-5)
            with method._original.blended(method.backbone, share):
                video = method.encode_video(clips)
                between = method.training_logits(video, method._classes)
        close(between, golden[f"out.step{step}.logits_interpolated"], 1e-5)
        method.cross_entropy(clips, labels).backward()
        by_name = {names[id(each)]: value for each, value in zip(method._tuned(), gradients, strict=True)}
        if step == 0:
            for name, expected in golden.starting("grad.interpolated.").items():
                close(by_name[name], expected, 1e-4)
        for name, value in by_name.items():
            parameters[name].grad.add_(value)
        if step == 0:
            for name, expected in golden.starting("grad.merged.").items():
                close(parameters[name].grad, expected, 1e-4)
        check_step(method, golden, step, optimizer, parameters)


@pytest.mark.parametrize("golden", golden_cases("open_vclip/prompts", "templates"))
def test_prompts(golden):
    facts, tokenizer = golden.facts, open_clip.get_tokenizer("ViT-B-32")
    assert list(templates("mote")) == facts["templates"]
    for template in facts["templates"][::9]:
        ids = tokenizer([template.format(name) for name in facts["class_names"]])
        assert [[token for token in row if token] for row in ids.tolist()] == facts["token_ids"][template]


@pytest.mark.parametrize("golden", golden_cases("open_vclip/schedule", "cases"))
def test_learning_rates(golden):
    check_rates(golden)


@pytest.mark.parametrize("golden", golden_cases("open_vclip/swa", "averaged"))
def test_mean_of_epochs(golden):
    assert [epoch for epoch in golden.facts["epochs"] if 2 <= epoch <= 22] == golden.facts["averaged"]
    check_mean(golden, running_mean)


@pytest.mark.parametrize("golden", golden_cases("open_vclip/counts", "counts"))
def test_numbers_of_parameters(golden):
    with torch.device("meta"):
        for size, model in (("b32", "ViT-B-32"), ("b16", "ViT-B-16"), ("l14", "ViT-L-14")):
            method = OpenVCLIP(OpenCLIP(f"{model}-quickgelu"))
            expected = golden.facts["counts"][size]
            trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
            assert trained == expected["receives_gradient"]
            assert sum(parameter.numel() for parameter in method.parameters()) == expected["total"]


@pytest.mark.parametrize("golden", golden_cases("open_vclip/test_patched"))
def test_an_imported_file_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    released, out = golden.folder / "swa_2_22.pth", tmp_path / "open_vclip.ckpt"
    backbone, clip = clip_of(golden, tmp_path)
    assert main(["weights", "import", "open_vclip", str(released), "--backbone", clip, "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    method = OpenVCLIP(OpenAICLIP(clip), original_share=golden.facts["patching_ratio"])
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    check_views(method, golden, names_of(golden))

    # The file's text tower is the backbone's, and what another one would score is no result of the file.
    state = backbone.clip.state_dict()
    state["text_projection"] = state["text_projection"] + 1
    torch.save(state, clip)
    assert main(["weights", "import", "open_vclip", str(released), "--backbone", clip, "--out", str(out)]) == 2
    assert "another text tower than openai-format" in capsys.readouterr().err
