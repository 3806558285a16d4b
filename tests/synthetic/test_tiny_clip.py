from __future__ import annotations

import json
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torchvision.transforms.v2 import functional as transforms

from vlbench.synthetic.classes import SETS
from vlbench.synthetic.frames import OBJECTS
from vlbench.synthetic.pretrain import normalise
from vlbench.synthetic.render import render_clip
from vlbench.synthetic.tiny_clip import (
    CONTEXT_LENGTH,
    IMAGE_SIZE,
    TINY_CLIP,
    VOCAB_SIZE,
    register,
    tokenizer,
    weights_path,
)


@pytest.fixture(scope="module")
def model() -> Any:
    return open_clip.create_model(register(), pretrained=str(weights_path())).eval()


def test_registers_once() -> None:
    assert register() == register() == TINY_CLIP
    assert TINY_CLIP in open_clip.list_models()


def test_weights_are_half_precision_and_load_strictly() -> None:
    weights = load_file(weights_path())
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    model = open_clip.create_model(register())
    model.load_state_dict(weights, strict=True)
    assert 1.3e6 < sum(parameter.numel() for parameter in model.parameters()) < 1.5e6
    assert weights_path().stat().st_size < 3.2e6


def test_tokens() -> None:
    encode = tokenizer()
    tokens = encode(["a red ball moving from left to right", "", "word " * 50])
    assert encode.vocab_size == VOCAB_SIZE
    assert tokens.shape == (3, CONTEXT_LENGTH)
    assert (tokens < VOCAB_SIZE).all()
    assert (tokens[:, 0] == VOCAB_SIZE - 2).all()
    assert tokens.argmax(1).tolist() == [9, 1, CONTEXT_LENGTH - 1]  # the end token has the largest id
    assert (tokens.amax(1) == VOCAB_SIZE - 1).all()
    # Whole words of CLIP's vocabulary keep their ids under the cut.
    assert tokens[0, 1:4].tolist() == open_clip.tokenize("a red ball")[0, 1:4].tolist() == [320, 736, 1069]


def test_open_clip_finds_the_same_tokenizer() -> None:
    text = ["a cyan triangle circling counterclockwise"]
    register()
    torch.testing.assert_close(open_clip.get_tokenizer(TINY_CLIP)(text), tokenizer()(text))


def test_features_are_small_enough_for_temporal_modules(model: Any) -> None:
    images = torch.randint(0, 256, (4, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8)
    with torch.no_grad():
        features = model.encode_image(normalise(images))
    assert features.shape == (4, 128)
    assert features.std() < 0.5


def test_recognises_the_objects_of_rendered_clips(model: Any) -> None:
    # shapes-u has one object a class; 64 objects compete, so chance is 1.6 %.
    classes = SETS["shapes-u"]
    with torch.no_grad():
        texts = model.encode_text(tokenizer()([f"a photo of a {colour} {shape}." for colour, shape in OBJECTS]))
        correct = 0
        for label, cls in enumerate(classes):
            clip = render_clip(np.random.default_rng(label), colour=cls.colour, shape=cls.shape, motion=cls.motion)
            frames = transforms.resize(
                torch.from_numpy(clip[2::4]).permute(0, 3, 1, 2),
                [IMAGE_SIZE],
                interpolation=transforms.InterpolationMode.BICUBIC,
                antialias=True,
            )
            video = F.normalize(model.encode_image(normalise(frames)), dim=-1).mean(0)
            guess = (F.normalize(texts, dim=-1) @ video).argmax().item()
            correct += OBJECTS[guess] == (cls.colour, cls.shape)
    assert correct >= 12


def test_recorded_metrics_are_those_of_a_model_that_tells_directions_apart() -> None:
    record = json.loads(weights_path().with_suffix(".json").read_text())
    metrics = record["metrics"]
    assert metrics["object_accuracy"] > 0.85
    cosines = [value for name, value in metrics.items() if name.startswith("cosine/")]
    assert len(cosines) == 5
    assert max(cosines) < 0.9
