"""Open-VCLIP's interpolated weight optimisation: what a step descends on, and what it draws."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList
from vlbench.errors import ConfigError
from vlbench.methods import OpenVCLIP
from vlbench.methods.parts.draws import drawn_groups

pytestmark = pytest.mark.quick

NAMES = ("red circle", "blue square", "green triangle")
CLASSES = ClassList(NAMES, (0, 1, 2), NAMES)


def tuned(**options):
    """The method at the start of a training that goes on, its weights no longer the original ones."""
    torch.manual_seed(0)
    method = OpenVCLIP(TinyCLIP(), interpolated_clips=2, **options)
    method.use(SimpleNamespace(train_classes=CLASSES))
    method.setup("fit")
    with torch.no_grad():
        for parameter in method._tuned():
            parameter.add_(0.05 * torch.randn_like(parameter))
    method.on_fit_start()
    return method.train()


def batch_of(clips=4, names="abcd"):
    generator = torch.Generator().manual_seed(7)
    video = torch.randint(0, 256, (clips, 2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ClipBatch(video, torch.arange(clips) % 3, list(names[:clips]), {})


def shares(method, batch):
    draws = drawn_groups(batch, method.interpolated_clips, "interpolated_clips", seed=method.seed, step=0)
    return [generator.uniform(0, method.interpolated_share) for _, generator in draws]


def at(method, weights, clips, labels):
    """Cross-entropy and its gradients with given weights in the place of the method's."""
    own = [parameter.detach().clone() for parameter in method._tuned()]
    with torch.no_grad():
        for parameter, value in zip(method._tuned(), weights, strict=True):
            parameter.copy_(value)
    video = method.backbone.encode_frames(clips)
    cosines = torch.einsum("btd,cd->btc", F.normalize(video, dim=-1), method._classes).mean(dim=1)
    loss = F.cross_entropy(method.backbone.logit_scale.exp() * cosines, labels)
    gradients = torch.autograd.grad(loss, method._tuned())
    with torch.no_grad():
        for parameter, value in zip(method._tuned(), own, strict=True):
            parameter.copy_(value)
    return loss.detach(), gradients


@pytest.mark.parametrize("options", [{}, {"chain_rule": True}, {"grad_checkpointing": True}], ids=str)
def test_a_step_descends_on_both_losses(options):
    method, batch = tuned(**options), batch_of()
    current = [parameter.detach().clone() for parameter in method._tuned()]
    original = list(method._original.values.values())
    clips, labels = method.backbone.normalize(batch.video), batch.labels
    value, expected = at(method, current, clips, labels)
    for half, share in zip((slice(0, 2), slice(2, 4)), shares(method, batch), strict=True):
        between = [torch.lerp(one, other, share) for one, other in zip(current, original, strict=True)]
        loss, gradients = at(method, between, clips[half], labels[half])
        factor = 0.25 * (1 - share if method.chain_rule else 1)
        value = value + 0.25 * loss
        expected = [one + factor * other for one, other in zip(expected, gradients, strict=True)]
    terms = method.training_loss(batch)
    terms["loss"].backward()
    assert torch.allclose(terms["loss"], value, rtol=1e-5)
    for parameter, gradient, before in zip(method._tuned(), expected, current, strict=True):
        assert torch.equal(parameter, before)
        assert torch.allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


def test_weights_that_were_cast_for_one_pass_are_not_those_of_the_other():
    """Autocast keeps a parameter's bfloat16 copy, and knows it by its place."""
    losses = []
    for cached in (True, False):
        method, batch = tuned(), batch_of()
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cached):
            losses.append({name: term.item() for name, term in method.training_loss(batch).items()})
    assert losses[0] == losses[1]
    assert losses[0]["ce"] != losses[0]["ce_interpolated"]


def test_draws_are_a_function_of_seed_step_and_clips_and_lie_in_their_range():
    method = tuned(interpolated_share=0.3)
    batch = batch_of()
    one = shares(method, batch)
    assert one == shares(method, batch)
    assert len({*one, *shares(method, batch_of(names="efgh"))}) == 4
    assert all(0 <= share <= 0.3 for share in one)
    first, second = (ClipBatch(batch.video[:2], batch.labels[:2], ids, {}) for ids in (["a", "b"], ["c", "d"]))
    assert [*shares(method, first), *shares(method, second)] == one  # as two processes


def test_without_its_weight_the_second_pass_is_left_out():
    method, batch = tuned(interpolated_loss=0.0), batch_of()
    assert method.training_loss(batch).keys() == {"loss"}


def test_groups_divide_the_clips_of_a_process():
    with pytest.raises(ConfigError, match="interpolated_clips is 2, and a process takes 3 clips at once"):
        tuned().training_loss(batch_of(3))


def test_an_evaluation_takes_a_share_of_the_original_weights_and_of_the_mean():
    method = tuned(original_share=0.25)
    name, own = "backbone.clip.visual.proj", method.backbone.visual.proj.detach().clone()
    original = method._original.values["clip.visual.proj"]
    with method.evaluation_weights():
        assert torch.allclose(method.backbone.visual.proj, 0.75 * own + 0.25 * original, atol=1e-6)
    method._mean = {key: torch.zeros_like(value) for key, value in method._trained().items()}
    with method.evaluation_weights():
        assert torch.allclose(method.backbone.visual.proj, 0.25 * original, atol=1e-6)
    assert torch.equal(method.state_dict()[name], own)
    assert method.backbone.visual.proj.requires_grad
