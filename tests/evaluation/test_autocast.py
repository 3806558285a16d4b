"""Classes, and the weights of an evaluation, are float32 whatever context an evaluator is made in."""

import pytest
import torch

from tests.deploy.methods import CLASSES, FRAMES, KINDS, NAMES, moved
from tests.tolerance import assert_same_bits
from vlbench.clips.batch import Box, PackedVideos, ViewBatch
from vlbench.datasets.specs import EvaluationSet, Subset
from vlbench.deploy.fixed import FixedClasses
from vlbench.evaluation.evaluator import Evaluator


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("name", KINDS)
def test_an_evaluator_made_under_autocast_scores_as_one_made_before(name):
    method = moved(KINDS[name])
    size, ids = method.backbone.image_size, ["a", "b", "c"]
    pixels = torch.randint(256, (3, 1, FRAMES, size, size, 3), dtype=torch.uint8)
    videos = PackedVideos(pixels.flatten(), [(1, FRAMES, size, size, 3)] * 3)
    batch = ViewBatch(videos, [(Box(0, 0, size, size),)] * 3, ids, {}, at_once=3)
    sets = [EvaluationSet(Subset(), CLASSES, dict.fromkeys(ids, 0), "")]

    with method.evaluation_weights():
        evaluator = Evaluator(method, sets)
        with autocast():
            (expected,) = evaluator.predict(batch)
    with autocast(), method.evaluation_weights():
        (scored,) = Evaluator(method, sets).predict(batch)
    assert expected.scores.shape == (3, len(NAMES))
    assert_same_bits(scored.scores, expected.scores)


@pytest.mark.parametrize("name", KINDS)
def test_a_module_for_an_export_made_under_autocast_has_the_classes_of_one_made_before(name):
    method = moved(KINDS[name])
    with method.evaluation_weights():
        expected = FixedClasses(method, NAMES, FRAMES)
        with autocast():
            module = FixedClasses(method, NAMES, FRAMES)
    kept = [dict(each.named_buffers(recurse=False)) for each in (module, expected)]
    assert kept[0].keys() == kept[1].keys()
    for key, value in kept[1].items():
        assert_same_bits(kept[0][key], value)
