"""Mixup and CutMix of training clips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.methods.parts.mixing import Mixing, cutmix_draw

pytestmark = pytest.mark.quick

CLASSES = 5


def batch_of(clips, failures=None):
    generator = torch.Generator().manual_seed(clips)
    video = torch.randint(0, 256, (clips, 2, 3, 16, 16), dtype=torch.uint8, generator=generator)
    labels = torch.arange(clips) % CLASSES
    return ClipBatch(video, labels, [f"video {index}" for index in range(clips)], failures or {})


def mixed(mixing, batch, seed=0, step=0):
    return mixing.mix(batch, classes=CLASSES, seed=seed, step=step)


MIXINGS = st.builds(
    Mixing, mixup=st.sampled_from([0.0, 0.8]), cutmix=st.sampled_from([0.0, 1.0]), cutmix_share=st.floats(0, 1),
    label_smoothing=st.floats(0, 0.9), mixed_clips=st.sampled_from([1, 2, 4]),
)  # fmt: skip


@given(mixing=MIXINGS, seed=st.integers(0, 2**31), step=st.integers(0, 10**6))
def test_targets_are_distributions_and_pixels_stay_in_range(mixing, seed, step):
    batch = batch_of(8)
    video, targets = mixed(mixing, batch, seed, step)
    assert video.shape == batch.video.shape
    assert targets.dtype == torch.float32
    assert torch.allclose(targets.sum(dim=1), torch.ones(8), atol=1e-5)
    assert targets.min() >= 0
    assert 0 <= video.min() <= video.max() <= 255


@given(mixing=MIXINGS, seed=st.integers(0, 2**31), step=st.integers(0, 10**6))
def test_a_draw_is_a_function_of_seed_step_and_clips(mixing, seed, step):
    batch = batch_of(8)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again = mixed(mixing, batch, seed, step), mixed(mixing, batch, seed, step)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(state[0], torch.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"step": 1}])
def test_another_seed_or_step_is_another_draw(changed):
    batch = batch_of(8)
    assert not torch.equal(mixed(Mixing(), batch)[1], mixed(Mixing(), batch, **changed)[1])


def test_a_group_has_the_same_draw_however_many_clips_come_with_it():
    batch = batch_of(8)
    whole = mixed(Mixing(), batch)
    parts = []
    for rows in (slice(0, 4), slice(4, 8)):
        part = ClipBatch(batch.video[rows], batch.labels[rows], batch.ids[rows], {})
        parts.append(mixed(Mixing(), part))
    for one, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat([piece.to(one.dtype) for piece in pieces]))


def test_without_mixing_labels_are_smoothed_alone():
    batch = batch_of(3)
    mixing = Mixing(mixup=0, cutmix=0, label_smoothing=0.2)
    video, targets = mixed(mixing, batch)
    assert video is batch.video
    logits = torch.randn(3, CLASSES)
    expected = F.cross_entropy(logits, batch.labels, label_smoothing=0.2)
    assert torch.allclose(F.cross_entropy(logits, targets), expected, atol=1e-6)


def test_a_target_goes_with_its_share_of_the_pixels():
    """A clip of grey level 10 x label: after Mixup the mean level is that of the mean label."""
    batch = batch_of(4)
    levels = 10 * batch.labels.view(-1, 1, 1, 1, 1).expand(batch.video.shape)
    batch = batch._replace(video=levels.to(torch.uint8))
    for mixing in (Mixing(cutmix=0, label_smoothing=0), Mixing(mixup=0, label_smoothing=0)):
        for step in range(20):
            video, targets = mixed(mixing, batch, step=step)
            mean_label = targets @ torch.arange(CLASSES, dtype=torch.float32)
            assert torch.allclose(video.float().mean(dim=(1, 2, 3, 4)), 10 * mean_label, atol=1e-3)


@given(
    share=st.floats(0, 1), height=st.integers(1, 40), width=st.integers(1, 40), row=st.integers(0, 39),
    column=st.integers(0, 39),
)  # fmt: skip
def test_a_box_lies_in_the_frame_and_the_share_is_what_it_leaves(share, height, width, row, column):
    draw = cutmix_draw((0,), share, (height, width), (min(row, height - 1), min(column, width - 1)))
    box = draw.box
    assert 0 <= box.top <= box.top + box.height <= height
    assert 0 <= box.left <= box.left + box.width <= width
    assert draw.share == pytest.approx(1 - box.height * box.width / (height * width))
    assert draw.share >= share - 1e-9


def test_both_kinds_come_with_their_probability():
    generator = np.random.default_rng(0)
    kinds = [Mixing(cutmix_share=0.25).draw(generator, 4, 16, 16).box is not None for _ in range(400)]
    assert 0.18 < np.mean(kinds) < 0.32
    assert all(Mixing(mixup=0).draw(generator, 4, 16, 16).box is not None for _ in range(20))
    assert all(Mixing(cutmix=0).draw(generator, 4, 16, 16).box is None for _ in range(20))


def test_groups_that_do_not_divide_a_batch_are_refused_unless_a_video_was_left_out():
    with pytest.raises(ConfigError, match=r"mixed_clips is 4, and a process takes 6 clips at once.*data.batch_size"):
        mixed(Mixing(), batch_of(6))
    video, _ = mixed(Mixing(), batch_of(3, failures={"broken": (0, "cut off")}))
    assert len(video) == 3


@pytest.mark.parametrize(
    "values",
    [{"mixup": -1}, {"cutmix": float("nan")}, {"cutmix_share": 1.5}, {"label_smoothing": 1}, {"mixed_clips": 0}],
)
def test_refuses_values_out_of_range(values):
    (name,) = values
    with pytest.raises(ConfigError, match=f"{name} is"):
        Mixing(**values)
