from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import (
    colored_frames,
    cut,
    decode_sequentially,
    indices_from_pixels,
    moving_frames,
    write_audio,
    write_video,
)
from vlbench.clips import decoding
from vlbench.clips.decoding import Backend, available_backends, open_video
from vlbench.clips.options import Decoder
from vlbench.errors import ConfigError, DecodeError

BACKENDS: tuple[Decoder, ...] = get_args(Decoder)
X264 = {"codec": "libx264", "bframes": 3}
X265 = {"codec": "libx265", "bframes": 3}
QUIET = "log-level=none:pools=none:frame-threads=1"

# name -> what write_video is told; 40 frames of a panning picture, several groups of pictures each
KINDS: dict[str, dict[str, object]] = {
    "h264.mp4": {**X264, "options": {"x264-params": "open-gop=0:b-pyramid=normal:scenecut=0"}},
    "h264_open.mp4": {**X264, "options": {"x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"}},
    "h264_open.mkv": {**X264, "options": {"x264-params": "open-gop=1:b-pyramid=strict:scenecut=0"}},
    "h264_refresh.mp4": {**X264, "bframes": 0, "options": {"x264-params": "intra-refresh=1:keyint=8"}},
    "h264_interlaced.mp4": {**X264, "options": {"x264-params": "interlaced=1"}},
    "h264.avi": {**X264},
    "h264.ts": {**X264},
    "hevc_open.mp4": {**X265, "options": {"x265-params": f"{QUIET}:open-gop=1:b-pyramid=1"}},
    "hevc_layers.mp4": {**X265, "options": {"x265-params": f"{QUIET}:temporal-layers=3"}},
    "mpeg4.mp4": {"codec": "mpeg4", "bframes": 2},
    "mpeg4.avi": {"codec": "mpeg4", "bframes": 2},
    "mpeg4.mkv": {"codec": "mpeg4", "bframes": 2},
    "mpeg4_plain.avi": {"codec": "mpeg4"},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "lp=1"}},
}


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Renders a kind once; skips where its encoder is not built in."""
    folder = tmp_path_factory.mktemp("kinds")

    def rendered(kind: str) -> Path:
        path = folder / kind
        if not path.exists():
            options = {"gop": 8, **KINDS[kind]}
            if str(options["codec"]) not in av.codecs_available:
                pytest.skip(f"no encoder {options['codec']}")
            write_video(path, moving_frames(40, 64, 96), **options)  # type: ignore[arg-type]
        return path

    return rendered


@pytest.mark.parametrize("kind", KINDS)
def test_any_frames_equal_those_of_sequential_decoding(
    kind: str, backend: Backend, render: Callable[[str], Path]
) -> None:
    # Exact, also between libraries: PyAV 18 (FFmpeg 8.1) and torchcodec 0.11 (FFmpeg 5.1) differed by 0 grey levels.
    path = render(kind)
    expected = decode_sequentially(path)
    assert len(expected) == 40
    assert (expected[1:] != expected[:-1]).flatten(1).any(1).all(), "neighbours must differ, or nothing is tested"
    with open_video(path, backend=backend) as reader:
        assert reader.path == path
        assert reader.num_frames == 40
        for frame in range(40):
            assert torch.equal(reader.frames_at([frame])[0], expected[frame]), frame

        @settings(max_examples=15, deadline=None, database=None)
        @given(st.lists(st.integers(0, 39), min_size=1, max_size=12))
        def any_order_and_repeats(indices: list[int]) -> None:
            frames = reader.frames_at(indices)
            assert frames.dtype == torch.uint8
            assert torch.equal(frames, expected[indices])

        any_order_and_repeats()


@pytest.mark.parametrize("kind", KINDS)
def test_only_dependable_timestamps_are_planned_with(kind: str, render: Callable[[str], Path]) -> None:
    from vlbench.clips.decoding.pyav import PyAVReader

    untrusted = {"h264_interlaced.mp4", "h264.ts", "mpeg4.mkv", "vp8.webm"}
    with PyAVReader(render(kind)) as reader:
        assert reader.planned == (kind not in untrusted and not kind.endswith(".avi"))


def test_a_planned_read_decodes_only_what_it_needs(
    render: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlbench.clips.decoding.pyav import PyAVReader

    with PyAVReader(render("h264.mp4")) as reader:
        decoded: list[int | None] = []
        wrapped = reader._context

        class Spy:
            skip_frame = "DEFAULT"

            def flush_buffers(self) -> None:
                wrapped.flush_buffers()

            def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
                wrapped.skip_frame = self.skip_frame  # type: ignore[assignment]
                frames = wrapped.decode(packet)
                decoded.extend(frame.pts for frame in frames)
                return frames

        monkeypatch.setattr(reader, "_context", Spy())
        reader.frames_at([20, 21])
        assert 2 <= len(decoded) <= 8, "one group of eight, without its unwanted non-reference frames"
        decoded.clear()
        reader.frames_at([23, 20])
        assert len(decoded) < 8


def test_frame_numbers_can_be_read_from_colours(backend: Backend, tmp_path: Path) -> None:
    path = write_video(tmp_path / "colours.mp4", 30, bframes=2)
    with open_video(path, backend=backend) as reader:
        frames = reader.frames_at([29, 0, 7, 7, 12])
    assert frames.shape == (5, 3, 48, 64)
    assert indices_from_pixels(frames) == [29, 0, 7, 7, 12]


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_are_turned_upright(backend: Backend, rotation: int, tmp_path: Path) -> None:
    upright = np.full((6, 64, 32, 3), 30, dtype=np.uint8)
    upright[:, :16, :8] = 230  # a bright corner at the top left
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90, axes=(1, 2)))
    path = write_video(tmp_path / "turned.mp4", stored, rotation=rotation)
    with open_video(path, backend=backend) as reader:
        frames = reader.frames_at([0, 4])
    assert frames.shape == (2, 3, 64, 32)
    assert (frames.float() - torch.from_numpy(upright[:2]).permute(0, 3, 1, 2).float()).abs().mean() < 3


def test_large_sequential_videos_are_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlbench.clips.decoding import pyav

    monkeypatch.setattr(pyav, "_KEEP_BYTES", 20_000)
    path = write_video(tmp_path / "long.avi", 30, codec="mpeg4", bframes=2)
    with pyav.PyAVReader(path) as reader:
        assert reader.num_frames == 30
        assert reader._decoded is None
        assert indices_from_pixels(reader.frames_at([29, 3])) == [29, 3]


def test_frames_outside_the_video_and_empty_requests_are_index_errors(backend: Backend, tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "short.mp4", 5), backend=backend) as reader:
        for wrong in ([5], [-1], [0, 99], []):
            with pytest.raises(IndexError):
                reader.frames_at(wrong)


def test_a_closed_reader_says_so(backend: Backend, tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "closed.mp4", 5), backend=backend) as reader:
        pass
    with pytest.raises(ValueError, match=r"closed\.mp4 is closed"):
        reader.frames_at([0])


# -- broken files -----------------------------------------------------------------------------------------------------


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def text(path: Path) -> Path:
    path.write_text("this is not a video\n" * 100)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


BROKEN: dict[str, Callable[[Path], Path]] = {
    "missing": lambda root: root / "missing.mp4",
    "empty": lambda root: empty(root / "empty.mp4"),
    "text": lambda root: text(root / "text.mp4"),
    "text_txt": lambda root: text(root / "text.txt"),
    "folder": lambda root: folder(root / "folder.mp4"),
    "below_a_file": lambda root: text(root / "file") / "video.mp4",
    "audio": lambda root: write_audio(root / "audio.mp4"),
    "no_index": lambda root: cut(write_video(root / "whole.mp4", 20), root / "no_index.mp4", 0.7),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_unreadable_files_are_decode_errors(kind: str, backend: Backend, tmp_path: Path) -> None:
    path = BROKEN[kind](tmp_path)
    with pytest.raises(DecodeError) as caught:
        open_video(path, backend=backend)
    assert caught.value.path == path
    assert caught.value.cause
    assert str(path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_a_decode_error(backend: Backend, tmp_path: Path) -> None:
    path = write_video(tmp_path / "secret.mp4", 5)
    path.chmod(0)
    with pytest.raises(DecodeError, match=r"[Pp]ermission"):
        open_video(path, backend=backend)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.avi"])
def test_a_cut_file_yields_true_frames_or_an_error(name: str, backend: Backend, tmp_path: Path) -> None:
    frames = moving_frames(40, 160, 240)
    faststart = {"movflags": "+faststart"} if name.endswith("mp4") else {}
    codec = "libx264" if name.endswith("mp4") else "mpeg4"
    whole = write_video(tmp_path / f"whole_{name}", frames, codec=codec, bframes=2, container_options=faststart)
    expected = decode_sequentially(whole)
    path = cut(whole, tmp_path / name, 0.7)
    right = 0
    with open_video(path, backend=backend) as reader:
        assert reader.num_frames == 40, "the container still promises all frames"
        for index in range(40):
            try:
                frame = reader.frames_at([index])[0]
            except DecodeError:
                continue
            assert torch.equal(frame, expected[index]), index
            right += 1
        with pytest.raises(DecodeError, match="no frame 39") as caught:
            reader.frames_at([0, 39])
        assert caught.value.path == path
    assert 5 < right < 35


def test_damage_in_the_middle_is_an_error_and_never_another_frame(backend: Backend, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", moving_frames(40, 64, 96), bframes=2, gop=10)
    expected = decode_sequentially(whole)
    with av.open(str(whole)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][15]
        position = packet.pos
    data = bytearray(whole.read_bytes())
    assert position is not None
    data[position : position + 4] = b"\x7f\xff\xff\xff"  # the length of the frame's data
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    outcomes = []
    with open_video(path, backend=backend) as reader:
        for index in range(40):
            try:
                frame = reader.frames_at([index])[0]
            except DecodeError:
                outcomes.append(False)
                continue
            assert torch.equal(frame, expected[index]), index
            outcomes.append(True)
    assert all(outcomes[:10])
    assert not all(outcomes)


# -- backends ---------------------------------------------------------------------------------------------------------


def test_an_unknown_backend_is_named_with_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'decord'; allowed: pyav, torchcodec, pytorchvideo"):
        open_video(tmp_path / "x.mp4", backend="decord")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "module"), [("torchcodec", "torchcodec"), ("pytorchvideo", "encoded_video")])
@pytest.mark.parametrize("error", [ImportError("No module named it"), RuntimeError("Could not load lib.\nA trace")])
def test_a_backend_that_does_not_load_says_how_to_install_it(
    name: Backend, module: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins
    import importlib
    import sys

    full = f"{decoding.__name__}.{module}"
    monkeypatch.delitem(sys.modules, full, raising=False)
    imported, by_name = builtins.__import__, importlib.import_module

    def refuse(wanted: str, *args: object, **kwargs: object) -> object:
        if wanted == full:
            raise error
        return imported(wanted, *args, **kwargs)  # type: ignore[arg-type]

    def refuse_by_name(wanted: str, package: str | None = None) -> object:
        if wanted == full:
            raise error
        return by_name(wanted, package)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(importlib, "import_module", refuse_by_name)
    with pytest.raises(ConfigError, match=rf"'{name}' cannot be loaded .*pip install.*pyav") as caught:
        open_video(tmp_path / "x.mp4", backend=name)
    assert "\n" not in str(caught.value)
    assert name not in available_backends()
    assert "pyav" in available_backends()


def test_importing_the_package_loads_no_optional_library() -> None:
    import subprocess
    import sys

    code = "import sys, vlbench.clips.decoding; print([m for m in ('torchcodec', 'pytorchvideo') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fakes_paint_distinct_colours() -> None:
    frames = torch.from_numpy(colored_frames(216, 2, 2)).permute(0, 3, 1, 2)
    assert indices_from_pixels(frames) == list(range(216))
