"""ActionCLIP against the outputs of its released code."""

import sys

import open_clip
import pytest
import torch
from torch import nn

from tests.reference.golden import close, golden_cases, unit
from tests.reference.openai_weights import beside, clip_of, close_after_steps
from vlbench.backbones import OpenCLIP
from vlbench.cli.main import main
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList
from vlbench.methods import ActionCLIP
from vlbench.methods.action_clip.heads import POSITIONS, make_head
from vlbench.methods.parts.contrastive import contrastive_terms
from vlbench.methods.parts.prompts import PROMPTS
from vlbench.optim import Schedule

pytestmark = pytest.mark.quick

TABLE = "frame_position_embeddings.weight"


def head_options(case):
    """Options of the head of a case."""
    keys = [key.split(".") for key in case.keys if ".resblocks." in key or ".layers." in key]
    layers = {key[key.index("resblocks" if "resblocks" in key else "layers") + 1] for key in keys}
    return {"head": case.facts["head"], "layers": len(layers) or 6, "frames": case.facts["T"]}


def head_state(case, name):
    state = {key: value.float() for key, value in case.starting("state.head.").items()}
    return {key: value for key, value in state.items() if key != TABLE or name == "Transf"}


def built(case, folder, **options):
    """The method with the weights of a case of kind `eval`."""
    method = ActionCLIP(clip_of(beside(case, "clip_state"), folder / "clip.pt"), **{**head_options(case), **options})
    method.temporal.load_state_dict(head_state(case, method.head))
    return method


@pytest.mark.parametrize("golden", golden_cases("action_clip/eval", "in.frames"))
def test_heads(golden):
    options, width = head_options(golden), golden["in.frames"].shape[-1]
    head = make_head(options["head"], width, heads=2, layers=options["layers"], frames=options["frames"]).eval()
    head.load_state_dict(head_state(golden, options["head"]))
    with torch.no_grad():
        close(head(golden["in.frames"]).mean(dim=1), golden["out.head"], 1e-5)


def check_evaluation(method, golden):
    with torch.no_grad():
        frames = method.encode_frames(method.backbone.normalize(golden["in.video_u8"]))
        close(frames, golden["out.frame_features"], 1e-5)
        video = method.pool_frames(frames)
        close(video, unit(golden["out.video_features"]), 1e-5)
        classes = method.encode_classes(golden.facts["class_names"])
        close(classes.flatten(0, 1), unit(golden["out.text_features"]), 1e-5)
        scores = method.score(video, classes)
        close(scores, golden["out.prob"], 1e-5)
        close(method.fuse_views(torch.stack([scores, scores], dim=1)), golden["out.prob"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("action_clip/eval", "in.video_u8", "out.prob"))
def test_evaluation(golden, tmp_path):
    check_evaluation(built(golden, tmp_path).eval(), golden)


@pytest.mark.parametrize("golden", golden_cases("action_clip/eval_tsm", "in.video_u8"))
def test_shifted_frames(golden, tmp_path):
    method = ActionCLIP(clip_of(beside(golden, "clip_state"), tmp_path / "clip.pt"), head="meanP", shift=True).eval()
    with torch.no_grad():
        frames = method.encode_frames(method.backbone.normalize(golden["in.video_u8"]))
    close(frames, golden["out.frame_features"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("action_clip/train", "out.step0.losses"))
def test_losses_of_features(golden):
    for index, step in enumerate(golden.facts["steps"]):
        logits = golden[f"out.step{index}.logits_per_image"]
        close(logits.T, golden[f"out.step{index}.logits_per_text"], 1e-6)
        terms = torch.stack(contrastive_terms(logits, torch.tensor(step["list_id"])))
        close(torch.cat([terms, terms.mean(dim=0, keepdim=True)]), golden[f"out.step{index}.losses"], 1e-5)


def begin_training(golden, folder):
    """The method of a case of kind `train` at the start of its training."""
    groups = golden.facts["param_groups"]
    base = groups[0]["lr"]
    image = next(group["lr"] for group in groups if group["names"][0].startswith("clip.visual."))
    options = {"lr": base, "image_lr_ratio": image / base, "weight_decay": groups[0]["weight_decay"]}
    if any(name.startswith("head.") for name in groups[-1]["names"]):
        options["head_lr_ratio"] = groups[-1]["lr"] / base
    method = built(beside(golden, f"eval_{golden.facts['head']}"), folder, **options).train()
    for module in method.temporal.modules():  # as where the data were made
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    names = tuple(beside(golden, "clip_state").facts["class_names"])
    method.train_classes = ClassList(names, tuple(range(len(names))), names)
    method.on_fit_start()
    return method


def released_parameters(method):
    named = method.named_parameters()
    return {
        name.replace("backbone.clip.", "clip.").replace("temporal.", "head."): parameter for name, parameter in named
    }


@pytest.mark.parametrize("golden", golden_cases("action_clip/train", "in.step0.video_u8"))
def test_training_steps(golden, tmp_path, monkeypatch):
    method = begin_training(golden, tmp_path)
    parameters, facts = released_parameters(method), golden.facts
    optimizer = torch.optim.AdamW(method.parameter_groups())
    assert optimizer.defaults["eps"] == facts["param_groups"][0]["eps"]
    settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for group in facts["param_groups"]:
        for name in set(group["names"]) & parameters.keys():
            ours = settings[id(parameters[name])]
            assert ours["lr"] == pytest.approx(group["lr"])
            assert (ours["weight_decay"], list(ours["betas"])) == (group["weight_decay"], group["betas"])
    released = {name for group in facts["param_groups"] for name in group["names"]}
    unread = set() if method.head == "Transf" else {f"head.{TABLE}"}
    assert released - unread == parameters.keys()
    for index, step in enumerate(facts["steps"]):
        monkeypatch.setattr(method, "drawn_templates", lambda _, drawn=step["text_id"]: drawn)
        labels = torch.tensor(step["list_id"])
        batch = ClipBatch(golden[f"in.step{index}.video_u8"], labels, list("abcdefgh"[: len(labels)]), {})
        tolerance = 1e-5 if index == 0 else 1e-3  # Adam makes steps of rounding where a gradient is tiny
        with torch.no_grad():
            video, text = method.contrast_features(batch)
        close(video, unit(golden[f"out.step{index}.video_features"]), tolerance)
        close(text, unit(golden[f"out.step{index}.text_features"]), tolerance)
        terms = method.training_loss(batch)
        losses = torch.stack([terms["video_to_text"], terms["text_to_video"], terms["loss"]])
        close(losses, golden[f"out.step{index}.losses"], tolerance)
        optimizer.zero_grad()
        terms["loss"].backward()
        if index == 0:
            for name, norm in facts["grad_norms"].items():
                if norm is not None and norm > 1e-4:
                    assert parameters[name].grad.norm().item() == pytest.approx(norm, rel=1e-4), name
            for name, expected in golden.starting("grad.").items():
                close(parameters[name].grad, expected, 1e-4)
        optimizer.step()
    for name, expected in golden.starting("after_step2.").items():
        close_after_steps(parameters[name], expected)


@pytest.mark.parametrize("golden", golden_cases("action_clip/prompts", "templates"))
def test_prompts(golden):
    assert list(PROMPTS["action"]) == golden.facts["templates"]
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    for template, expected in golden.facts["token_ids"].items():
        texts = [template.format(name) for name in golden.facts["class_names"]]
        assert [[token for token in row if token] for row in tokenizer(texts).tolist()] == expected


@pytest.mark.parametrize("golden", golden_cases("action_clip/schedule", "cases"))
def test_learning_rates(golden):
    for facts in golden.facts["cases"].values():
        schedule, length = Schedule(warmup_epochs=facts["warm"], refresh_every=10), facts["n"]
        for epoch, batch, lr, head in facts["rows"]:
            factor = schedule.factor(
                epoch * length + batch, steps_per_epoch=length, total_steps=length * facts["epochs"]
            )
            assert (facts["lr"] * factor, 10 * facts["lr"] * factor) == pytest.approx((lr, head), rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("golden", golden_cases("action_clip/init", "heads"))
def test_initial_values(golden):
    torch.manual_seed(0)
    for name, tensors in golden.facts["heads"].items():
        state = make_head(name, 512, heads=8, layers=1, frames=8).state_dict()
        compared = {key: facts for key, facts in tensors.items() if key in state}
        assert state.keys() <= compared.keys()
        for key, facts in compared.items():
            value = state[key]
            assert list(value.shape) == facts["shape"]
            noise = facts["std"] / value.numel() ** 0.5
            assert value.mean().item() == pytest.approx(facts["mean"], abs=1e-6 + 8 * noise), key
            assert value.std(correction=0).item() == pytest.approx(facts["std"], rel=0.03 + 4 / value.numel() ** 0.5), (
                key
            )
            assert value.abs().max().item() <= 1.5 * max(abs(facts["min"]), abs(facts["max"])), key


@pytest.mark.parametrize("golden", golden_cases("action_clip/counts", "counts"))
@pytest.mark.parametrize("size", ["b16", "b32", "l14"])
def test_numbers_of_parameters(golden, size):
    """The released heads but `Transf` have a table of positions as well, which they never read."""
    sizes = {"b16": "ViT-B-16", "b32": "ViT-B-32", "l14": "ViT-L-14"}
    with torch.device("meta"):
        backbone = OpenCLIP(f"{sizes[size]}-quickgelu")
        for case, counts in golden.facts["counts"].items():
            of, _, rest = case.partition("_")
            head, _, frames = rest.rpartition("_T")
            if of != size:
                continue
            method = ActionCLIP(backbone, head=head, frames=int(frames))
            unread = 0 if head in ("meanP", "Transf") else POSITIONS * backbone.embed_dim
            trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
            assert trained == counts["trainable"] - unread, case


@pytest.mark.parametrize("golden", golden_cases("action_clip/eval_Transf", "in.video_u8", "out.prob"))
def test_an_imported_checkpoint_gives_the_released_scores(golden, tmp_path, monkeypatch, capsys):
    released, out = golden.folder / f"checkpoint_{golden.facts['head']}.pt", tmp_path / "action_clip.ckpt"
    if not released.is_file():
        pytest.skip(f"there is no checkpoint of the head {golden.facts['head']}")
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    weights = beside(golden, "clip_state")
    method = ActionCLIP(clip_of(weights, tmp_path / "clip.pt"), **head_options(golden)).eval()
    clip = str(tmp_path / "clip.pt")
    assert main(["weights", "import", "action_clip", str(released), "--backbone", clip, "--out", str(out)]) == 0
    assert "--model.head=Transf --model.layers=6" in capsys.readouterr().out
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    check_evaluation(method, golden)


def test_the_corrected_convolution_shifts_frames_and_the_released_one_does_not():
    x = torch.randn(2, 4, 8)
    corrected, released = (
        make_head(name, 8, heads=1, layers=1, frames=4)(x) - x for name in ("Conv_1D_corrected", "Conv_1D")
    )
    assert torch.allclose(corrected[:, 1:, :2], x[:, :-1, :2])  # from the previous frame
    assert torch.allclose(corrected[:, :, 2:6], x[:, :, 2:6])
    assert torch.allclose(corrected[:, :-1, 6:], x[:, 1:, 6:])  # from the next frame
    assert not torch.allclose(released[:, 1:, :2], x[:, :-1, :2])
