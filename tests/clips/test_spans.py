"""Instances: parts of a file, given in seconds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import colored_frames, indices_from_pixels, write_video
from vlbench.clips.batch import Clip
from vlbench.clips.decoding import open_video
from vlbench.clips.decoding.pyav import PyAVReader
from vlbench.clips.options import Views
from vlbench.clips.readers import TestViews, TrainClips
from vlbench.datasets.specs import VideoItem
from vlbench.errors import DecodeError

COUNT, FPS = 60, 25


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """60 frames, 25 a second: with times that tell the frames (mp4) and without (avi); and 10 uneven ones (uneven)."""
    folder = tmp_path_factory.mktemp("spans")
    uneven = folder / "uneven.mp4"
    with av.open(str(uneven), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = 64, 48
        stream.codec_context.time_base = Fraction(1, 1000)
        for k, image in enumerate(colored_frames(10)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 500 + 10 * k * k, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return {
        "mp4": write_video(folder / "a.mp4", COUNT, fps=FPS, bframes=2),
        "avi": write_video(folder / "a.avi", COUNT, fps=FPS, codec="mpeg4", pix_fmt="yuv420p"),
        "uneven": uneven,
    }


def read(item: VideoItem, clips: int = 1) -> Clip:
    views = Views(clips=clips)
    return TestViews([item], frames=4, sampling="uniform", views=views, size=32, resize=32, backend="pyav")[0]


@pytest.mark.parametrize("kind", ["mp4", "avi"])
@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, COUNT - 1), number=st.integers(1, COUNT))
def test_a_span_between_frame_times_holds_the_frames_between(
    clips: dict[str, Path], kind: str, first: int, number: int
) -> None:
    with PyAVReader(clips[kind]) as reader:
        assert reader.planned == (kind == "mp4")
        found = reader.frames_between(first / FPS, (first + number) / FPS)
    assert found == range(first, min(first + number, COUNT))


def test_uneven_frames_are_found_by_their_times(clips: dict[str, Path]) -> None:
    """Frame k is shown 10 k^2 ms after the first."""
    with PyAVReader(clips["uneven"]) as reader:
        assert reader.planned
        assert reader.frames_between(0.0, 0.09) == range(3)
        assert reader.frames_between(0.085, 0.5) == range(3, 8)
        assert reader.frames_between(0.0, float("inf")) == range(10)
        with pytest.raises(DecodeError, match=r"uneven\.mp4: none of its 10 frames begins between 0\.5 and 0\.6 s; a "):
            reader.frames_between(0.1 + 0.4, 0.2 + 0.4000000000000001)


@pytest.mark.parametrize("kind", ["mp4", "avi"])
@pytest.mark.parametrize("span", [(2.4, 3.0), (1.0, 1.0), (1.5, 1.2)])
def test_spans_without_frames_are_refused(clips: dict[str, Path], kind: str, span: tuple[float, float]) -> None:
    with PyAVReader(clips[kind]) as reader, pytest.raises(DecodeError, match="none of its 60 frames"):
        reader.frames_between(*span)


@pytest.mark.parametrize("backend", ["pyav", "torchcodec", "pytorchvideo"])
def test_backends_agree(clips: dict[str, Path], backend: str) -> None:
    if backend != "pyav":
        pytest.importorskip(backend)
    with open_video(clips["mp4"], backend=backend) as reader:  # type: ignore[arg-type]
        assert reader.frames_between(0.4, 1.2) == range(10, 30)


@pytest.mark.parametrize("kind", ["mp4", "avi"])
def test_clips_stay_inside_the_span(clips: dict[str, Path], kind: str) -> None:
    item = VideoItem(clips[kind], 0, "a", (0.4, 1.2))  # frames 10 to 29
    views = read(item, clips=2).video
    assert views is not None
    assert [indices_from_pixels(view) for view in views] == [[10, 15, 20, 25], [14, 19, 24, 29]]
    train = TrainClips([item], frames=2, sampling="uniform", transform=lambda clip: clip, backend="pyav", seed=0)
    drawn = [train[(0, draw)].video for draw in range(60)]
    picked = [indices_from_pixels(clip) for clip in drawn if clip is not None]
    assert len(picked) == 60
    assert {first for first, _ in picked} <= set(range(10, 21))
    assert {last for _, last in picked} <= set(range(20, 30))
    assert len({index for pair in picked for index in pair}) > 15


def test_a_span_beyond_the_end_is_a_failure(clips: dict[str, Path]) -> None:
    item = VideoItem(clips["mp4"], 3, "a", (9.0, 10.0))
    clip = read(item)
    assert clip.video is None
    assert "between 9 and 10 s" in (clip.failure or "")
