"""Classes, and the weights of an evaluation, are float32 whatever context an evaluator is made in."""

import pytest
import torch

from tests.deploy.methods import CLASSES, FRAMES, KINDS, NAMES, moved
from vlbench.clips.batch import Box, PackedVideos, ViewBatch
from vlbench.datasets.specs import EvaluationSet, Subset
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import Evaluator


@pytest.mark.parametrize("name", KINDS)
def test_an_evaluator_made_under_autocast_scores_as_one_made_before(name):
    try:
        method = moved(KINDS[name])
    except ConfigError as error:
        pytest.skip(f"refused: {error}")
    size, ids = method.backbone.image_size, ["a", "b", "c"]
    pixels = torch.randint(256, (3, 1, FRAMES, size, size, 3), dtype=torch.uint8)
    videos = PackedVideos(pixels.flatten(), [(1, FRAMES, size, size, 3)] * 3)
    batch = ViewBatch(videos, [(Box(0, 0, size, size),)] * 3, ids, {}, at_once=3)
    sets = [EvaluationSet(Subset(), CLASSES, dict.fromkeys(ids, 0), "")]

    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)

    with method.evaluation_weights():
        evaluator = Evaluator(method, sets)
        with autocast():
            (expected,) = evaluator.predict(batch)
    with autocast(), method.evaluation_weights():
        (scored,) = Evaluator(method, sets).predict(batch)
    assert expected.scores.shape == (3, len(NAMES))
    assert torch.equal(scored.scores, expected.scores)
