"""Collation into shared memory, and views that are cut from it one group after the other."""

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode, v2

from tests.fakes import moving_frames
from vlbench.clips.batch import Box, Clip, ClipBatch, PackedVideos, ViewBatch
from vlbench.clips.transforms import test_frames

SIZE, FRAMES = 32, 4


def frames(count, height, width, seed=0):
    return torch.from_numpy(moving_frames(count, height, width, seed)).permute(0, 3, 1, 2)


def corners(height, width, size):
    """Places of three crops, written out."""
    high, wide = height - size, width - size
    if high > wide:
        return [(0, round(wide / 2)), (high, round(wide / 2)), (round(high / 2), round(wide / 2))]
    return [(round(high / 2), 0), (round(high / 2), wide), (round(high / 2), round(wide / 2))]


@pytest.mark.parametrize("resize", [SIZE, SIZE + 9])
@pytest.mark.parametrize("at_once", [1, 6, 7, 100])
def test_views_of_frames_of_any_size_are_the_crops_of_the_resized_frames(resize, at_once):
    clips, expected = [], []
    for label, (height, width) in enumerate([(48, 64), (64, 48), (40, 40), (45, 83)]):
        decoded = frames(2 * FRAMES, height, width, seed=label)
        resized = v2.Resize(resize, interpolation=InterpolationMode.BICUBIC, antialias=True)(decoded)
        squares = [resized[..., y : y + SIZE, x : x + SIZE] for y, x in corners(*resized.shape[-2:], SIZE)]
        expected.append(torch.stack(squares).unflatten(1, (2, FRAMES)).flatten(0, 1))
        kept, crops = test_frames(decoded, size=SIZE, resize=resize, crops=3)
        clips.append(Clip(kept.unflatten(0, (2, FRAMES)), label, f"v{label}", crops=crops))
    clips.insert(2, Clip(None, 9, "lost", "truncated"))
    batch = ViewBatch.collate(clips, at_once=at_once)
    groups = list(batch.views())
    assert torch.equal(torch.cat(groups), torch.stack(expected, dim=1))
    assert max(len(group) for group in groups) == min(max(1, at_once // 4), 6), "memory grew with the views"
    assert all(group.is_contiguous() and group.dtype == torch.uint8 for group in groups)
    assert (batch.ids, batch.failures) == (["v0", "v1", "v2", "v3"], {"lost": (9, "truncated")})


def test_what_no_crop_covers_does_not_travel():
    decoded = frames(2, 48, 80)
    for crops, shape in ((1, (32, 32)), (3, (32, 66))):
        kept, boxes = test_frames(decoded, size=32, resize=40, crops=crops)
        assert kept.shape[-2:] == shape
        assert all(box.cut(kept).shape == (2, 3, 32, 32) for box in boxes)


def test_packing_keeps_videos_of_any_size():
    videos = [
        torch.randint(0, 256, shape, dtype=torch.uint8) for shape in ((2, 3, 5, 7), (1, 3, 9, 2), (4, 2, 3, 6, 6))
    ]
    packed = PackedVideos.pack(videos)
    assert packed.pixels.shape == (sum(video.numel() for video in videos),)
    assert all(torch.equal(one, other) for one, other in zip(packed.unpack(), videos, strict=True))
    assert PackedVideos.pack([]).unpack() == []
    assert torch.equal(Box(1, 2, 3, 4).cut(videos[0]), videos[0][..., 1:4, 2:6])


def shared_in_the_worker(clips):
    """Which of the pixels that the batches hold were in shared memory before the worker sent them."""
    return ClipBatch.collate(clips).video.is_shared(), ViewBatch.collate(clips).videos.pixels.is_shared()


def test_workers_collate_straight_into_shared_memory():
    clips = [Clip(frames(FRAMES, 32, 32, seed), seed, f"v{seed}") for seed in range(4)]
    loader = DataLoader(clips, batch_size=2, num_workers=1, collate_fn=shared_in_the_worker)
    assert list(loader) == [(True, True)] * 2
    assert shared_in_the_worker(clips) == (False, False), "the process itself needs no shared memory"
