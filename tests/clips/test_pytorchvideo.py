"""What is taken from pytorchvideo: samplers with repeatable draws, lists for its own dataset."""

import random
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorchvideo.data import LabeledVideoDataset, make_clip_sampler

from tests.fakes import colored_frames, indices_from_pixels, write_video
from vlbench.clips.options import Views
from vlbench.clips.pytorchvideo import constant_clips, labeled_paths, random_clip
from vlbench.clips.readers import TestViews, TrainClips
from vlbench.datasets.specs import VideoItem
from vlbench.errors import ConfigError

lengths = {"num_frames": st.integers(1, 400), "segments": st.integers(1, 32), "span": st.integers(1, 128)}


@given(**lengths, seed=st.integers(0, 99))
def test_a_random_clip_lies_in_the_video_and_repeats(num_frames, segments, span, seed):
    before = random.getstate()
    draws = [random_clip(num_frames, segments, span, generator=torch.Generator().manual_seed(seed)) for _ in range(2)]
    assert random.getstate() == before, "Python's own generator is left alone"
    assert draws[0] == draws[1]
    assert len(draws[0]) == segments
    assert draws[0] == sorted(draws[0])
    assert 0 <= draws[0][0] <= draws[0][-1] < num_frames
    assert draws[0][-1] - draws[0][0] < span


@given(**lengths, clips=st.integers(1, 10))
def test_constant_clips_are_evenly_spread(num_frames, segments, span, clips):
    found = constant_clips(num_frames, segments, clips, span)
    room = max(num_frames - span, 0)
    assert [clip[0] for clip in found] == [k * room // clips for k in range(clips)]
    for clip in found:
        assert len(clip) == segments
        assert clip == sorted(clip)
        assert clip[-1] < num_frames
        assert segments == 1 or clip[-1] == min(clip[0] + span, num_frames) - 1


def test_random_clips_reach_every_start():
    generator = torch.Generator().manual_seed(0)
    starts = {random_clip(20, 4, 16, generator=generator)[0] for _ in range(200)}
    assert starts == {0, 1, 2, 3}


def test_its_own_dataset_reads_our_lists(tmp_path):
    items = []
    for label, name in enumerate(("a", "b", "c")):
        write_video(tmp_path / f"{name}.mp4", colored_frames(12))
        items.append(VideoItem(tmp_path / f"{name}.mp4", label, f"{name}.mp4"))
    dataset = LabeledVideoDataset(
        labeled_paths(items), make_clip_sampler("uniform", 10), torch.utils.data.SequentialSampler, decode_audio=False
    )
    found = {sample["video_name"]: (sample["label"], sample["video"].shape[1]) for sample in dataset}
    assert found == {f"{name}.mp4": (label, 12) for label, name in enumerate("abc")}


def datasets(items):
    train = TrainClips(items, frames=4, sampling="pytorchvideo", transform=lambda video: video, backend="pyav", seed=0)
    return train, TestViews(
        items, frames=4, sampling="pytorchvideo", views=Views(3), size=32, resize=32, backend="pyav"
    )


def test_clips_are_read_where_the_samplers_put_them(tmp_path):
    write_video(tmp_path / "a.mp4", colored_frames(200))
    train, test = datasets([VideoItem(tmp_path / "a.mp4", 0, "a")])
    views = [indices_from_pixels(view) for view in test[0].video]
    assert views == constant_clips(200, 4, 3, 128)
    starts = {indices_from_pixels(train[0, draw].video)[0] for draw in range(8)}
    assert len(starts) > 4
    assert all(0 <= start <= 72 for start in starts)
    assert torch.equal(train[0, 3].video, train[0, 3].video)


def test_without_the_library_the_others_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vlbench.clips.pytorchvideo", None)
    with pytest.raises(ConfigError, match="pip install pytorchvideo, or one of: uniform, dense"):
        datasets([])
