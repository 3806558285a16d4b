from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.fakes import decode_sequentially
from vlbench.clips.decoding import Backend, open_video
from vlbench.clips.sampling import uniform_test
from vlbench.errors import DecodeError

FRAMES = {
    "av1_video.mkv": 125,
    "corrupted.mp4": 50,
    "demo.mp4": 280,
    "internvid_example1.mp4": 40,
    "test.avi": 164,
    "unordered.mov": 4,
}


def index_sets(count: int, trials: int) -> list[list[int]]:
    """Evenly spaced, at both ends, and random ones in any order with repeats."""
    rng = random.Random(count)
    drawn = [[rng.randrange(count) for _ in range(rng.choice((1, 2, 8, 16)))] for _ in range(trials)]
    return [uniform_test(count, 16, 1)[0], [count - 1, 0], *drawn]


def test_no_video_is_forgotten(real_videos: Path) -> None:
    assert {path.name for path in real_videos.iterdir()} == set(FRAMES)


@pytest.mark.parametrize("name", FRAMES)
def test_every_backend_returns_the_frames_of_sequential_decoding(
    name: str, backend: Backend, real_videos: Path
) -> None:
    # Exact: the libraries differed by 0 grey levels on every frame of these files.
    expected = decode_sequentially(real_videos / name)
    trials = 1 if backend == "pytorchvideo" else 30  # it decodes everything at every call
    with open_video(real_videos / name, backend=backend) as reader:
        assert reader.num_frames == FRAMES[name]
        for indices in index_sets(len(expected), trials):
            assert torch.equal(reader.frames_at(indices), expected[indices]), indices


def test_a_damaged_video_gives_no_frame_past_the_damage(backend: Backend, real_videos: Path) -> None:
    path = real_videos / "corrupted.mp4"
    assert len(decode_sequentially(path)) == 28
    with open_video(path, backend=backend) as reader:
        for indices in ([29], [30], [40], [49], uniform_test(50, 8, 1)[0]):
            with pytest.raises(DecodeError, match=r"corrupted\.mp4: no frame \d+, decoding yields 28 frames: Invalid"):
                reader.frames_at(indices)
