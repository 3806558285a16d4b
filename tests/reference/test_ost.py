"""OST against the outputs of its released code."""

import sys

import open_clip
import pytest
import torch

from tests.reference.golden import close, golden_cases, unit
from tests.reference.openai_weights import beside, clip_of, close_after_steps
from vlbench.backbones import OpenCLIP
from vlbench.cli.main import main
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList
from vlbench.methods import OST
from vlbench.methods.ost.transport import transport_plans
from vlbench.optim import Schedule

pytestmark = pytest.mark.quick


def sentences(nested):
    return tuple(tuple(texts) for texts in nested)


def know_classes(method, golden):
    """Gives a method the classes and descriptors of a folder of cases."""
    facts = beside(golden, "descriptors").facts
    names = tuple(facts["class_names"])
    described = Descriptions(sentences(facts["spatial"]), sentences(facts["temporal"]))
    method.train_classes = ClassList(names, tuple(range(len(names))), names, described)
    return names


def built(golden, folder, **options):
    method = OST(clip_of(beside(golden, "clip_state"), folder / "clip.pt"), stop="batch", **options)
    know_classes(method, golden)
    return method


def released_parameters(method):
    names = {}
    for name, parameter in method.backbone.clip.named_parameters():
        tower = (
            f"image_encoder.{name.removeprefix('visual.')}" if name.startswith("visual.") else f"text_encoder.{name}"
        )
        names[name if name == "logit_scale" else tower] = parameter
    return names


SOLVED = golden_cases("ost/solver", "cases")


@pytest.mark.parametrize("golden", SOLVED)
def test_plans_of_a_batch_and_of_each_video(golden):
    for case in golden.facts["cases"]:
        image, descriptors = golden[f"in.{case}.image"], golden[f"in.{case}.descriptors"]
        cosines = torch.einsum("btd,and->batn", image, descriptors)
        plans = transport_plans(cosines, "batch")
        close(plans, golden[f"out.{case}.plan"], 1e-5)
        scale = golden.facts["scale"]
        close(scale * (plans * cosines).sum(dim=(-2, -1)), golden[f"out.{case}.logits"], 1e-5)
        alone = scale * (transport_plans(cosines, "video") * cosines).sum(dim=(-2, -1))
        close(alone, golden[f"out.{case}.logits_one_by_one"], 1e-5)


def test_a_video_alone_has_the_plan_that_it_has_beside_others():
    torch.manual_seed(0)
    cosines = torch.rand(3, 5, 6, 4, dtype=torch.float64) * torch.tensor([0.1, 1.0, 2.0])[:, None, None, None] - 1
    together = transport_plans(cosines)
    for index in range(len(cosines)):
        assert torch.allclose(together[index], transport_plans(cosines[index : index + 1])[0], rtol=1e-12)
    assert not torch.allclose(transport_plans(cosines, "batch"), together, rtol=1e-6)
    assert torch.allclose(together.sum(dim=-2), torch.full((), 1 / 4, dtype=torch.float64))


@pytest.mark.parametrize("golden", golden_cases("ost/eval", "in.video_u8"))
def test_evaluation(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    video = golden["in.video_u8"]
    with torch.no_grad():
        classes = method.encode_classes(method.train_classes.names)
        for side in ("spatial", "temporal"):
            close(getattr(classes, side), unit(golden[f"out.{side}_features"]), 1e-5)
        frames = [method.encode_frames(method.backbone.normalize(view)) for view in video.unbind(dim=1)]
        close(torch.stack(frames, dim=1), golden["out.frame_features"], 1e-5)
        scores = torch.stack([method.score(method.pool_frames(view), classes) for view in frames], dim=1)
        close(method.logit_factor * scores, golden["out.view_logits"], 1e-5)
        close(video.shape[1] * method.fuse_views(scores), golden["out.fused"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("ost/train_step", "in.step0.video_u8"))
def test_training_steps(golden, tmp_path):
    facts = golden.facts
    (expected,) = facts["param_groups"]
    method = built(golden, tmp_path, lr=expected["lr"], weight_decay=expected["weight_decay"]).train()
    method.on_fit_start()
    parameters = released_parameters(method)
    (group,) = method.parameter_groups()
    assert (len(group["params"]), list(group["betas"])) == (expected["n_tensors"], expected["betas"])
    optimizer = torch.optim.AdamW([group])
    assert optimizer.defaults["eps"] == expected["eps"]
    steps = 0
    for index, labels in enumerate(facts["labels"]):
        batch = ClipBatch(golden[f"in.step{index}.video_u8"], torch.tensor(labels), [str(n) for n in labels], {})
        tolerance = 1e-5 if steps == 0 else 1e-3  # Adam makes steps of rounding where a gradient is tiny
        with torch.no_grad():
            frames, texts = method.contrast_features(batch)
            close(frames, unit(golden[f"out.step{index}.image"]), tolerance)
            sides = [unit(golden[f"out.step{index}.{side}"]) for side in ("spatial", "temporal")]
            close(texts, torch.cat(sides, dim=1), tolerance)
            close(method.contrast_logits([frames, texts]), golden[f"out.step{index}.logits"], tolerance)
        terms = method.training_loss(batch)
        close(torch.stack([terms["video_to_text"], terms["text_to_video"]]), golden["out.losses"][index], tolerance)
        (terms["loss"] / facts["accumulation_steps"]).backward()
        if (index + 1) % facts["accumulation_steps"] == 0:
            if steps == 0:
                check_gradients(golden, parameters)
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    assert steps == facts["optimiser_steps"]
    for name, value in golden.starting("after.").items():
        close_after_steps(parameters[name], value)


def check_gradients(golden, parameters):
    for name, norm in golden.facts["grad_norms_first_step"].items():
        if norm is not None and norm > 1e-4:
            assert parameters[name].grad.norm().item() == pytest.approx(norm, rel=1e-4), name
    ids = beside(golden, "clip_state")["state.token_embedding.row_ids"]
    for name, expected in golden.starting("grad.").items():
        if name == "text_encoder.token_embedding.rows":
            close(parameters["text_encoder.token_embedding.weight"].grad[ids], expected, 1e-4)
        else:
            close(parameters[name].grad, expected, 1e-4)


@pytest.mark.parametrize("golden", golden_cases("ost/descriptors", "spatial"))
def test_tokens_of_descriptors(golden):
    with torch.device("meta"):
        method = OST(OpenCLIP("ViT-B-32-quickgelu"))
    names = know_classes(method, golden)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    for side, texts in zip(("spatial", "temporal"), method.texts(names), strict=True):
        tokens = tokenizer([text for row in texts for text in row]).unflatten(0, (len(names), -1))
        assert torch.equal(tokens.int(), golden[f"{side}_tokens"])


@pytest.mark.parametrize("golden", golden_cases("ost/prompts", "classes"))
def test_texts_of_descriptors(golden):
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    with torch.device("meta"):
        method = OST(OpenCLIP("ViT-B-32-quickgelu"))
    for key, facts in golden.facts["classes"].items():
        name = key.partition(":")[2]
        described = Descriptions(sentences([facts["spatial"]]), sentences([facts["temporal"]]))
        method.train_classes = ClassList((name,), (0,), (name,), described)
        for side, ((*texts,),) in zip(("spatial", "temporal"), method.texts([name]), strict=True):
            assert [[token for token in row if token] for row in tokenizer(texts).tolist()] == facts[f"{side}_ids"]


@pytest.mark.parametrize("golden", golden_cases("ost/schedule", "cases"))
def test_learning_rates(golden):
    for facts in golden.facts["cases"].values():
        together, updates = facts["accumulation"], facts["n"] // facts["accumulation"]
        schedule = Schedule(facts["warmup_epochs"], final_ratio=0.01, cosine_from="start", lag=1 / together)
        for epoch, batch, lr in facts["rows"]:
            step = epoch * updates + batch // together
            factor = schedule.factor(step, steps_per_epoch=updates, total_steps=updates * facts["epochs"])
            assert facts["lr"] * factor == pytest.approx(lr, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("golden", golden_cases("ost/counts", "counts"))
def test_numbers_of_parameters(golden):
    sizes = {"b16": "ViT-B-16", "b32": "ViT-B-32", "l14": "ViT-L-14"}
    with torch.device("meta"):
        for size, counts in golden.facts["counts"].items():
            method = OST(OpenCLIP(f"{sizes[size]}-quickgelu"))
            assert sum(p.numel() for p in method.parameters() if p.requires_grad) == counts["trainable"]


@pytest.mark.parametrize("golden", golden_cases("ost/checkpoint", "in.video_u8"))
def test_an_imported_checkpoint_gives_the_released_logits(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    out, share = tmp_path / "ost.ckpt", golden.facts["fuse_weight_for_origin"]
    method = built(golden, tmp_path, original_share=share).eval()
    importing = ["weights", "import", "ost", str(golden.folder / "best.pth"), "--backbone", str(tmp_path / "clip.pt")]
    assert main([*importing, "--out", str(out)]) == 0
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)

    def logits():
        frames = method.encode_frames(method.backbone.normalize(golden["in.video_u8"]))
        classes = method.encode_classes(method.train_classes.names)
        return method.logit_factor * method.score(method.pool_frames(frames), classes)

    with torch.no_grad():
        close(logits(), golden["out.logits_unfused"], 1e-5)
        with method.evaluation_weights():
            close(logits(), golden["out.logits_fused"], 1e-5)
            parameters = released_parameters(method)
            for name, value in golden.starting("out.fused.").items():
                close(parameters[name], value, 1e-6)
        close(logits(), golden["out.logits_unfused"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("ost/checkpoint", "in.video_u8"))
def test_a_pickled_configuration_is_not_executed(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    clip_of(beside(golden, "clip_state"), tmp_path / "clip.pt")
    file = golden.folder / "with_config_object.pth"  # holds a few of the weights
    importing = ["weights", "import", "ost", str(file), "--backbone", str(tmp_path / "clip.pt")]
    assert main([*importing, "--out", str(tmp_path / "ost.ckpt")]) == 2
    assert "missing: backbone.clip." in capsys.readouterr().err
    assert "yacs" not in sys.modules
