"""One evaluator for every method: several class lists in one pass, and methods that score in their own ways."""

from types import SimpleNamespace
from typing import NamedTuple

import lightning
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import Clip, ViewBatch
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import Evaluator
from vlbench.evaluation.kept import Keep
from vlbench.methods import MSTA, MoTE, VideoTextMethod, ZeroShot

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
    return method.eval()


def evaluate(method, sets, clips, batch_size):
    with method.evaluation_weights():
        evaluator = Evaluator(method, sets)
        for first in range(0, len(clips), batch_size):
            evaluator.update(ViewBatch.collate(clips[first : first + batch_size]))
        return evaluator.compute()


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
    together = evaluate(method, sets, clips, batch_size=4)
    assert sum(encoded) == 8 * VIEWS, "every readable video goes through the tower once a view"
    assert max(encoded) == 4, "one view of a batch at a time"

    for chosen, found in zip(sets, together, strict=True):
        (alone,) = evaluate(method, [chosen], [clip for clip in clips if clip.id in chosen.labels], batch_size=2)
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


def test_the_loops_of_lightning_log_the_metrics_of_every_set(videos):
    clips, labels = videos
    ids = [clip.id for clip in clips]
    sets = [evaluation_set([0, 1, 2], labels, ids, "base"), evaluation_set([3, 4, 5], labels, ids, "novel")]
    method = method_of("zero_shot")
    method.use(SimpleNamespace(train_classes=method.train_classes, sets=lambda part: sets))
    loader = DataLoader(clips, batch_size=4, collate_fn=ViewBatch.collate)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    (logged,) = trainer.test(method, loader, verbose=False)
    base, novel = evaluate(method, sets, clips, batch_size=4)
    assert [evaluation.metrics for evaluation in method.evaluations] == [base.metrics, novel.metrics]
    assert logged["test/top1"] == pytest.approx(base.metrics["top1"])
    assert logged["test/novel-split1/top1"] == pytest.approx(novel.metrics["top1"])
    said = [line for lines in trainer.predict(method, loader) for line in lines]
    assert sorted(name for name, _, _ in said) == sorted(set(ids) - {"v4"})
    by_id = dict(
        pair for part in (base, novel) for pair in zip(part.predictions.ids, part.predictions.scores, strict=True)
    )
    assert all(score == pytest.approx(by_id[name].max().item()) for name, _, score in said)


def test_a_method_without_a_dataset_says_how_to_hand_it_over():
    with pytest.raises(ConfigError, match=r"ZeroShot has no dataset; call method\.use\(datamodule\.dataset\)"):
        method_of("zero_shot").setup("test")


def test_a_process_without_videos_has_empty_results():
    method = method_of("zero_shot")
    chosen = EvaluationSet(Subset(), ClassList(NAMES, tuple(range(6)), NAMES), {"elsewhere": 0}, "made up")
    (found,) = evaluate(method, [chosen], [], batch_size=2)
    assert found.predictions.total == 0
    assert found.predictions.scores.shape == (0, 6)
    evaluator = Evaluator(method, [chosen])
    evaluator.update(ViewBatch.collate([]))
    assert evaluator.compute()[0].predictions.cosines.shape == (0, 6)


# Methods that score in their own ways ------------------------------------------------------------------------------


class Untrained(VideoTextMethod):
    def training_loss(self, batch):
        raise NotImplementedError

    def parameter_groups(self):
        raise NotImplementedError


class LinearHead(Untrained):
    """No class text: one row of a matrix for each training class."""

    name = "linear_head"
    opens_vocabulary = False

    def __init__(self, backbone, classes=3):
        super().__init__(backbone, "video")
        self.classes = classes
        self.head = torch.nn.Linear(backbone.embed_dim, classes)

    def score(self, video, classes):
        return self.head(video)


class VideoPrompts(Untrained):
    """Text that depends on the video, as in X-CLIP: the class features move towards the video."""

    name = "video_prompts"
    features_depend_on_classes = True

    def score(self, video, classes):
        text = F.normalize(classes + 0.5 * video[:, None].roll(1, dims=-1), dim=-1)
        return torch.einsum("bd,bcd->bc", video, text)


class Sets(NamedTuple):
    frames: torch.Tensor
    mean: torch.Tensor


class BestFrame(Untrained):
    """Compares sets, as OST does: a video is its frames, a class its features and their negatives."""

    name = "best_frame"

    def pool_frames(self, frames, classes=None):
        return Sets(F.normalize(frames, dim=-1), frames.mean(dim=1))

    def encode_classes(self, class_names):
        text = self.encode_text(class_names)
        return {"near": text, "far": -text}

    def score(self, video, classes):
        near, far = (torch.einsum("btd,cd->btc", video.frames, classes[side]).amax(dim=1) for side in ("near", "far"))
        return near - far


def by_hand(method, clip, names):
    """Scores `(V, C)` of a video's views, written out."""
    with torch.no_grad():
        frames = method.backbone.encode_frames(method.backbone.normalize(clip.video))
        video = F.normalize(frames.mean(dim=1), dim=-1)
        if isinstance(method, LinearHead):
            return method.head(video)
        text = method.encode_text(names)
        if isinstance(method, VideoPrompts):
            return torch.stack([
                torch.stack([v @ F.normalize(t + 0.5 * torch.cat([v[-1:], v[:-1]]), dim=0) for t in text])
                for v in video
            ])  # fmt: skip
        cosines = F.normalize(frames, dim=-1) @ text.T
        return cosines.amax(dim=1) - (-cosines).amax(dim=1)


@pytest.mark.parametrize("kind", [LinearHead, VideoPrompts, BestFrame])
def test_a_method_that_scores_in_its_own_way_overrides_score_alone(videos, kind):
    clips, labels = videos
    ids = [clip.id for clip in clips]
    torch.manual_seed(0)
    method = kind(TinyCLIP(), **({} if kind is LinearHead else {"prompts": "video"})).eval()
    if kind is LinearHead:
        method.encode_text = None  # never asked for
    chosen = evaluation_set([0, 1, 2], labels, ids, "base")
    (found,) = evaluate(method, [chosen], clips, batch_size=4)
    predictions = found.predictions
    assert predictions.ids == ["v0", "v1", "v2", "v6"]
    factor = 1 if kind is LinearHead else method.backbone.logit_scale.exp().item()
    for row, name in enumerate(predictions.ids):
        views = by_hand(method, clips[ids.index(name)], chosen.classes.names)
        torch.testing.assert_close(predictions.cosines[row], views.mean(dim=0), rtol=1e-4, atol=1e-5)
        fused = (factor * views).softmax(dim=-1).mean(dim=0)
        torch.testing.assert_close(predictions.scores[row], fused, rtol=1e-3, atol=1e-5)
    # What is no vector cannot be compared with other classes later on.
    assert predictions.features.shape == (4, 0 if kind is BestFrame else method.backbone.embed_dim)


class Leaning(Untrained):
    """Video features that lean to the classes they are scored against."""

    name = "leaning"
    features_depend_on_classes = True

    def pool_frames(self, frames, classes=None):
        return F.normalize(frames.mean(dim=1) + classes.mean(dim=0), dim=-1)


@pytest.mark.parametrize("kind", [ZeroShot, Leaning])
def test_kept_templates_share_the_features_of_a_video_unless_they_depend_on_the_classes(videos, kind):
    clips, labels = videos
    ids = [clip.id for clip in clips]
    sets = [evaluation_set([0, 1, 2], labels, ids, "base"), evaluation_set([3, 4, 5], labels, ids, "novel")]
    others = [("a photo of {}",), ("{}", "a {} in a video")]
    method = kind(TinyCLIP(), prompts="video").eval()
    facts = method.kept_facts(Keep(views=True, templates=True), others)
    pooled, pool = [], method.pool_frames
    method.pool_frames = lambda frames, classes=None: (pooled.append(len(frames)), pool(frames, classes))[1]
    evaluator = Evaluator(method, sets, facts, others)
    evaluator.update(ViewBatch.collate(clips))
    evaluations = evaluator.compute()
    # Four videos of each set can be read.
    assert pooled == [4] * VIEWS * len(sets) * (3 if kind is Leaning else 1)
    for place, templates in enumerate([method.templates, *others]):
        method.templates = templates
        for kept, alone in zip(evaluations, evaluate(method, sets, clips, batch_size=9), strict=True):
            views = kept.predictions.kept[:, place]
            torch.testing.assert_close(views.mean(dim=1), alone.predictions.cosines, rtol=0, atol=1e-6)


def test_a_method_without_an_open_vocabulary_refuses_other_classes():
    classes = ClassList(NAMES[:3], (0, 1, 2), NAMES)
    novel = EvaluationSet(Subset(classes="novel"), ClassList(NAMES[3:], (3, 4, 5), NAMES), {}, "made up")
    method = LinearHead(TinyCLIP())
    method.use(SimpleNamespace(train_classes=classes, sets=lambda part: [novel]))
    method.setup("test")
    with pytest.raises(ConfigError, match=r"linear_head has no open vocabulary.*novel-split1 has other classes"):
        method.evaluator("test")


@pytest.mark.parametrize(
    ("how", "formula"),
    [
        ("probabilities", lambda x: (20 * x).softmax(-1).mean(1)),
        ("logits", lambda x: (20 * x).mean(1)),
        ("cosines", lambda x: x.mean(1)),
        ("softmax_of_mean", lambda x: x.softmax(-1).mean(1).softmax(-1)),
    ],
)
def test_view_fusion_is_an_option(how, formula):
    method = ZeroShot(TinyCLIP(), view_fusion=how)
    with torch.no_grad():
        method.backbone.logit_scale.fill_(torch.tensor(20.0).log())
        cosines = torch.rand(2, 3, 5)
        torch.testing.assert_close(method.fuse_views(cosines), formula(cosines))
