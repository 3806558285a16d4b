"""FROSTER's distillation and its rephrased names."""

import json
from types import SimpleNamespace

import pytest
import torch

from vlbench.backbones import TinyCLIP
from vlbench.datasets.specs import ClassList
from vlbench.errors import ConfigError, DataError
from vlbench.methods import FROSTER
from vlbench.methods.parts.prompts import PROMPTS

pytestmark = pytest.mark.quick

NAMES = ("red circle", "blue square", "green triangle")
SENTENCES = ("Red circle: it rolls", "Blue square: it stands: still", "Green triangle: it falls")


def written(folder, content, name="rephrased.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


def begun(stage="fit", labels=(0, 1, 2), **options):
    torch.manual_seed(0)
    method = FROSTER(TinyCLIP(), **options)
    names = tuple(NAMES[label] for label in labels)
    method.use(SimpleNamespace(train_classes=ClassList(names, labels, NAMES)))
    method.setup(stage)
    if stage == "fit":
        method.on_fit_start()
    return method.train()


def loss_of(method):
    torch.manual_seed(1)
    return method.losses(torch.randn(2, 2, 3, 32, 32), torch.tensor([0, 1]), 3)


def test_at_the_beginning_the_student_is_its_teacher():
    terms = loss_of(begun(neighbours=0))
    assert terms["image"].item() == pytest.approx(0, abs=1e-5)
    assert terms["text"].item() == pytest.approx(0, abs=1e-5)
    assert loss_of(begun())["image"].item() > 1e-3  # neighbours are what it has to learn


def test_the_teacher_stays_as_it_was_loaded_and_in_no_checkpoint():
    method = begun()
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(0.1)
    original = TinyCLIP().state_dict()
    assert all(torch.equal(value, original[key]) for key, value in method.teacher.state_dict().items())
    assert not any(key.startswith("teacher") for key in method.trained_keys())
    loss_of(method)["loss"].backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(
        parameter.grad is not None
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and not name.endswith("logit_bias")
    )


def test_without_distillation_there_is_no_teacher():
    method = begun(distillation=0.0)
    assert method.teacher is None
    assert method.leaves_parameters_unused
    assert loss_of(method).keys() == {"loss", "ce"}


def test_texts_are_templates_of_the_name_with_the_sentence_behind_them(tmp_path):
    path = written(tmp_path, dict(enumerate(SENTENCES)))
    method = begun(rephrased=path, labels=(1, 2))
    texts = method.texts("blue square")
    assert len(texts) == 29
    assert texts[0] == "a photo of Blue square. Blue square: it stands: still"
    assert texts[-1] == SENTENCES[1]
    assert FROSTER(TinyCLIP(pretrained=False)).texts("blue") == [
        *(template.format("blue") for template in PROMPTS["mote"]), "blue",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="a file without 'cut'"):
        method.texts("cut")


def test_a_step_takes_one_template_and_the_sentences_alone(tmp_path):
    method = begun(rephrased=written(tmp_path, dict(enumerate(SENTENCES))))
    with torch.no_grad():
        for template in (0, 27):
            texts = [text for name in NAMES for text in (method.texts(name)[template], method.texts(name)[-1])]
            features = torch.nn.functional.normalize(method.backbone.encode_texts(texts), dim=-1).view(3, 2, -1)
            expected = torch.nn.functional.normalize(features.sum(dim=1), dim=-1)
            assert torch.allclose(method.train_text(template), expected, atol=1e-5)
            assert torch.allclose(method._teacher_texts[template], expected, atol=1e-5)


def test_draws_are_a_function_of_seed_and_step(monkeypatch):
    method = begun()
    drawn = []
    for step in (*range(200), *range(200)):
        monkeypatch.setattr(FROSTER, "global_step", step)
        drawn.append(method.draw())
    assert drawn[:200] == drawn[200:]
    assert set(drawn) == set(range(28))
    method.seed = 1
    assert method.draw() != drawn[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: "Red circle: it rolls"}, "lacks key '1'"),
        ({0: "it rolls", 1: "a: b", 2: "a: b"}, r"key '0' \(red circle\): 'it rolls'; allowed: a string 'Name: sent"),
        ({0: ["a: b"], 1: "a: b", 2: "a: b"}, r"key '0' \(red circle\): \['a: b'\]; allowed"),
        (dict(enumerate((*SENTENCES[1:], SENTENCES[0]))), "another order than the class names"),
    ],
)
def test_a_file_of_rephrased_names_is_checked(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        begun(rephrased=written(tmp_path, content))


def test_names_without_a_sentence_are_a_deviation():
    assert FROSTER(TinyCLIP(pretrained=False)).deviations() == {"rephrased": None}
    assert FROSTER(TinyCLIP(pretrained=False), rephrased="file.json").deviations() == {}
