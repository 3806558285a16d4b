from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pytest

from vlbench.synthetic.captions import View, caption
from vlbench.synthetic.classes import (
    MOTION_CLAUSES,
    MOTIONS,
    SyntheticClass,
    spatial_descriptions,
    temporal_descriptions,
)
from vlbench.synthetic.frames import OBJECTS, render_frames
from vlbench.synthetic.pretrain import pretrain
from vlbench.synthetic.tiny_clip import CONTEXT_LENGTH, register, tokenizer


def draw(view: View, motion: str = "l2r", number: int = 3000) -> list[tuple[str, bool]]:
    rng = np.random.default_rng(0)
    return [caption(rng, SyntheticClass("red", "ball", motion), view) for _ in range(number)]


def test_captions_name_the_motion_in_the_stated_share() -> None:
    texts = draw(View(0.5, 0.5, 0.2, 1.0))
    assert Counter(moving for _, moving in texts)[True] / len(texts) == pytest.approx(0.4, abs=0.03)
    words = (MOTIONS["l2r"], *MOTION_CLAUSES["l2r"])
    for text, moving in texts:
        assert any(phrase in text for phrase in words) == moving


def test_captions_tell_place_size_and_visibility() -> None:
    still = {text for text, moving in draw(View(0.1, 0.9, 0.1, 0.3)) if not moving}
    assert any("bottom left" in text for text in still)
    assert any("faint small red ball" in text for text in still)
    assert not any(word in text for text in still for word in ("top", "right", "large", "middle"))


@pytest.mark.parametrize("motion", MOTIONS)
def test_text_tower_reads_every_description_and_fits_its_context(motion: str) -> None:
    texts = {text.rstrip(".") for text, _ in draw(View(0.5, 0.5, 0.2, 1.0), motion)}
    cls = SyntheticClass("red", "ball", motion)
    assert {cls.name, f"a video of {cls.name}", *spatial_descriptions(cls), *temporal_descriptions(cls)} <= texts
    encode = tokenizer()
    assert max(len(encode.encode(text + ".")) for text in texts) + 2 <= CONTEXT_LENGTH


def test_frames_and_a_short_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = render_frames(100, seed=5, workers=1)
    assert frames.images.shape == (2 * len(OBJECTS), 3, 32, 32)  # 100 rounded up
    assert len(frames.captions) == len(frames.motions) == 128
    assert 0.2 < (frames.motions >= 0).float().mean() < 0.6
    assert frames.motions.max() < len(MOTIONS)
    again = render_frames(64, seed=5, workers=1)
    assert (again.images == frames.images[:64]).all()
    assert again.captions == frames.captions[:64]

    monkeypatch.setattr("vlbench.synthetic.pretrain._HELD_OUT_FRAMES", 64)
    out = tmp_path / "new" / "weights.safetensors"
    metrics = pretrain(out=out, steps=3, batch_size=64, frames=128, workers=1)
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["recipe"]["steps"] == 3
    assert record["metrics"].keys() == metrics.keys()
    open_clip.create_model(register(), pretrained=str(out))
