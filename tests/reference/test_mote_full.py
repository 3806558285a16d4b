"""The whole of MoTE, from class names and pixels to fused scores, against the released code's outputs."""

import re

import pytest
import torch

from tests.reference.golden import close, golden_cases, temperatures, unit
from vlbench.backbones import OpenAICLIP
from vlbench.evaluation.stored_scores import half_class_accuracies
from vlbench.methods import MoTE
from vlbench.methods.mote.head import merge_weights
from vlbench.methods.mote.released import import_released
from vlbench.optim import Schedule


def method_of(golden, **options):
    weights = str(golden.file("clip_pretrained"))
    imported = import_released(golden.file("mote_checkpoint"), OpenAICLIP(weights))
    method = MoTE(OpenAICLIP(weights), **imported.options)
    checkpoint = {"state_dict": dict(imported.state), "vlbench": imported.header}
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"])
    for key, value in options.items():
        setattr(method, key, value)
    return method.eval()


@torch.no_grad()
def view_features(method, golden, classes, count=None):
    """Features `(B, V, D)` of every view of the golden videos, with the weights of evaluation."""
    with method.evaluation_weights():
        views = [method.backbone.normalize(view) for view in golden["in.video_u8"][:count].unbind(1)]
        return torch.stack([method.encode_video(view, classes) for view in views], dim=1)


def view_cosines(method, golden, count=None):
    classes = method.encode_classes(golden.facts["class_names"])
    return method.score(view_features(method, golden, classes, count), classes)


@pytest.fixture(scope="module", params=golden_cases("mote_full", "out.view_similarity"))
def evaluation(request):
    golden = request.param
    return golden, method_of(golden)


def test_class_features(evaluation):
    golden, method = evaluation
    close(method.encode_classes(golden.facts["class_names"]), golden["out.cls_features"], 1e-5)


def test_frame_features_after_blending(evaluation):
    golden, method = evaluation
    with torch.no_grad(), method.evaluation_weights():
        features = method.encode_frames(method.backbone.normalize(golden["in.video_u8"].flatten(0, 1)))
    close(features.view_as(golden["out.frame_features"]), golden["out.frame_features"], 1e-5)


def test_view_similarities_and_fused_scores(evaluation):
    golden, method = evaluation
    cosines = view_cosines(method, golden)
    close(cosines, golden["out.view_similarity"], 1e-5)
    close(method.fuse_views(cosines), golden["out.fused"], 1e-5)


def test_other_shares_of_the_original_weights(evaluation):
    golden, method = evaluation
    others = golden.starting("extra.view_similarity_first")
    if not others:
        pytest.skip(f"{golden.name} has no extra.view_similarity_first*")
    before = method.original_share
    try:
        for key, expected in others.items():
            count, alpha = re.fullmatch(r"(\d+)_alpha([\d.]+)", key).groups()
            method.original_share = 1 - float(alpha)
            close(view_cosines(method, golden, int(count)), expected, 1e-5)
    finally:
        method.original_share = before


@pytest.mark.parametrize("golden", golden_cases("mote_full", "out.losses"))
def test_one_training_step(golden):
    facts = golden.facts
    method = method_of(golden, lr=facts["lr"], backbone_lr_ratio=facts["clip_ratio"]).train()
    close(method.train_class_features, golden["in.cls_features"], 1e-5)
    taus = temperatures(facts)
    merges = [merge_weights(method.head.experts, taus[j]) for j in facts["tau_index_per_layer"]]
    frames = method.backbone.encode_frames(method.backbone.normalize(golden["in.video_u8"]))
    close(frames, golden["out.frame_features"], 1e-5)
    terms = method.losses(frames, golden["in.labels"], facts["expert_per_layer"], merges)
    losses = torch.stack([terms["ce"], terms["ce_merged"], terms["mse"], terms["loss"]])
    close(losses, golden["out.losses"], 1e-5)

    groups = method.parameter_groups()
    for group, expected in zip(groups, facts["param_groups"], strict=True):
        assert group["lr"] == pytest.approx(expected["lr"])
        assert group["weight_decay"] == expected["weight_decay"]
    optimizer = torch.optim.AdamW(groups, betas=tuple(facts["param_groups"][0]["betas"]))
    terms["loss"].backward()
    own = {"clip": "backbone.clip.", "head": "head."}
    parameters = dict(method.named_parameters())
    for key, norm in facts["grad_norms"].items():
        side, rest = key.split(".", 1)
        if f"{own[side]}{rest}" not in parameters:
            continue
        gradient = parameters[f"{own[side]}{rest}"].grad
        if norm is None:
            assert gradient is None, key
        elif norm > 1e-4:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-4), key
    optimizer.step()
    for key, expected in golden.starting("after_step.").items():
        side, rest = key.split(".", 1)
        actual = parameters[f"{own[side]}{rest}"].detach()
        # One Adam step moves a weight by the rate; where a gradient is rounding noise, its sign is too.
        rate = facts["lr"] * (facts["clip_ratio"] if side == "clip" else 1)
        wrong = ((actual - expected).abs() > 1e-5 * expected.abs().max() + 0.01 * rate).float().mean()
        assert wrong < 2e-3, (key, wrong.item())


def accuracies_of_halves(cosines, labels):
    return torch.from_numpy(half_class_accuracies(cosines.detach().numpy(), labels.numpy())).float()


@pytest.mark.parametrize("golden", golden_cases("mote_full", "out.half"))
def test_half_class_features(golden):
    """What the half-class protocol starts from: the features of every view, modulated on the full class list."""
    method = method_of(golden)
    classes = method.encode_classes(golden.facts["class_names"])
    close(view_features(method, golden, classes), unit(golden["out.temporal_features"]), 1e-5)
    close(classes, unit(golden["out.text_features"]), 1e-5)
    halves = accuracies_of_halves(view_cosines(method, golden).mean(dim=1), golden["in.labels"])
    close(halves[:, 0], golden["out.half.top1"], 1e-5)
    close(halves[:, 1], golden["out.half.top5"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("half_classes"))
def test_half_classes(golden):
    tensors = golden.tensors
    for prefix in {key.split(".")[0] for key in tensors}:
        cosines = (unit(tensors[f"{prefix}.vis"]) @ unit(tensors[f"{prefix}.text"]).T).mean(dim=1)
        halves = accuracies_of_halves(cosines, tensors[f"{prefix}.labels"])
        close(halves[:, 0], tensors[f"{prefix}.top1"], 1e-5)
        close(halves[:, 1], tensors[f"{prefix}.top5"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("schedule", "cases"))
def test_learning_rates(golden):
    for facts in golden.facts["cases"]:
        schedule = Schedule(warmup_epochs=facts["warmup_epochs"], refresh_every=10)
        steps, per_epoch = len(facts["lr_group1_head"]), facts["len_loader"]
        factors = [schedule.factor(s, steps_per_epoch=per_epoch, total_steps=steps) for s in range(steps)]
        assert [facts["lr"] * factor for factor in factors] == pytest.approx(facts["lr_group1_head"], abs=1e-12)
        clip = [facts["lr"] * facts["clip_ratio"] * factor for factor in factors]
        assert clip == pytest.approx(facts["lr_group0_clip"], abs=1e-12)
