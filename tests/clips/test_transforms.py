from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.fakes import crops_of as views
from tests.fakes import moving_frames
from vlbench.clips.datamodules import UCF101DataModule
from vlbench.clips.options import ClipOptions, Views
from vlbench.clips.transforms import TrainTransform
from vlbench.errors import ConfigError


def clip(frames: int = 2, height: int = 60, width: int = 90) -> Tensor:
    return torch.from_numpy(moving_frames(frames, height, width)).permute(0, 3, 1, 2)


def pil_resize(
    frames: Tensor, width: int, height: int, resampling: Image.Resampling = Image.Resampling.BICUBIC
) -> Tensor:
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]
    resized = np.stack([np.asarray(image.resize((width, height), resampling)) for image in images])
    return torch.from_numpy(resized).permute(0, 3, 1, 2)


def difference(left: Tensor, right: Tensor) -> int:
    return int((left.int() - right.int()).abs().max())


def columns(height: int, width: int) -> Tensor:
    """A clip whose red value is the column and whose green value is the row."""
    frame = torch.zeros(3, height, width, dtype=torch.uint8)
    frame[0] = torch.arange(width)
    frame[1] = torch.arange(height)[:, None]
    return frame[None]


def corners(crops: Tensor) -> list[tuple[int, int]]:
    """(top, left) of each crop of `columns`."""
    return [(int(crop[0, 1, 0, 0]), int(crop[0, 0, 0, 0])) for crop in crops]


@pytest.mark.parametrize(("height", "width"), [(60, 90), (91, 60), (64, 64)])
@pytest.mark.parametrize("resize", [32, 48, 100])
def test_views_are_crops_of_pils_resize(height: int, width: int, resize: int) -> None:
    frames = clip(2, height, width)
    short, long = min(height, width), max(height, width)
    size = (int(resize * width / short), int(resize * height / short))
    assert max(size) == resize * long // short
    expected = pil_resize(frames, *size)
    left, right, centre = views(frames, size=resize, resize=resize, crops=3)
    assert difference(left, expected[..., :resize, :resize]) <= 2
    assert difference(right, expected[..., -resize:, -resize:]) <= 2
    assert torch.equal(centre, views(frames, size=resize, resize=resize, crops=1)[0])


def test_crop_places() -> None:
    wide, tall = columns(40, 73), columns(75, 40)
    assert corners(views(wide, size=40, resize=40, crops=1)) == [(0, 16)]
    assert corners(views(wide, size=40, resize=40, crops=3)) == [(0, 0), (0, 33), (0, 16)]
    assert corners(views(tall, size=40, resize=40, crops=3)) == [(0, 0), (35, 0), (18, 0)]
    assert corners(views(wide, size=30, resize=40, crops=3)) == [(5, 0), (5, 43), (5, 22)]


def test_released_crop_places_are_quarters_of_the_free_width() -> None:
    wide, tall = columns(40, 73), columns(75, 40)
    assert corners(views(wide, size=40, resize=40, crops=3, right_edge="quarters")) == [(0, 0), (0, 32), (0, 16)]
    assert corners(views(tall, size=40, resize=40, crops=3, right_edge="quarters")) == [(16, 0)] * 3


def test_views_have_the_promised_shape_and_leave_the_input_alone() -> None:
    frames = clip(5)
    before = frames.clone()
    crops = views(frames, size=24, resize=32, crops=3)
    assert crops.shape == (3, 5, 3, 24, 24)
    assert crops.dtype == torch.uint8
    assert torch.equal(crops, views(frames, size=24, resize=32, crops=3))
    assert torch.equal(frames, before)


def test_train_transform_is_repeatable_from_the_global_seed_and_varies() -> None:
    transform = pickle.loads(pickle.dumps(TrainTransform(32, resize=48)))  # data workers may be spawned
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(transform(clip()))
    assert outputs[0].shape == (2, 3, 32, 32)
    assert outputs[0].dtype == torch.uint8
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("fused_resize", [False, True])
def test_all_frames_of_a_clip_are_changed_alike(fused_resize: bool) -> None:
    frames = clip(1).expand(6, -1, -1, -1)
    transform = TrainTransform(32, resize=48, fused_resize=fused_resize)
    for seed in range(10):
        torch.manual_seed(seed)
        result = transform(frames)
        assert (result == result[:1]).all()


def shares(transform_options: dict[str, object], draws: int = 1000) -> tuple[float, float, float]:
    """How often a clip came out mirrored, jittered and grey, with the box held still."""
    transform = TrainTransform(16, resize=16, scale=(1, 1), **transform_options)  # type: ignore[arg-type]
    frame = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    frame[:, 0, :, :8] = 200
    frame[:, 1] = 90
    torch.manual_seed(0)
    mirrored = jittered = grey = 0
    for _ in range(draws):
        result = transform(frame)[0].int()
        is_grey = bool((result[0] == result[1]).all() and (result[1] == result[2]).all())
        is_mirrored = bool(result[:, :, 12:].sum() > result[:, :, :4].sum())
        upright = result.flip(-1) if is_mirrored else result
        grey += is_grey
        mirrored += is_mirrored
        jittered += not is_grey and not torch.equal(upright, frame[0].int())
    return mirrored / draws, jittered / draws, grey / draws


def test_probabilities_are_the_ones_asked_for() -> None:
    assert shares({"horizontal_flip": False, "color_jitter": 0, "gray": 0}) == (0, 0, 0)
    assert shares({"horizontal_flip": False, "color_jitter": 1, "gray": 0}, 20)[1] == 1
    mirrored, jittered, grey = shares({})
    assert 0.4 < mirrored < 0.6
    assert 0.12 < grey < 0.28
    assert 0.55 < jittered < 0.73  # 0.8 of those that are not grey


@pytest.mark.parametrize("fused_resize", [False, True])
def test_the_whole_frame_as_box_is_a_plain_resize(fused_resize: bool) -> None:
    frames = clip(2, 64, 64)
    transform = TrainTransform(
        32,
        resize=64,
        fused_resize=fused_resize,
        horizontal_flip=False,
        color_jitter=0,
        gray=0,
        scale=(1, 1),
    )
    assert difference(transform(frames), pil_resize(frames, 32, 32, Image.Resampling.BILINEAR)) <= 2


def test_fusing_the_resizes_stays_close() -> None:
    options = {"horizontal_flip": False, "color_jitter": 0, "gray": 0, "scale": (1, 1)}
    frames = clip(2, 96, 96)
    twice = TrainTransform(32, resize=64, **options)(frames)  # type: ignore[arg-type]
    once = TrainTransform(32, resize=64, fused_resize=True, **options)(frames)  # type: ignore[arg-type]
    assert 0 < (twice.float() - once.float()).abs().mean() < 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0; allowed: 1 or more"),
        ({"resize": -1}, "resize is -1"),
        ({"color_jitter": 1.5}, "color_jitter is 1.5; allowed: a probability"),
        ({"gray": -0.1}, "gray is -0.1"),
        ({"scale": (0.5, 0.1)}, "scale is"),
    ],
)
def test_wrong_training_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainTransform(**{"size": 32, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64}, "size is 64 and resize 32"),
        ({"crops": 2}, "crops is 2; allowed: 1, 3"),
        ({"right_edge": "left"}, "right_edge is 'left'; allowed: exact, quarters"),
    ],
)
def test_wrong_view_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        views(clip(), **{"size": 32, "resize": 32, "crops": 1, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
def test_frames_are_resized_as_the_backbone_was_trained(interpolation: str, resize_mode: str) -> None:
    frames = clip(2, 60, 90)
    options = {"interpolation": interpolation, "resize_mode": resize_mode}
    resampling = Image.Resampling[interpolation.upper()]
    whole = pil_resize(frames, *((32, 32) if resize_mode == "squash" else (48, 32)), resampling)
    (view,) = views(frames, size=32, resize=32, crops=1, **options)
    left = (whole.shape[-1] - 32) // 2
    assert difference(view, whole[..., left : left + 32]) <= 2
    plain = {"horizontal_flip": False, "color_jitter": 0, "gray": 0, "scale": (1, 1)}
    transform = TrainTransform(32, resize=32, **plain, **options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    kept = transform.cut(frames)
    assert (kept.height, kept.width) == whole.shape[-2:]
    torch.manual_seed(0)
    drawn = transform._drawn(*whole.shape[-2:])
    assert difference(kept.box, drawn.cut(whole)) <= 2


def test_the_usual_resize_is_the_default() -> None:
    frames = clip(2, 60, 90)
    stated = {"interpolation": "bicubic", "resize_mode": "shortest"}
    assert torch.equal(views(frames, size=32, resize=40, crops=3), views(frames, size=32, resize=40, crops=3, **stated))


def test_ways_to_resize_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="interpolation is 'nearest'; allowed: bicubic, bilinear"):
        views(clip(), size=32, resize=32, crops=1, interpolation="nearest")
    with pytest.raises(ConfigError, match="resize_mode is 'longest'; allowed: shortest, squash"):
        TrainTransform(32, resize_mode="longest")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"fused_resize is true and resize_mode squash"):
        TrainTransform(32, fused_resize=True, resize_mode="squash")


def test_three_crops_of_squares_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"crops is 3 and the backbone's resize_mode squash"):
        UCF101DataModule(clip=ClipOptions(views=Views(crops=3)), resize_mode="squash")
