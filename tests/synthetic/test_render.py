from __future__ import annotations

import numpy as np
import pytest

from vlbench.synthetic.classes import COLOURS, MOTIONS, PARTNERS, REVERSED_OF, SHAPES
from vlbench.synthetic.render import FRAMES, SIZE, render_clip, sample_scene
from vlbench.synthetic.trajectories import trajectory

FIELDS = ("x", "y", "scale", "opacity")


@pytest.mark.parametrize("motion", REVERSED_OF)
@pytest.mark.parametrize("seed", range(5))
def test_partners_are_exact_time_reversals(motion: str, seed: int) -> None:
    one = trajectory(np.random.default_rng(seed), motion, FRAMES)
    other = trajectory(np.random.default_rng(seed), PARTNERS[motion], FRAMES)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field)[::-1])


@pytest.mark.parametrize(
    ("motion", "field", "sign"),
    [("l2r", "x", 1), ("fall", "y", 1), ("rise", "y", -1), ("grow", "scale", 1), ("vanish", "opacity", -1)],
)
def test_directed_motions_go_their_way(motion: str, field: str, sign: int) -> None:
    for seed in range(20):
        values = getattr(trajectory(np.random.default_rng(seed), motion, FRAMES), field)
        assert sign * (values[-1] - values[0]) > 0.3


def test_clockwise_is_clockwise_on_the_screen() -> None:
    course = trajectory(np.random.default_rng(0), "cw", FRAMES)
    dx, dy = np.diff(course.x), np.diff(course.y)
    assert (dx[:-1] * dy[1:] - dy[:-1] * dx[1:] > 0).all()  # with y pointing down, a right turn is positive


@pytest.mark.parametrize("motion", MOTIONS)
def test_courses_stay_in_the_frame(motion: str) -> None:
    for seed in range(20):
        course = trajectory(np.random.default_rng(seed), motion, FRAMES)
        for field in FIELDS:
            assert getattr(course, field).shape == (FRAMES,)
            assert getattr(course, field).dtype == np.float32
        assert (course.opacity >= 0).all()
        assert (course.opacity <= 1).all()
        assert (np.abs(np.stack([course.x, course.y]) - 0.5) < 0.6).all()
        assert (course.scale > 0.3).all()


def test_unknown_motion() -> None:
    with pytest.raises(KeyError, match="fly"):
        trajectory(np.random.default_rng(0), "fly", FRAMES)


def test_clip_is_a_function_of_its_seed() -> None:
    clips = [render_clip(np.random.default_rng(seed), colour="red", shape="ball", motion="l2r") for seed in (1, 1, 2)]
    assert clips[0].shape == (FRAMES, SIZE, SIZE, 3)
    assert clips[0].dtype == np.uint8
    np.testing.assert_array_equal(clips[0], clips[1])
    assert (clips[0] != clips[2]).mean() > 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_object_is_painted_in_its_colour_where_its_course_says(shape: str) -> None:
    rng = np.random.default_rng(3)
    scene = sample_scene(rng, colour="blue", shape=shape, motion="l2r", radius=(0.25, 0.25))
    for frame, image in zip((0, 20), scene.draw(rng, [0, 20]), strict=True):
        blue = image[..., 2].astype(float) - image[..., 0] > 80
        rows, columns = np.nonzero(blue)
        # A triangle's middle is a little off its centre; the noise moves the mean by less than a pixel.
        assert abs(columns.mean() / SIZE - np.clip(scene.object.x[frame], 0.1, 0.9)) < 0.06
        assert abs(rows.mean() / SIZE - scene.object.y[frame]) < 0.06


def test_shapes_and_colours_differ() -> None:
    def frame(colour: str, shape: str) -> np.ndarray:
        rng = np.random.default_rng(0)
        return sample_scene(rng, colour=colour, shape=shape, motion="still").draw(rng, [0])[0].astype(int)

    looks = [frame(colour, "ball") for colour in COLOURS] + [frame("red", shape) for shape in SHAPES[1:]]
    for index, one in enumerate(looks):
        assert all((np.abs(one - other).max(axis=2) > 40).sum() > 30 for other in looks[:index])
