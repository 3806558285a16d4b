"""FROSTER against the outputs of its released code."""

import sys

import open_clip
import pytest
import torch
import torch.nn.functional as F

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
    whole_state,
    write_json,
)
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.cli.main import main
from vlbench.methods import FROSTER
from vlbench.methods.froster import ResidualProjector
from vlbench.methods.parts.prompts import templates

pytestmark = pytest.mark.quick

PROJECTORS = {"projector_v": "image_projector.layers", "projector_t": "text_projector.layers"}


def key_of(name):
    """Key of the method's state dict of a weight's released name."""
    module, _, rest = name.partition(".")
    return f"{PROJECTORS[module]}.{rest}" if module in PROJECTORS else f"backbone.clip.{rest}"


def names_of(strings):
    return [text.partition(":")[0] for text in strings]


def strings_of(golden):
    return beside(golden, "clip_state").facts["class_strings"]


def student(golden):
    case = beside(golden, "student_state")
    state = {f"backbone.clip.{name}": value for name, value in whole_state(case, "model.").items()}
    projectors = {name: case[name].float() for name in case.keys if name.startswith("projector")}
    return state | {key_of(name): value for name, value in projectors.items()}


def built(golden, folder, stage):
    """The student with its weights, whose teacher has the original ones, and its classes."""
    strings = strings_of(golden)
    path = write_json(folder / "rephrased.json", dict(enumerate(strings)))
    method = FROSTER(clip_of(golden, folder)[0], rephrased=path)
    begin(method, names_of(strings), stage)
    give(method, student(golden))
    return method, names_of(strings)


@pytest.mark.parametrize("golden", golden_cases("froster/test", "out.teacher_class_features"))
def test_evaluation(golden, tmp_path):
    method, names = built(golden, tmp_path, "test")
    close(check_views(method, golden, names), golden["out.class_features"], 1e-5)
    clips = method.backbone.normalize(golden["in.video_u8"][:, 0])
    with torch.no_grad():
        frames = F.normalize(method.teacher.encode_frames(clips), dim=-1)
        close(frames, F.normalize(golden["out.teacher_frame_features_view0"], dim=-1), 1e-5)
        texts = [text for name in names for text in method.texts(name)]
        features = F.normalize(method.teacher.encode_texts(texts), dim=-1).unflatten(0, (len(names), -1))
        close(F.normalize(features.mean(dim=1), dim=-1), golden["out.teacher_class_features"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("froster/train_step"))
def test_training_steps(golden, tmp_path):
    facts = golden.facts
    method, _ = built(golden, tmp_path, "fit")
    assert facts["distillation_ratio"] == method.distillation
    by_key = dict(method.named_parameters())
    released = [*(f"model.{name}" for name, _ in method.backbone.clip.named_parameters())]
    released += [name for name in beside(golden, "student_state").keys if name.startswith("projector")]
    parameters = {name: by_key[key_of(name)] for name in released}
    optimizer, trained = check_groups(method, golden, {id(value): name for name, value in parameters.items()})
    assert trained == set(released)
    for step, template in enumerate(facts["template_index"]):
        out = f"out.step{step}"
        clips = method.backbone.normalize(golden[f"in.step{step}.video_u8"])
        labels = torch.tensor(facts["labels"][step])
        with torch.no_grad():
            frames, text = method.encode_frames(clips), method.train_text(template)
            close(method.training_logits(method.pool_frames(frames), text), golden[f"{out}.logits"], 1e-5)
            residual = method.image_projector(F.normalize(frames, dim=-1)).flatten(0, 1)
            close(residual, golden[f"{out}.image_residual"], 1e-5)
            close(method.text_projector(text), golden[f"{out}.text_residual"], 1e-5)
            teacher = F.normalize(method.teacher.encode_frames(clips), dim=-1).flatten(0, 1)
            close(teacher, F.normalize(golden[f"{out}.teacher_image"], dim=-1), 1e-5)
            close(method._teacher_texts[template], golden[f"{out}.teacher_text"], 1e-5)
        optimizer.zero_grad()
        terms = method.losses(clips, labels, template)
        for name, expected in facts["losses"][step].items():
            value = terms["loss" if name == "total" else name].item()
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-6), name
        terms["loss"].backward()
        if step == 0:
            for name, expected in golden.starting("grad.").items():
                if name.endswith("token_embedding.rows"):
                    ids = beside(golden, "student_state")["model.token_embedding.row_ids"].long()
                    close(parameters["model.token_embedding.weight"].grad[ids], expected, 1e-4)
                else:
                    close(parameters[name].grad, expected, 1e-4)
        check_step(method, golden, step, optimizer, parameters)


@pytest.mark.parametrize("golden", golden_cases("froster/prompts", "class_strings"))
def test_texts(golden):
    facts, tokenizer = golden.facts, open_clip.get_tokenizer("ViT-B-32")
    method = object.__new__(FROSTER)
    names = names_of(facts["class_strings"])
    method.__dict__.update(
        templates=templates("mote"), rephrased="file", _rephrased=dict(zip(names, facts["class_strings"], strict=True))
    )
    texts = [method.texts(name) for name in names]
    assert [*method.templates, "{}"] == facts["templates"]
    for index, template in list(enumerate(facts["templates"]))[::7]:
        ids = tokenizer([of_class[index] for of_class in texts])
        assert [[token for token in row if token] for row in ids.tolist()] == facts["token_ids"][template]


@pytest.mark.parametrize("golden", golden_cases("froster/schedule", "cases"))
def test_learning_rates(golden):
    check_rates(golden)


@pytest.mark.parametrize("golden", golden_cases("froster/swa", "averaged"))
def test_mean_of_epochs(golden):
    assert [epoch for epoch in golden.facts["epochs"] if epoch >= 2] == golden.facts["averaged"]
    check_mean(golden, running_mean)


@pytest.mark.parametrize("golden", golden_cases("froster/init", "tiny"))
def test_initial_values(golden):
    torch.manual_seed(0)
    projector = ResidualProjector(512, 0.1)
    first, second = (projector.layers[index].weight for index in (0, 2))
    assert first.std().item() == pytest.approx(golden.facts["embed_512_std_expected"], rel=0.01)
    assert first.mean().item() == pytest.approx(0, abs=1e-3)
    assert not second.any()


@pytest.mark.parametrize("golden", golden_cases("froster/counts", "counts"))
def test_numbers_of_parameters(golden):
    with torch.device("meta"):
        for size, model in (("b32", "ViT-B-32"), ("b16", "ViT-B-16"), ("l14", "ViT-L-14")):
            method = FROSTER(OpenCLIP(f"{model}-quickgelu"))
            expected = golden.facts["counts"][size]
            trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
            assert trained == expected["trainable"]
            assert sum(parameter.numel() for parameter in method.parameters()) == expected["total_in_training"]


@pytest.mark.parametrize("golden", golden_cases("froster/test", "out.teacher_class_features"))
def test_an_imported_file_gives_the_released_logits(golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    released, out = golden.folder / "swa_2_22.pth", tmp_path / "froster.ckpt"
    _, clip = clip_of(golden, tmp_path)
    assert main(["weights", "import", "froster", str(released), "--backbone", clip, "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    path = write_json(tmp_path / "rephrased.json", dict(enumerate(strings_of(golden))))
    method = begin(FROSTER(OpenAICLIP(clip), rephrased=path), names_of(strings_of(golden)), "test")
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    close(check_views(method, golden, names_of(strings_of(golden))), golden["out.class_features"], 1e-5)
    assert main(["weights", "import", "open_vclip", str(released), "--backbone", clip, "--out", str(out)]) == 2
    assert "import it with `vlbench weights import froster`" in capsys.readouterr().err
