"""Contrastive training: the loss, its groups over processes, and the two methods that train so."""

import multiprocessing
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.methods.test_starting import saved
from tests.processes import run_apart
from tests.tolerance import assert_same_but_rounding
from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import OST, ActionCLIP, ViFiCLIP
from vlbench.methods.parts.contrastive import contrastive_terms

pytestmark = pytest.mark.quick

NAMES = ("red circle", "blue square", "green triangle")
DESCRIBED = Descriptions(
    (("a red thing", "a round thing"), ("a blue thing", "a square thing"), ("a green thing", "a triangle")),
    (("it moves left",), ("it moves right",), ("it turns around",)),
)


def begun(make, **options):
    """A method at the start of a training on three classes."""
    torch.manual_seed(0)
    method = make(TinyCLIP(pretrained=False), **{**({"layers": 1} if make is ActionCLIP else {}), **options})
    method.train_classes = ClassList(NAMES, (0, 1, 2), NAMES, DESCRIBED)
    method.on_fit_start()
    return method.train()


def batch(labels=(0, 2, 1, 0)):
    generator = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (len(labels), 2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ClipBatch(video, torch.tensor(labels), [f"v{index}" for index in range(len(labels))], {})


def part(whole, rows):
    return ClipBatch(whole.video[rows], whole.labels[rows], whole.ids[rows], {})


# The loss ------------------------------------------------------------------------------------------------------------


def test_the_terms_are_divergences_of_soft_targets():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 4, dtype=torch.float64), torch.tensor([1, 0, 1, 2])
    expected = []
    for x in (logits, logits.T):
        total = 0.0
        for i in range(4):
            weights = [torch.tensor(10.0 if labels[i] == labels[j] else 0.0).double().exp() for j in range(4)]
            for j in range(4):
                target = weights[j] / sum(weights)
                total += target * (target.log() - (x[i, j] - x[i].logsumexp(0)))
        expected.append(total / 4)
    assert_same_but_rounding(torch.stack(contrastive_terms(logits, labels)), torch.stack(expected))


@pytest.mark.parametrize("make", [ActionCLIP, OST])
def test_the_loss_of_several_groups_is_their_mean(make):
    whole = batch()
    method = begun(make, contrasted_clips=2).eval()
    halves = [method.training_loss(part(whole, rows))["loss"] for rows in (slice(0, 2), slice(2, 4))]
    assert_same_but_rounding(method.training_loss(whole)["loss"], torch.stack(halves).mean())
    assert not torch.allclose(begun(make).eval().training_loss(whole)["loss"], torch.stack(halves).mean(), rtol=1e-3)


# Processes -----------------------------------------------------------------------------------------------------------


class Loss(nn.Module):
    """A method whose forward pass is its loss, which is what Lightning has DDP wrap."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, clips):
        return self.method.training_loss(clips)["loss"]


def one_of_two(rank, folder):
    """A process with three or one of the four clips, whose gradients DDP averages, against one with all of them."""
    torch.set_num_threads(1)
    expected = {}
    for make in (ActionCLIP, OST):
        method = begun(make, contrasted_clips=4)
        loss = method.training_loss(batch())["loss"]
        loss.backward()
        expected[make] = loss.detach(), {name: p.grad for name, p in method.named_parameters()}
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rows = slice(0, 3) if rank == 0 else slice(3, 4)
    for make, (loss, gradients) in expected.items():
        method = begun(make, contrasted_clips=4)
        wrapped = DistributedDataParallel(Loss(method))
        shared = wrapped(part(batch(), rows))
        shared.backward()
        assert_same_but_rounding(shared.detach(), loss)
        for name, parameter in method.named_parameters():
            largest = gradients[name].abs().max().item()
            assert torch.allclose(parameter.grad, gradients[name], rtol=0, atol=1e-4 * largest + 1e-7), name
    dist.destroy_process_group()


def two_processes(folder):
    """Starts both processes and waits for them."""
    fork = multiprocessing.get_context("fork")  # a new interpreter each would import everything once more
    processes = [fork.Process(target=one_of_two, args=(rank, folder)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path):
    run_apart(two_processes, str(tmp_path), timeout=120)


@pytest.mark.parametrize("make", [ActionCLIP, OST])
def test_clips_that_make_no_whole_group_are_refused(make):
    method, whole = begun(make, contrasted_clips=3), batch()
    method._trainer = SimpleNamespace(world_size=1, global_step=0, accumulate_grad_batches=1)
    with pytest.raises(ConfigError, match=r"contrasted_clips is 3, and all processes together take 4 clips at once"):
        method.training_loss(whole)
    method.training_loss(whole._replace(failures={"v9": (0, "cut off")}))  # an unreadable clip makes a smaller group


@pytest.mark.parametrize(
    ("processes", "accumulated", "counts"), [(1, 1, False), (1, 4, False), (4, 1, False), (4, 2, True)]
)
def test_which_clips_come_together_counts(processes, accumulated, counts):
    method = begun(OST)
    alone = method.settings("training")
    method._trainer = SimpleNamespace(world_size=processes, accumulate_grad_batches=accumulated)
    assert (method.settings("training") != alone) == counts


# ActionCLIP ----------------------------------------------------------------------------------------------------------


def test_templates_follow_from_seed_step_and_video():
    method, other = begun(ActionCLIP), begun(ActionCLIP, seed=1)
    many = ClipBatch(None, torch.zeros(800), [f"v{index}" for index in range(800)], {})
    drawn = method.drawn_templates(many)
    counts = torch.bincount(torch.tensor(drawn), minlength=16)
    assert counts.min() > 25
    assert counts.max() < 80
    assert drawn[300:] == method.drawn_templates(many._replace(ids=many.ids[300:]))  # in another process
    assert drawn != other.drawn_templates(many)
    method._trainer = SimpleNamespace(global_step=1)
    assert drawn != method.drawn_templates(many)


def test_each_clip_meets_its_class_in_its_template(monkeypatch):
    method = begun(ActionCLIP).eval()
    monkeypatch.setattr(method, "drawn_templates", lambda _: [3, 0, 15, 7])
    with torch.no_grad():
        _, text = method.contrast_features(batch())
        classes = method.encode_classes(NAMES)
    expected = torch.stack([classes[template, label] for template, label in ((3, 0), (0, 2), (15, 1), (7, 0))])
    assert_same_but_rounding(text, expected)


def test_scores_are_probabilities_that_do_not_know_the_learned_scale():
    method = begun(ActionCLIP).eval()
    with torch.no_grad():
        classes = method.encode_classes(NAMES)
        video = torch.nn.functional.normalize(torch.randn(5, method.backbone.embed_dim), dim=-1)
        scores = method.score(video, classes)
        method.backbone.logit_scale.fill_(0.0)
        assert torch.equal(method.score(video, classes), scores)
    assert_same_but_rounding(scores.sum(dim=1), torch.ones(5))
    assert not torch.allclose(scores[:, :2] / scores[:, :2].sum(1, keepdim=True), method.score(video, classes[:, :2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "transf"}, "head is 'transf'; allowed: 'meanP'"),
        ({"layers": 0}, "layers is 0; allowed: 1 to 64"),
        ({"frames": 0}, "frames is 0; allowed: 1 to 4,096"),
        ({"contrasted_clips": 0}, "contrasted_clips is 0; allowed"),
    ],
)
def test_what_no_head_is_made_of_is_refused(options, message):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        ActionCLIP(TinyCLIP(pretrained=False), **options)


def test_clips_of_another_length_are_refused_by_the_head_that_knows_its_frames():
    method = begun(ActionCLIP, head="Transf_cls", frames=8)
    with pytest.raises(ConfigError, match=r"a clip has 2 frames.*model\.frames the value of data\.frames"):
        method.training_loss(batch())


def test_a_training_starts_from_the_towers_and_the_head_of_another(tmp_path):
    first = saved(ActionCLIP(TinyCLIP(), layers=1), tmp_path / "first.ckpt")
    method = ActionCLIP(TinyCLIP(), layers=1, pretrained_from=str(tmp_path / "first.ckpt"))
    own, theirs = method.state_dict(), first.state_dict()
    assert all(torch.equal(own[key], theirs[key]) for key in theirs)
    with pytest.raises(CheckpointError, match=r"the head in .*first\.ckpt does not fit the model"):
        ActionCLIP(TinyCLIP(), head="LSTM", pretrained_from=str(tmp_path / "first.ckpt"))
    saved(ViFiCLIP(TinyCLIP()), tmp_path / "tuned.ckpt")
    ActionCLIP(TinyCLIP(), layers=1, pretrained_from=str(tmp_path / "tuned.ckpt"))  # a head of its own


# OST -----------------------------------------------------------------------------------------------------------------


def scores_of(method, videos):
    with torch.no_grad():
        classes = method.encode_classes(NAMES)
        return method.score(
            method.pool_frames(method.encode_frames(method.backbone.normalize(videos)), classes), classes
        )


def test_a_score_does_not_depend_on_the_videos_beside_it():
    method, videos = begun(OST).eval(), batch().video
    together = scores_of(method, videos)
    alone = torch.cat([scores_of(method, video) for video in videos.split(1)])
    assert_same_but_rounding(together, alone)
    assert together.std() > 0


def test_the_released_stop_is_refused_with_several_videos_and_the_same_with_one():
    method, released = begun(OST).eval(), begun(OST, stop="batch").eval()
    assert released.deviations() == {"stop": "batch"}
    video = batch().video
    assert_same_but_rounding(scores_of(released, video[:1]), scores_of(method, video[:1]))
    with pytest.raises(
        ConfigError, match=r"stop is 'batch'.*4 are tested at once; give data\.loading\.eval_batch_size: 1"
    ):
        scores_of(released, video)


def test_an_evaluation_takes_a_share_of_the_original_weights():
    method = begun(OST, original_share=0.25)
    original = {name: p.detach().clone() for name, p in method.named_parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(1.0)
    with method.evaluation_weights():
        for name, parameter in method.named_parameters():
            assert torch.allclose(parameter, original[name] + 0.75, atol=1e-5), name
    for name, parameter in method.named_parameters():
        assert torch.allclose(parameter, original[name] + 1.0), name


def test_classes_without_descriptors_are_refused():
    method = begun(OST)
    with pytest.raises(ConfigError, match="the dataset has no class 'somersault'"):
        method.encode_classes(["red circle", "somersault"])
    method.train_classes = ClassList(NAMES, (0, 1, 2), NAMES)
    with pytest.raises(ConfigError, match=r"ships no descriptions.*model\.descriptions: DIR"):
        method.on_fit_start()
    with pytest.raises(ConfigError, match=r"stop is 'never'; allowed: 'video', 'batch'"):
        begun(OST, stop="never")
    with pytest.raises(
        ConfigError, match=r"temporal_prompt is 'a video of \{\}'; allowed: a text with one \{descriptor"
    ):
        begun(OST, temporal_prompt="a video of {}")


def test_sentences_of_classes_that_are_not_trained_on_count_in_a_test_only():
    def settings(side, last):
        spatial = (*DESCRIBED.spatial[:2], (last, "a triangle"))
        method = begun(OST)
        method.train_classes = ClassList(NAMES[:2], (0, 1), NAMES, Descriptions(spatial, DESCRIBED.temporal))
        return method.settings(side)

    assert settings("training", "a green thing") == settings("training", "another thing")
    assert settings("test", "a green thing") != settings("test", "another thing")
