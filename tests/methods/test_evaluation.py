"""Several class lists on the same videos, scored in one pass."""

import pytest
import torch

from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import Clip, ClipBatch
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.methods import MSTA, MoTE, ZeroShot

NAMES = ("red circle", "blue square", "green triangle", "white star", "yellow ring", "black cross")
VIEWS, FRAMES = 3, 4


def evaluation_set(classes, labels, videos, key):
    names = tuple(NAMES[label] for label in classes)
    subset = Subset(classes=key)
    of_set = {name: classes.index(label) for name, label in zip(videos, labels, strict=True) if label in classes}
    return EvaluationSet(subset, ClassList(names, tuple(classes), NAMES), of_set, "made up")


@pytest.fixture
def videos():
    """Nine videos, the fifth unreadable, with labels of all classes."""
    generator = torch.Generator().manual_seed(0)
    labels = [0, 1, 2, 3, 4, 5, 0, 3, 5]
    clips = [
        Clip(torch.randint(0, 256, (VIEWS, FRAMES, 3, 32, 32), dtype=torch.uint8, generator=generator), label, f"v{k}")
        for k, label in enumerate(labels)
    ]
    clips[4] = Clip(None, labels[4], "v4", "truncated")
    return clips, labels


def method_of(name):
    torch.manual_seed(0)
    backbone = TinyCLIP()
    method = {
        "zero_shot": lambda: ZeroShot(backbone),
        "mote": lambda: MoTE(backbone, layers=1, experts=2),
        "msta": lambda: MSTA(backbone, blocks=2, bottleneck=64, consistency=0.0),
    }[name]()
    method.train_classes = ClassList(NAMES, tuple(range(len(NAMES))), NAMES)
    # Not the initial values, with which MSTA's adapters and the merged experts do nothing.
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape))
    method.on_test_start()
    return method.eval()


@torch.no_grad()
def evaluate(method, sets, clips, batch_size):
    logged = {}
    method.log_dict = lambda values, **_: logged.update(values)
    method.begin_evaluation(sets)
    for first in range(0, len(clips), batch_size):
        method.test_step(ClipBatch.collate(clips[first : first + batch_size]), 0)
    method.on_test_epoch_end()
    return method.evaluations, logged


@pytest.mark.parametrize("name", ["zero_shot", "mote", "msta"])
def test_one_pass_over_overlapping_sets_equals_a_pass_for_each(videos, name):
    clips, labels = videos
    ids = [clip.id for clip in clips]
    sets = [
        evaluation_set([0, 1, 2], labels, ids, "base"),
        evaluation_set([5, 4, 3], labels, ids, "novel"),
        evaluation_set([0, 1, 2, 3, 4, 5], labels, ids, "all"),
    ]
    method = method_of(name)
    encoded = []
    encode = method.encode_frames
    method.encode_frames = lambda views: (encoded.append(len(views)), encode(views))[1]
    together, logged = evaluate(method, sets, clips, batch_size=4)
    assert sum(encoded) == 8 * VIEWS, "every readable video goes through the tower once a view"
    assert max(encoded) == 4, "one view of a batch at a time"

    for chosen, found in zip(sets, together, strict=True):
        (alone,), _ = evaluate(method, [chosen], [clip for clip in clips if clip.id in chosen.labels], batch_size=2)
        assert found.set is chosen
        assert found.predictions.ids == alone.predictions.ids == sorted(set(chosen.labels) - {"v4"})
        assert found.predictions.failures == alone.predictions.failures
        assert found.predictions.labels.tolist() == [chosen.labels[name] for name in found.predictions.ids]
        for kind in ("scores", "cosines", "features"):
            torch.testing.assert_close(
                getattr(found.predictions, kind), getattr(alone.predictions, kind), rtol=0, atol=1e-5
            )
        assert found.metrics == pytest.approx(alone.metrics)
    assert together[1].predictions.failures == {"v4": (1, "truncated")}
    assert logged["test/top1"] == pytest.approx(together[0].metrics["top1"])
    assert logged["test/novel-split1/top1"] == pytest.approx(together[1].metrics["top1"])


def test_a_process_without_videos_has_empty_results():
    method = method_of("zero_shot")
    chosen = EvaluationSet(Subset(), ClassList(NAMES, tuple(range(6)), NAMES), {"elsewhere": 0}, "made up")
    (found,), _ = evaluate(method, [chosen], [], batch_size=2)
    assert found.predictions.total == 0
    assert found.predictions.scores.shape == (0, 6)
    method.begin_evaluation([chosen])
    method.test_step(ClipBatch.collate([]), 0)
    method.on_test_epoch_end()
    assert method.evaluations[0].predictions.cosines.shape == (0, 6)
