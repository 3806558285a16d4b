"""What a suite costs, before anything of it is run."""

import pytest
import torch

from vlbench.backbones import TinyCLIP
from vlbench.cli.configs import find_config
from vlbench.cli.estimates import describe_cost, estimate_cost
from vlbench.datasets.ucf101 import UCF101
from vlbench.methods import AdaptFormer, ViFiCLIP
from vlbench.protocols.plans import plan
from vlbench.protocols.suites import MethodConfig, ProtocolConfig, Suite
from vlbench.tools.cost import count

TINY = ["backbone/tiny.yaml"]
MSTA = MethodConfig(["msta_fewshot.yaml", "demo/msta.yaml"])


def cost(*protocols, overlays=TINY, method=MSTA):
    return estimate_cost(plan(Suite(list(protocols), {"method": method}, overlays)), find_config)


def test_clips_are_those_of_all_epochs_and_views_of_all_videos():
    few = cost(ProtocolConfig("few_shot@1", ["data/ucf101.yaml"], shots=[2, 4], views=["views/5x3.yaml"]))
    epochs, videos = 50, UCF101().spec.counts["test", 1]
    assert few.trained == (2 + 4) * 101 * epochs
    assert few.tested == 2 * videos * 5 * 3
    assert not few.unknown


def test_halves_of_the_classes_have_their_part_of_the_videos():
    halves = cost(ProtocolConfig("base_to_novel@1", ["data/hmdb51.yaml"], seeds=[1]))
    assert halves.trained == 16 * 26 * 50
    assert halves.tested == 1530


def test_operations_grow_with_frames_and_not_with_what_they_do_not_depend_on(tmp_path):
    (tmp_path / "frames.yaml").write_text("data:\n  init_args:\n    frames: 16\n")
    (tmp_path / "rate.yaml").write_text("model:\n  init_args:\n    lr: 0.5\n")
    entry = ProtocolConfig("few_shot@1", ["data/ucf101.yaml"], shots=[2])
    plain, more, other = (
        cost(entry, overlays=[*TINY, *names]).operations
        for names in ([], [str(tmp_path / "frames.yaml")], [str(tmp_path / "rate.yaml")])
    )
    assert 1.9 < more / plain < 2.1
    assert other == plain


def test_operations_of_a_step_are_those_of_its_classes():
    """The text tower's part of a training on many classes is not that of another training's few."""
    ucf, hmdb = (ProtocolConfig("few_shot@1", [f"data/{name}.yaml"], shots=[2]) for name in ("ucf101", "hmdb51"))
    assert cost(hmdb, ucf).operations == pytest.approx(cost(hmdb).operations + cost(ucf).operations)


@pytest.mark.parametrize(
    ("kind", "options", "passes"),
    [(AdaptFormer, {"bottleneck": 1}, 2), (ViFiCLIP, {}, 3), (ViFiCLIP, {"tuned": "text"}, 2)],
)
def test_a_backward_pass_has_gradients_of_weights_where_the_tower_trains(kind, options, passes):
    """Adapters inside the blocks of a frozen tower are parameters of it, and next to nothing."""
    with torch.device("meta"):
        method = kind(TinyCLIP(pretrained=False), **options)
    operations = count(method, frames=4, classes=5)
    assert operations.clip / operations.view == pytest.approx(passes, rel=0.05)


def test_what_is_not_known_is_said():
    stages = plan(Suite([ProtocolConfig("few_shot@1", ["data/folder.yaml"], shots=[2])], {"method": MSTA}, TINY))
    lines = describe_cost(stages, find_config)
    assert lines[1].startswith("2 stages are not counted, such as few_shot-folder-method-2shot-seed0-fit")
