from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from vlbench.errors import ConfigError
from vlbench.synthetic import generate
from vlbench.synthetic.generate import is_complete, render_dataset

PARTS = {"train": 2, "test": 1}
COUNT = 16 * 3


@pytest.fixture(autouse=True)
def _few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "PARTS", PARTS)


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def render(root: Path, workers: int = 1) -> None:
    render_dataset(root, sets=["shapes-s"], workers=workers, progress=False)


def clips(root: Path) -> list[Path]:
    return sorted(root.glob("shapes-s/*/*.mp4"))


def test_layout_lists_and_marker(tmp_path: Path) -> None:
    render(tmp_path)
    folder = tmp_path / "shapes-s"
    assert len(clips(tmp_path)) == COUNT
    for part, number in PARTS.items():
        rows = [line.rsplit(" ", 1) for line in (folder / f"{part}.txt").read_text().splitlines()]
        assert [int(label) for _, label in rows] == [label for label in range(16) for _ in range(number)]
        assert sorted(folder / path for path, _ in rows) == [
            path for path in clips(tmp_path) if path.parent.name == part
        ]
        assert rows[-1][0] == f"{part}/15_{number - 1:03d}.mp4"
    assert json.loads((folder / "dataset.json").read_text())["videos"] == {"train": 32, "test": 16}
    assert is_complete(tmp_path, "shapes-s")
    assert not is_complete(tmp_path, "shapes-k")
    assert decode(clips(tmp_path)[0]).shape == (32, 96, 96, 3)


def test_independent_of_the_number_of_workers(tmp_path: Path) -> None:
    render(tmp_path / "one", workers=1)
    render(tmp_path / "two", workers=2)
    for one, two in zip(clips(tmp_path / "one"), clips(tmp_path / "two"), strict=True):
        assert one.name == two.name
        np.testing.assert_array_equal(decode(one), decode(two))


def test_existing_clips_are_kept_and_missing_ones_mended(tmp_path: Path) -> None:
    render(tmp_path)
    kept, lost = clips(tmp_path)[:2]
    content = lost.read_bytes()
    kept.write_bytes(b"kept")
    lost.unlink()
    render(tmp_path)
    assert kept.read_bytes() == b"kept"
    assert lost.read_bytes() == content


def test_two_calls_at_once_render_every_clip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[Path] = []
    render_one = generate._render

    def counted(clip: generate._Clip) -> None:
        rendered.append(clip.path)
        render_one(clip)

    monkeypatch.setattr(generate, "_render", counted)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(render, [tmp_path, tmp_path]))
    assert sorted(rendered) == clips(tmp_path)
    assert len(rendered) == COUNT
    assert is_complete(tmp_path, "shapes-s")


def test_another_generator_version_renders_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render(tmp_path)
    stale = clips(tmp_path)[0]
    stale.write_bytes(b"stale")
    monkeypatch.setattr(generate, "GENERATOR_VERSION", generate.GENERATOR_VERSION + 1)
    assert not is_complete(tmp_path, "shapes-s")
    render(tmp_path)
    assert stale.read_bytes() != b"stale"
    assert is_complete(tmp_path, "shapes-s")


def test_interrupted_rendering_is_incomplete_and_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def encode_ten(path: Path, frames: np.ndarray) -> None:
        path.write_bytes(b"half a file")
        if len(written) == 10:
            raise KeyboardInterrupt
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_clip", encode_ten)
        with pytest.raises(KeyboardInterrupt):
            render(tmp_path)
    assert len(clips(tmp_path)) == 10
    assert not list(tmp_path.rglob("*.tmp"))
    assert not is_complete(tmp_path, "shapes-s")
    render(tmp_path)
    assert len(clips(tmp_path)) == COUNT
    assert is_complete(tmp_path, "shapes-s")


def test_leftover_of_a_killed_process_does_not_count(tmp_path: Path) -> None:
    leftover = tmp_path / "shapes-s" / "train" / ".00_000.mp4.123.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a file")
    render(tmp_path)
    assert len(clips(tmp_path)) == COUNT
    assert decode(leftover.parent / "00_000.mp4").shape[0] == 32
    assert ".tmp" not in (tmp_path / "shapes-s" / "train.txt").read_text()


def test_damaged_marker_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "shapes-s").mkdir()
    (tmp_path / "shapes-s" / "dataset.json").write_text("{")
    assert not is_complete(tmp_path, "shapes-s")


def test_unknown_set_renders_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shapes-s"):
        render_dataset(tmp_path, sets=["shapes-s", "shapes-z"])
    assert not list(tmp_path.iterdir())
