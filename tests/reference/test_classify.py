"""`vlbench classify` on real clips, and on one of them in eight formats."""

import json
import sys

import av
import pytest

from tests.fakes import cut, decode_sequentially, write_video
from vlbench.cli.main import main

CLASSES = ["a person at a table", "a street", "an animal"]


@pytest.fixture
def classified(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])

    def run(*words):
        model = ["--config", "zero_shot.yaml", "backbone/tiny.yaml", "--device", "cpu", "--format", "jsonl"]
        code = main(["classify", *map(str, words), "--classes", *CLASSES, *model])
        result = capsys.readouterr()
        return code, [json.loads(line) for line in result.out.splitlines()], result.err

    return run


def test_real_clips_are_classified_and_the_damaged_one_is_named(classified, real_videos):
    code, lines, said = classified(real_videos)
    assert code == 1
    assert {line["video"].rpartition("/")[2] for line in lines} == {path.name for path in real_videos.iterdir()}
    assert [line["video"].rpartition("/")[2] for line in lines if line["error"]] == ["corrupted.mp4"]
    assert said.splitlines()[-1] == "vlbench: error: 1 of 6 videos cannot be read"


def test_windows_of_a_real_clip_reach_its_end(classified, real_videos):
    code, lines, _ = classified(real_videos / "demo.mp4", "--window", "2s", "--stride", "1s")
    assert code == 0
    assert [line["start"] for line in lines[:-1]] == list(range(len(lines) - 1))
    with av.open(str(real_videos / "demo.mp4")) as container:
        seconds = float(container.streams.video[0].duration * container.streams.video[0].time_base)
    assert lines[-1]["end"] == pytest.approx(seconds, abs=0.05)


def test_a_real_clip_in_eight_formats_has_nearly_the_same_probabilities(classified, real_videos, tmp_path):
    """They differ by what their encoders lose; a clip on its side is the same picture once it is turned upright."""
    quiet = "log-level=none:pools=none:frame-threads=1:crf=12"
    kinds = {
        "b_frames.avi": {"codec": "mpeg4", "bframes": 2, "options": {"qscale": "2", "b": "8M"}},
        "hevc.mp4": {"codec": "libx265", "options": {"x265-params": quiet}},
        "ten_bit.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": quiet}},
        "av1.mkv": {"codec": "libsvtav1", "options": {"preset": "10", "crf": "20", "svtav1-params": "lp=1"}},
        "h264.mkv": {"codec": "libx264", "bframes": 2, "options": {"crf": "12"}},
        "h264.mov": {"codec": "libx264", "options": {"crf": "12"}},
    }
    missing = sorted({kind["codec"] for kind in kinds.values()} - av.codecs_available)
    if missing:
        pytest.skip(f"no encoders {', '.join(missing)}")
    frames = decode_sequentially(real_videos / "internvid_example1.mp4")[:, :, : 2 * 90, : 2 * 160]
    images = frames.permute(0, 2, 3, 1).contiguous().numpy()
    for name, options in kinds.items():
        write_video(tmp_path / name, images, **options)
    on_its_side = frames.rot90(-1, dims=(-2, -1)).permute(0, 2, 3, 1).contiguous().numpy()
    write_video(tmp_path / "rotated.mp4", on_its_side, codec="libx264", rotation=90, options={"crf": "12"})
    cut(tmp_path / "hevc.mp4", tmp_path / "damaged.mp4", 0.6)
    code, lines, _ = classified(tmp_path)
    assert code == 1
    by_name = {line["video"].rpartition("/")[2]: line for line in lines}
    assert len(by_name) == 8
    assert [name for name, line in by_name.items() if line["error"]] == ["damaged.mp4"]
    shares = {
        name: {each["class"]: each["probability"] for each in line["best"]}
        for name, line in by_name.items() if not line["error"]
    }  # fmt: skip
    for name, each in shares.items():
        assert each == pytest.approx(shares["h264.mov"], abs=0.1), name
