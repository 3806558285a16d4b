from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlbench.clips.sampling import dense_test, dense_train, segment_bounds, uniform_test, uniform_train
from vlbench.errors import ConfigError

pytestmark = pytest.mark.quick

lengths = st.integers(1, 2000)
segments_ = st.integers(1, 64)
clips_ = st.integers(1, 12)
seeds = st.integers(0, 2**32 - 1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(lengths, segments_)
def test_segments_cover_the_video_and_share_their_borders(num_frames: int, segments: int) -> None:
    bounds = segment_bounds(num_frames, segments)
    assert len(bounds) == segments
    assert bounds[0][0] == 0
    assert bounds[-1][1] == num_frames - 1
    assert all(first <= last for first, last in bounds)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))


@given(lengths, segments_, seeds)
def test_uniform_train_draws_one_frame_of_each_segment(num_frames: int, segments: int, seed: int) -> None:
    indices = uniform_train(num_frames, segments, generator=seeded(seed))
    assert indices == uniform_train(num_frames, segments, generator=seeded(seed))
    assert all(type(index) is int for index in indices)
    assert indices == sorted(indices)
    for index, (first, last) in zip(indices, segment_bounds(num_frames, segments), strict=True):
        assert first <= index <= last


def test_uniform_train_reaches_both_ends_of_a_segment_and_varies() -> None:
    generator = seeded(0)
    draws = [uniform_train(33, 8, generator=generator) for _ in range(300)]
    for position, (first, last) in enumerate(segment_bounds(33, 8)):
        assert {draw[position] for draw in draws} == set(range(first, last + 1))


def test_without_generator_the_global_one_decides() -> None:
    torch.manual_seed(3)
    first = uniform_train(500, 8, generator=None), dense_train(500, 8)
    torch.manual_seed(3)
    assert first == (uniform_train(500, 8), dense_train(500, 8, generator=None))
    assert first != (uniform_train(500, 8), dense_train(500, 8))


@given(lengths, segments_, clips_)
def test_uniform_test_is_in_range_and_ascending_in_long_videos(num_frames: int, segments: int, clips: int) -> None:
    views = uniform_test(num_frames, segments, clips)
    assert len(views) == clips
    for view in views:
        assert len(view) == segments
        assert all(0 <= index < num_frames for index in view)
        if num_frames >= segments:
            assert view == sorted(view)
            bounds = [(i * num_frames / segments, (i + 1) * num_frames / segments) for i in range(segments)]
            assert all(int(low - 1e-6) <= index <= high for index, (low, high) in zip(view, bounds, strict=True))
    assert views[0][0] == 0


def test_uniform_test_of_short_videos_keeps_the_released_wrap() -> None:
    assert uniform_test(3, 8, 3) == [[0, 0, 0, 1, 1, 1, 2, 2], [2, 0, 0, 0, 0, 0, 1, 1], [2, 0, 0, 0, 0, 0, 1, 1]]


@given(lengths, segments_, clips_)
def test_dense_test_steps_evenly_and_wraps(num_frames: int, segments: int, clips: int) -> None:
    views = dense_test(num_frames, segments, clips)
    assert len(views) == clips
    for view in views:
        assert len(view) == segments
        assert all(0 <= index < num_frames for index in view)
        assert all((b - a - 128 // segments) % num_frames == 0 for a, b in itertools.pairwise(view))
    if num_frames >= 128:
        assert all(view == sorted(view) for view in views)
    assert views[0][0] == (max(num_frames - 128, 0) // 2 if clips == 1 else 0)


@given(lengths, st.integers(1, 32), seeds, st.integers(32, 200))
def test_dense_train_starts_in_the_released_range(num_frames: int, segments: int, seed: int, span: int) -> None:
    view = dense_train(num_frames, segments, generator=seeded(seed), span=span)
    assert view == dense_train(num_frames, segments, generator=seeded(seed), span=span)
    assert 0 <= view[0] <= max(num_frames - span - 1, 0)
    assert view == [(view[0] + i * (span // segments)) % num_frames for i in range(segments)]


def test_dense_train_reaches_both_ends_of_its_range() -> None:
    generator = seeded(1)
    assert {dense_train(133, 8, generator=generator)[0] for _ in range(200)} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("value", [0, -3])
def test_values_below_one_are_refused_by_name(value: int) -> None:
    for call, name in (
        (lambda: uniform_train(value, 8), "num_frames"),
        (lambda: uniform_test(10, 8, value), "clips"),
        (lambda: dense_test(10, 8, value), "clips"),
        (lambda: dense_train(value, 8), "num_frames"),
        (lambda: segment_bounds(10, value), "segments"),
    ):
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            call()


def test_a_span_shorter_than_the_segments_is_refused() -> None:
    with pytest.raises(ConfigError, match="span is 8; allowed: at least the number of segments, 16"):
        dense_test(100, 16, 1, span=8)
