"""Windows of a long video, and how long a video is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import cut, write_video
from vlbench.clips.decoding import open_video
from vlbench.errors import ConfigError, DecodeError
from vlbench.inference.windows import windows

pytestmark = pytest.mark.quick

seconds = st.floats(0.1, 30)


@given(duration=st.floats(0.04, 60), window=seconds, stride=seconds)
def test_windows_are_equally_long_and_reach_from_the_beginning_to_the_end(duration, window, stride):
    cut_out = windows(duration, window, stride)
    assert cut_out[0][0] == 0
    assert cut_out[-1][1] == pytest.approx(duration)
    assert all(end - start == pytest.approx(min(window, duration)) for start, end in cut_out)
    # A stride apart, but for the last one, which ends with the video.
    steps = [after - before for (before, _), (after, _) in pairwise(cut_out)]
    assert steps[:-1] == pytest.approx([stride] * (len(steps) - 1), abs=1e-6)
    assert all(0 < step <= stride + 1e-6 for step in steps)


def test_a_whole_number_of_strides_has_no_window_twice():
    assert windows(6, 2, 2) == [(0, 2), (2, 4), (4, 6)]
    assert [start for start, _ in windows(0.6, 0.2, 0.1)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@given(
    duration=st.integers(1, 300),
    window=st.integers(1, 90),
    stride=st.integers(1, 90),
    unit=st.sampled_from([10, 25, 30]),
)
def test_times_of_whole_frames_have_no_window_twice(duration, window, stride, unit):
    """Though their quotient may be a bit above a whole number, as that of 0.4 s less 0.1 s and 0.1 s is."""
    cut_out = windows(duration / unit, window / unit, stride / unit)
    assert len(cut_out) == 1 + max(0, -((window - duration) // stride))


def test_a_quotient_a_bit_above_a_whole_number_makes_no_window_more():
    assert [start for start, _ in windows(0.4, 0.1, 0.1)] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_video_that_is_no_longer_than_a_window_is_one():
    assert windows(2, 2, 1) == windows(2, 3, 1) == [(0, 2)]


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1), (1, float("inf"))])
def test_lengths_have_ranges(window, stride):
    with pytest.raises(ConfigError, match=r"(window|stride) is .+; allowed: 0\.01 to 1,000,000"):
        windows(5, window, stride)


@pytest.mark.parametrize("options", [{}, {"bframes": 2}, {"codec": "mpeg4", "bframes": 2, "suffix": ".avi"}])
def test_a_video_is_as_long_as_its_frames_are_shown(tmp_path, options):
    path = tmp_path / f"a{options.pop('suffix', '.mp4')}"
    with open_video(write_video(path, 30, fps=10, **options)) as reader:
        assert reader.duration == pytest.approx(3.0)
    with open_video(write_video(path, 1, fps=10, **options)) as reader:
        assert reader.duration == pytest.approx(0.1)


def test_the_length_of_a_video_that_cannot_be_read_is_not_told(tmp_path):
    path = cut(write_video(tmp_path / "whole.mp4", 30), tmp_path / "cut.mp4", 0.5)
    with pytest.raises(DecodeError, match=r"cut\.mp4"), open_video(path) as reader:
        _ = reader.duration
