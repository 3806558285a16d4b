"""Heads on one feature a video: their formulas, in float64 where they are exact, and what they refuse."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vlbench.backbones import TinyCLIP, VideoNetwork
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.errors import ConfigError
from vlbench.methods import (
    CLIPAdapter,
    LogisticProbe,
    NearestMean,
    NearestNeighbours,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
    ZeroShotProbe,
)
from vlbench.methods.head_only.descent import descend
from vlbench.methods.head_only.features import HeldoutFeatures, TrainingFeatures
from vlbench.methods.head_only.probes import PENALTIES

pytestmark = pytest.mark.quick

HEADS = [CLIPAdapter, LogisticProbe, NearestMean, NearestNeighbours, TipAdapter, TipAdapterF, ZeroShotProbe]
NAMES = ("red circle", "blue square", "green star", "white ring")


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return TinyCLIP().eval()


def clusters(videos=24, passes=1, noise=0.15, seed=0, width=128):
    """Features of videos around the corners of a simplex, a class each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(videos) % len(NAMES)
    centres = F.normalize(torch.randn(len(NAMES), width, generator=torch.Generator().manual_seed(7)), dim=-1)
    features = centres[labels][:, None] + noise * torch.randn(videos, passes, width, generator=generator)
    return TrainingFeatures(features, labels)


def learned(kind, backbone, training=None, heldout=None, names=NAMES, **options):
    method = kind(backbone, **options).eval()
    method.learn_from(training or clusters(), heldout, names)
    return method


def scores(method, video, names=NAMES):
    with torch.no_grad():
        return method.score(video, method.encode_classes(names))


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_learns_classes_that_can_be_told_apart(backbone, kind):
    # The texts know nothing of these classes, and a light cache would not outweigh them.
    options = {"alpha": 200.0} if issubclass(kind, TipAdapter) else {}
    method, unseen = learned(kind, backbone, **options), clusters(seed=1)
    right = scores(method, unseen.units).argmax(dim=-1) == unseen.labels
    assert right.double().mean() > 0.9
    blind = scores(ZeroShot(backbone), unseen.units).argmax(dim=-1) == unseen.labels
    assert blind.double().mean() < 0.8


@pytest.mark.parametrize("kind", HEADS)
def test_learning_twice_gives_the_same_bits_and_a_checkpoint_brings_them_back(backbone, kind):
    one, other = learned(kind, backbone), learned(kind, backbone)
    assert one.trained_digest() == other.trained_digest()
    checkpoint = {"state_dict": dict(one.state_dict())}
    one.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"].keys() == one.trained_keys()
    again = kind(backbone).eval()
    assert again.trained_digest() != one.trained_digest()
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"])
    assert again.trained_digest() == one.trained_digest()
    assert again.known_names == NAMES
    video = clusters(seed=2).units
    assert torch.equal(scores(again, video), scores(one, video))


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (NearestMean, 0), (NearestNeighbours, 0), (TipAdapter, 0), (TipAdapterF, 24 * 128), (ZeroShotProbe, 4 * 128),
        (LogisticProbe, 4 * 128 + 4), (CLIPAdapter, 2 * 32 * 128),
    ],
)  # fmt: skip
def test_what_a_descent_ends_with_are_the_parameters_that_train(backbone, kind, number):
    method = learned(kind, backbone)
    assert sum(each.numel() for each in method.parameters() if each.requires_grad) == number


@pytest.mark.parametrize("kind", HEADS)
def test_a_backbone_without_texts_is_refused_before_anything_is_read(kind):
    with torch.device("meta"):
        network = VideoNetwork("x3d_m")
    with pytest.raises(ConfigError, match="x3d_m has no text tower; use a CLIP"):
        kind(network)


def test_nearest_mean(backbone):
    training, video = clusters(passes=2), clusters(seed=1).units
    means = [training.passes[training.labels == c].mean(dim=1) for c in range(4)]
    centres = torch.stack([F.normalize(F.normalize(each, dim=-1).mean(dim=0), dim=0) for each in means])
    expected = backbone.logit_scale.exp() * video @ centres.T
    torch.testing.assert_close(scores(learned(NearestMean, backbone, training), video), expected)


@pytest.mark.parametrize("neighbours", [1, 5, 1000])
def test_nearest_neighbours(backbone, neighbours):
    training, video = clusters(), clusters(seed=1, noise=0.4).units.double()
    method = learned(NearestNeighbours, backbone, training, neighbours=neighbours)
    expected = torch.zeros(len(video), 4, dtype=torch.float64)
    cosines = video @ training.units.double().T
    for row, values in enumerate(cosines):
        for index in values.argsort(descending=True)[:neighbours]:
            expected[row, training.labels[index]] += (values[index] / 0.07).exp()
    expected /= expected.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(scores(method, video.float()).double(), expected, atol=1e-5, rtol=0)


def test_tip_adapter_scores_any_classes(backbone):
    """Classes that it has no videos of get their text alone, those that it has at another place their videos."""
    method, video = learned(TipAdapter, backbone), clusters(seed=1).units
    names = ("a dog", NAMES[2])
    text = method.encode_text(names)
    keys, labels = clusters().units, clusters().labels
    cached = 3 * torch.exp(-(1 - video @ keys.T)) @ (labels == 2).float()[:, None]
    expected = 100 * video @ text.T + F.pad(cached, (1, 0))
    torch.testing.assert_close(scores(method, video, names), expected, rtol=1e-4, atol=1e-4)


def test_heldout_videos_choose_and_training_videos_do_not(backbone):
    """Held-out videos whose labels contradict the training's ask for another weight of the cache."""
    training = clusters()
    others = HeldoutFeatures(clusters(seed=3).units, (clusters(seed=3).labels + 1) % 4)
    same = HeldoutFeatures(clusters(seed=3).units, clusters(seed=3).labels)
    chosen = [learned(TipAdapter, backbone, training, heldout).factors for heldout in (None, others, same)]
    assert chosen[0].tolist() == [3.0, 1.0]
    assert chosen[1][0] < chosen[2][0]


def test_numbers_too_small_for_a_float_are_left_out_of_a_descent_and_change_no_bit(monkeypatch):
    """Well separated classes, whose gradients have squares below 1e-38; the thread's own mode comes back."""
    training, smallest = clusters(noise=0.05), []

    def trained():
        weights = F.normalize(training.passes[:4, 0], dim=-1)
        weights[1] += weights[0]  # of which one class is confused with another
        weights.requires_grad_(True)
        optimizer = torch.optim.AdamW([weights], lr=1e-3, eps=1e-8)

        def loss(video, labels):
            return F.cross_entropy(60 * video @ weights.T, labels)

        losses = descend(optimizer, loss, training, batch_size=8, seed=0, epochs=4)
        squares = optimizer.state[weights]["exp_avg_sq"]
        smallest.append(squares[squares > 0].min().item())
        return weights.detach().clone(), losses

    weights, losses = trained()
    assert torch.tensor(1e-39) * 0.5 > 0
    with monkeypatch.context() as patch:
        patch.setattr(torch, "set_flush_denormal", lambda _: True)
        plain_weights, plain_losses = trained()
    tiny, supported = torch.finfo(torch.float32).tiny, torch.set_flush_denormal(False)
    assert smallest[1] < tiny
    assert (smallest[0] >= tiny) == supported
    assert torch.equal(weights, plain_weights)
    assert losses == plain_losses
    with pytest.raises(ConfigError, match=r"eps is 1e-12; allowed: 1e-08 to 1"):
        TipAdapterF(TinyCLIP(), eps=1e-12)


def test_a_probe_that_starts_as_zero_shot(backbone):
    video = clusters(seed=1).units
    start = learned(ZeroShotProbe, backbone, lr=0.0)
    torch.testing.assert_close(scores(start, video), backbone.logit_scale.exp() * scores(ZeroShot(backbone), video))


def test_logistic_regression_is_solved_to_the_end(backbone):
    """The gradient of the stated objective vanishes, in float64."""
    training, penalty = clusters(noise=0.5, passes=2), 1e-3
    weights, biases = LogisticProbe(backbone, penalty=penalty, iterations=500).solve(
        TrainingFeatures(training.passes.double(), training.labels), 4, penalty
    )
    weights, biases = weights.requires_grad_(), biases.requires_grad_()
    samples = F.normalize(training.passes.double(), dim=-1).flatten(0, 1)
    labels = training.labels.repeat_interleave(2)
    loss = F.cross_entropy(samples @ weights.T + biases, labels) + penalty / 2 * weights.square().sum()
    gradients = torch.autograd.grad(loss, [weights, biases])
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-5


def test_heldout_videos_choose_the_penalty(backbone):
    training = clusters(noise=0.5)
    heldout = HeldoutFeatures(clusters(seed=5, noise=0.5).units, clusters(seed=5).labels)
    method = learned(LogisticProbe, backbone, training, heldout)
    accuracies = []
    for penalty in PENALTIES:
        weights, biases = method.solve(training, 4, penalty)
        accuracies.append(
            ((heldout.units @ weights.T + biases).argmax(dim=-1) == heldout.labels).double().mean().item()
        )
    best = accuracies.index(max(accuracies))
    weights, _ = method.solve(training, 4, PENALTIES[best])
    assert torch.equal(method.class_weights, weights)


def test_clip_adapter_is_the_backbone_at_ratio_zero(backbone):
    video = clusters(seed=1).units
    expected = backbone.logit_scale.exp() * scores(ZeroShot(backbone), video)
    torch.testing.assert_close(scores(learned(CLIPAdapter, backbone, ratio=0.0), video), expected)
    method = learned(CLIPAdapter, backbone)
    adapted = 0.2 * (video @ method.down.T).relu() @ method.up.T + 0.8 * video
    expected = backbone.logit_scale.exp() * F.normalize(adapted, dim=-1) @ method.encode_text(NAMES).T
    torch.testing.assert_close(scores(method, video), expected)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_has_learned_other_classes_is_refused_unless_it_can_score_them(backbone, kind):
    method = kind(backbone)
    method.train_classes = ClassList(NAMES, (0, 1, 2, 3), NAMES)
    evaluated = EvaluationSet(Subset(), method.train_classes, {"a": 0}, "made up")
    method.use(SimpleNamespace(sets=lambda part: [evaluated], train_classes=method.train_classes))
    if method.opens_vocabulary:
        assert method.evaluator("test").sets == [evaluated]
        return
    with pytest.raises(ConfigError, match=r"has learned no classes, and the test has 4; give a checkpoint"):
        method.evaluator("test")
    method.learn_from(clusters(), None, ("one", "two", "three", "four"))
    with pytest.raises(ConfigError, match="has learned 4 other classes"):
        method.evaluator("test")
