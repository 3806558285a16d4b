"""What a suite costs, before anything of it is run."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.gpu.test_fake import ALWAYS, METHODS, SIZES
from vlbench.backbones import TinyCLIP
from vlbench.cli import estimates
from vlbench.cli.estimates import describe_cost, estimate_cost
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.ucf101 import UCF101
from vlbench.methods import AdaptFormer, MoTE, ViFiCLIP
from vlbench.protocols.plans import plan
from vlbench.protocols.suites import MethodConfig, ProtocolConfig, Suite
from vlbench.tools.cost import count
from vlbench.tools.memory import prepare

TINY = ["backbone/tiny.yaml"]
MSTA = MethodConfig(["msta_fewshot.yaml", "demo/msta.yaml"])


def cost(*protocols, overlays=TINY, method=MSTA):
    return estimate_cost(plan(Suite(list(protocols), {"method": method}, overlays)))


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


@pytest.fixture
def short_sentences(monkeypatch):
    """Has sentences of classes fit the tiny CLIP's context."""
    monkeypatch.setattr("vlbench.tools.memory._SENTENCE", "it moves")


@pytest.mark.parametrize("kind", [MoTE, ViFiCLIP])
def test_operations_are_those_of_a_training_step_that_is_computed(kind):
    with torch.device("meta"):
        pretended = kind(TinyCLIP(pretrained=False))
    counted = count(pretended, frames=4, classes=5)
    method = kind(TinyCLIP(pretrained=False))
    prepare(method, 5)
    totals = []
    for number in (8, 16):
        video = torch.zeros(number, 4, 3, 32, 32, dtype=torch.uint8)
        batch = ClipBatch(video, torch.zeros(number, dtype=torch.int64), [str(index) for index in range(number)], {})
        # The counter knows no formula for the CPU's fused attention.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            method.training_loss(batch)
        totals.append(counter.get_total_flops())
    tower = list(method.backbone.visual.parameters())
    passes = 3 if all(parameter.requires_grad for parameter in tower) else 2
    assert counted.clip == passes * (totals[1] - totals[0]) / 8
    assert counted.step == passes * (2 * totals[0] - totals[1])


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_every_method_is_counted(kind, short_sentences):
    with torch.device("meta"):
        method = kind(TinyCLIP(pretrained=False), **SIZES.get(kind.__name__, {}), **ALWAYS.get(kind.__name__, {}))
    trains = any(parameter.requires_grad for parameter in method.parameters())
    operations = count(method, frames=4, classes=5)
    assert operations.view > 0
    assert (operations.clip > operations.view) == trains


def test_a_configuration_is_read_once_and_a_method_counted_once_for_a_number_of_classes(monkeypatch):
    read, counted = [], []
    monkeypatch.setattr(estimates, "read_config", lambda path, of=estimates.read_config: read.append(path) or of(path))
    monkeypatch.setattr(
        "vlbench.tools.cost.count",
        lambda *method, of=count, **options: counted.append(options["classes"]) or of(*method, **options),
    )
    datasets = ["data/ucf101.yaml", "data/hmdb51.yaml"]
    total = cost(ProtocolConfig("few_shot@1", datasets, shots=[2, 4], seeds=[0, 1]))
    assert total.trained == (2 + 4) * 2 * (101 + 51) * 50
    assert sorted(read) == sorted(set(read))
    assert len(read) == len([*MSTA.configs, *datasets, *TINY])
    assert sorted(counted) == [51, 101]


def test_a_dataset_may_be_named_by_its_class_alone(tmp_path):
    (tmp_path / "short.yaml").write_text("data: HMDB51DataModule\n")
    named, own = (
        cost(ProtocolConfig("few_shot@1", [name], shots=[2]))
        for name in (str(tmp_path / "short.yaml"), "data/hmdb51.yaml")
    )
    assert named == own


def test_what_is_not_known_is_said():
    stages = plan(Suite([ProtocolConfig("few_shot@1", ["data/folder.yaml"], shots=[2])], {"method": MSTA}, TINY))
    lines = describe_cost(stages)
    assert lines[1].startswith("2 stages are not counted, such as few_shot-folder-method-2shot-seed0-fit")
