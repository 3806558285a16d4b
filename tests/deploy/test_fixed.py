"""A method on fixed classes computes what an evaluation does, and what is folded computes the same with less."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

from tests.deploy.methods import CLASSES, FRAMES, KINDS, NAMES, moved
from tests.tolerance import assert_same_bits
from vlbench.clips.batch import Clip, ViewBatch
from vlbench.datasets.specs import EvaluationSet, Subset
from vlbench.deploy import FixedClasses
from vlbench.deploy.formats import example, exported
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import Evaluator
from vlbench.methods import MMA, MSTA, LoRA, MoTE, NearestMean, NearestNeighbours, VLPrompting, ZeroShot

VIEWS = 2


def evaluated(method, pixels):
    """Probabilities, or scores where there are none, as an evaluation stores them and a record states them."""
    videos = {f"v{k}": 0 for k in range(len(pixels))}
    clips = [Clip(view, 0, name) for name, view in zip(videos, pixels, strict=True)]
    evaluator = Evaluator(method, [EvaluationSet(Subset(), CLASSES, videos, "made up")])
    (predictions,) = evaluator.predict(ViewBatch.collate(clips))
    rule = method.probability
    values = predictions.cosines if rule.source == "cosines" else predictions.scores
    return values if rule.factor is None else (rule.factor * values).softmax(dim=-1)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_module_computes_what_an_evaluation_does(kind):
    method = moved(kind)
    with torch.no_grad(), method.evaluation_weights():
        module = FixedClasses(method, NAMES, FRAMES)
        pixels = example(module, 3, VIEWS)
        outputs = module(pixels)
        torch.testing.assert_close(outputs, evaluated(method, pixels), rtol=0, atol=1e-6)
        assert_same_bits(module(pixels[:, :1]), module(pixels[:, 0]))
    assert outputs.std(dim=0).max() > 1e-4, "the videos all have one score"
    if module.output == "probabilities":
        torch.testing.assert_close(outputs.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("fusion", ["probabilities", "logits", "cosines", "softmax_of_mean"])
def test_views_are_fused_as_in_a_test(fusion):
    method = moved(ZeroShot, view_fusion=fusion)
    module = FixedClasses(method, NAMES, FRAMES)
    pixels = example(module, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(module(pixels), evaluated(method, pixels), rtol=0, atol=1e-6)


class State(NamedTuple):
    features: torch.Tensor
    count: int


@dataclass(frozen=True)
class Parts:
    pairs: tuple[torch.Tensor, ...]
    named: dict[str, list[torch.Tensor]]


class OfParts(ZeroShot):
    """The state of its classes is of every kind that a method may make, and part of the method."""

    def encode_classes(self, class_names):
        self.kept = super().encode_classes(class_names) + 0 * self.backbone.logit_scale
        return Parts((self.kept, 3 * self.kept), {"more": [State(5 * self.kept, 2)]})

    def score(self, video, classes):
        (state,) = classes.named["more"]
        assert state.count == 2
        first, second = classes.pairs
        return super().score(video, state.features - second - first)


def test_a_state_of_many_parts_is_kept_once_and_is_the_modules_own():
    method = moved(OfParts)
    method.requires_grad_(True)
    module = FixedClasses(method, NAMES, FRAMES)
    assert not any(buffer.requires_grad for buffer in module.buffers())
    pixels = example(module, 2, 3)
    with torch.no_grad():
        expected = FixedClasses(moved(ZeroShot), NAMES, FRAMES)(pixels)
        method.kept.zero_()
        torch.testing.assert_close(module(pixels), expected, rtol=0, atol=1e-6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert module(pixels).dtype == torch.float32


def test_only_a_method_without_a_probability_gives_scores():
    assert FixedClasses(moved(NearestNeighbours), NAMES, FRAMES).output == "scores"
    assert FixedClasses(moved(NearestMean), NAMES, FRAMES).output == "probabilities"


# Folding ---------------------------------------------------------------------------------------------------------


def total(tensors):
    return sum(value.numel() for value in tensors.values())


def folded(method):
    """Largest difference of outputs from those of the method as it trained, and the weights in the exported graph."""
    plain = FixedClasses(method, NAMES, FRAMES)
    pixels = example(plain, 2, VIEWS)
    with torch.no_grad():
        expected = plain(pixels)
        with method.evaluation_weights():
            program = exported(FixedClasses(method, NAMES, FRAMES))
            assert expected.std(dim=0).max() > 1e-3
            return (program.module()(pixels) - expected).abs().max(), dict(program.state_dict)


def test_experts_become_one_mlp():
    method = moved(MoTE, layers=2, experts=3, original_share=0.0)
    difference, weights = folded(method)
    assert difference <= 1e-5
    of_mlps = {name: value for name, value in weights.items() if ".mlp.c_" in name and ".head." in name}
    assert not any("fc_up" in name or "fusion_weight" in name for name in weights)
    width = method.backbone.embed_dim
    assert total(of_mlps) == 2 * (8 * width**2 + 5 * width)  # of two layers, and not of three experts in each


@pytest.mark.parametrize("parts", ["qv", "qkvo"])
def test_low_rank_terms_become_weights(parts):
    method = moved(LoRA, rank=4, parts=parts)
    difference, weights = folded(method)
    assert difference <= 1e-5
    every = sum(parameter.numel() for parameter in method.backbone.visual.parameters())
    image = method.backbone.image
    terms = len(image.blocks) * len(parts) * 2 * 4 * image.width
    assert total({name: value for name, value in weights.items() if ".visual." in name}) == every - terms


@pytest.mark.parametrize("kind", [MSTA, MMA])
def test_adapters_with_a_relu_in_the_middle_stay_and_those_of_the_text_go(kind):
    """Nothing of them is a product of matrices: `up relu(shared relu(down x))`."""
    method = moved(kind, scale=0.3)
    _, weights = folded(method)
    adapters = {name.split("adapters.")[1] for name in weights if "adapters." in name}
    every = {name for name, _ in method.adapters.named_parameters()}
    assert adapters == {name for name in every if ".text_" not in name} < every


def test_a_text_tower_that_no_score_needs_is_left_out():
    method = moved(VLPrompting)
    _, weights = folded(method)
    kept = {name.removeprefix("method.") for name in weights} - {"classes_0"}
    visual = {f"backbone.clip.visual.{name}" for name, _ in method.backbone.visual.named_parameters()}
    assert {name for name in kept if name.startswith("backbone.")} == visual | {"backbone.clip.logit_scale"}


# Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "given"),
    [
        (torch.zeros(1, 1, FRAMES, 3, 32, 32), "float32 (1, 1, 2, 3, 32, 32)"),
        (torch.zeros(1, 1, 5, 3, 32, 32, dtype=torch.uint8), "uint8 (1, 1, 5, 3, 32, 32)"),
        (torch.zeros(1, 1, FRAMES, 3, 48, 48, dtype=torch.uint8), "uint8 (1, 1, 2, 3, 48, 48)"),
        (torch.zeros(FRAMES, 3, 32, 32, dtype=torch.uint8), "uint8 (2, 3, 32, 32)"),
        (torch.zeros(1, 1, 1, FRAMES, 3, 32, 32, dtype=torch.uint8), "uint8 (1, 1, 1, 2, 3, 32, 32)"),
        (torch.zeros(1, FRAMES, 32, 32, 3, dtype=torch.uint8), "uint8 (1, 2, 32, 32, 3)"),
    ],
)
def test_other_pixels_are_named(pixels, given):
    module = FixedClasses(moved(ZeroShot), NAMES, FRAMES)
    with pytest.raises(ConfigError) as error:
        module(pixels)
    assert str(error.value) == (
        f"pixels are {given}; allowed: uint8 of the shape (videos, views, 2, 3, 32, 32), or (videos, 2, 3, 32, 32) for"
        " one view of each"
    )


@pytest.mark.parametrize(
    ("kind", "names", "message"),
    [
        (ZeroShot, (), "there are no classes"),
        (ZeroShot, ("a dog", "a cat", "a dog"), "the classes have 'a dog' more than once"),
        (NearestMean, NAMES[::-1], "nearest_mean has no open vocabulary: it scores its 4 training classes"),
    ],
)
def test_classes_that_a_method_cannot_score_are_refused(kind, names, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        FixedClasses(moved(kind), names, FRAMES)
