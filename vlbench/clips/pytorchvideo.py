"""What this package takes from pytorchvideo, in one place and imported late: many machines do not have it.

`pytorchvideo.transforms` is not among it: importing it fails with today's torchvision.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

import torch
from pytorchvideo.data.clip_sampling import ClipInfo, ConstantClipsPerVideoSampler, RandomClipSampler
from pytorchvideo.data.encoded_video import EncodedVideo
from pytorchvideo.data.labeled_video_paths import LabeledVideoPaths

from vlbench.datasets.specs import VideoItem

__all__ = ["EncodedVideo", "constant_clips", "labeled_paths", "random_clip"]


def random_clip(num_frames: int, segments: int, span: int, *, generator: torch.Generator | None = None) -> list[int]:
    """Frames of one clip of `span` frames, where `RandomClipSampler` puts it; ascending.

    Args:
        num_frames: Number of frames of the video.
        segments: Number of frames of the clip.
        span: Frames that a clip covers; a shorter video is covered as a whole.
        generator: Generator of the draw; `None` means torch's global one.
    """
    # pytorchvideo draws from Python's generator, which is put back as it was.
    state = random.getstate()
    random.seed(int(torch.randint(2**62, (), generator=generator)))
    try:
        clip = RandomClipSampler(Fraction(span))(0, num_frames, {})
    finally:
        random.setstate(state)
    return _frames(clip, num_frames, segments)


def constant_clips(num_frames: int, segments: int, clips: int, span: int) -> list[list[int]]:
    """Frames of `clips` clips of `span` frames, where `ConstantClipsPerVideoSampler` puts them; each list ascends.

    The clips start `(num_frames - span) / clips` frames apart, so that the last one ends before the video does.

    Args:
        num_frames: Number of frames of the video.
        segments: Frames wanted of each clip.
        clips: Number of clips of the video.
        span: Frames that a clip covers; a shorter video is covered as a whole.
    """
    sampler = ConstantClipsPerVideoSampler(Fraction(span), clips)
    return [_frames(sampler(0, num_frames, {}), num_frames, segments) for _ in range(clips)]


def labeled_paths(items: Sequence[VideoItem]) -> LabeledVideoPaths:
    """A list of videos for `pytorchvideo.data.LabeledVideoDataset`, such as `datamodule.videos("train")`."""
    return LabeledVideoPaths([(str(item.path), item.label) for item in items])


def _frames(clip: ClipInfo, num_frames: int, segments: int) -> list[int]:
    """Evenly spread frames of a clip, its first and last among them, as pytorchvideo's `UniformTemporalSubsample`."""
    first = int(clip.clip_start_sec)  # the samplers work with any unit; here it is the frame
    last = min(first + int(clip.clip_end_sec - clip.clip_start_sec), num_frames) - 1
    return torch.linspace(first, last, segments).long().tolist()
