"""Draws the clips: one coloured shape that moves over a cloudy background, in plain numpy.

Lengths are fractions of the frame. Everything random comes from the generator that is handed in, so a clip is
a pure function of its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlbench.synthetic.classes import COLOURS, SHAPES
from vlbench.synthetic.trajectories import Trajectory, camera_shake, trajectory

FRAMES = 32
"""Frames of a clip."""
SIZE = 96
"""Height and width of a frame in pixels."""
RADIUS = (0.17, 0.25)
"""Range of the object's radius."""

Floats: TypeAlias = NDArray[np.floating[Any]]


# Signed distances to the shapes' edges: negative inside, in units of the shape's radius; `x` and `y` broadcast.


def _square(x: Floats, y: Floats, half: float) -> Floats:
    distance: Floats = np.maximum(np.abs(x), np.abs(y)) - half
    return distance


def _lines(v: Floats, period: float, half: float) -> Floats:
    """Distance to lines of width `2 * half`, one every `period`, one of them at 0."""
    distance: Floats = np.abs(np.mod(v + period / 2, period) - period / 2) - half
    return distance


def _ball(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.88


def _box(x: Floats, y: Floats) -> Floats:
    return _square(x, y, 0.78)


def _triangle(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.maximum(y - 0.6, 0.866 * np.abs(x) - 0.5 * y - 0.5)
    return distance


def _star(x: Floats, y: Floats) -> Floats:
    edge = 0.66 + 0.34 * np.cos(5 * np.arctan2(x, -y))
    distance: Floats = (np.hypot(x, y) - edge) * 0.6  # the edge is slanted; 0.6 brings the slope of the distance near 1
    return distance


def _cross(x: Floats, y: Floats) -> Floats:
    across, along = np.abs(x), np.abs(y)
    distance: Floats = np.minimum(np.maximum(across - 0.95, along - 0.3), np.maximum(along - 0.95, across - 0.3))
    return distance


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.72) - 0.22


def _flag(x: Floats, y: Floats) -> Floats:
    return np.maximum(_square(x, y, 0.95), _lines(y, 0.65, 0.18))


def _net(x: Floats, y: Floats) -> Floats:
    return np.maximum(_square(x, y, 0.92), np.minimum(_lines(x, 0.8, 0.12), _lines(y, 0.8, 0.12)))


_DISTANCE: dict[str, Callable[[Floats, Floats], Floats]] = {
    "ball": _ball,
    "box": _box,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "flag": _flag,
    "net": _net,
}


@dataclass(frozen=True)
class Sprite:
    """A shape with its course through the clip.

    Attributes:
        shape: Shape, one of `classes.SHAPES`.
        colour: RGB colour from 0 to 255, float32 `(3,)`.
        x, y: Coordinates of the centre, float32 `(T,)`.
        radius: Radius in each frame, float32 `(T,)`.
        opacity: Opacity in each frame, 0 to 1, float32 `(T,)`.
        angle: Rotation of the shape in radians.
    """

    shape: str
    colour: Floats
    x: Floats
    y: Floats
    radius: Floats
    opacity: Floats
    angle: float = 0.0

    def paint(self, image: Floats, frame: int) -> None:
        """Blends the sprite as it is at one frame into a float32 (size, size, 3) image, in place."""
        size = image.shape[0]
        x, y, radius, opacity = self.x[frame], self.y[frame], self.radius[frame], self.opacity[frame]
        # Only the square around the sprite is touched; corners of the box and star tips reach past the radius.
        low_x, low_y = (max(0, int((centre - 1.25 * radius) * size)) for centre in (x, y))
        high_x, high_y = (min(size, int((centre + 1.25 * radius) * size) + 2) for centre in (x, y))
        if low_x >= high_x or low_y >= high_y or opacity <= 0:
            return
        across = ((np.arange(low_x, high_x, dtype=np.float32) + 0.5) / size - x)[None, :] / radius
        down = ((np.arange(low_y, high_y, dtype=np.float32) + 0.5) / size - y)[:, None] / radius
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        distance = _DISTANCE[self.shape](across * cosine + down * sine, down * cosine - across * sine)
        coverage = np.clip(0.5 - distance * (radius * size), 0, 1)  # an edge one pixel soft
        patch = image[low_y:high_y, low_x:high_x]
        patch += (opacity * coverage)[..., None] * (self.colour - patch)


@dataclass(frozen=True)
class Scene:
    """Everything about a clip but the noise of its frames.

    Attributes:
        background: Background picture, float32 `(size, size, 3)`.
        distractors: Grey shapes behind the object.
        object: The shape that the class is about.
        course: The object's trajectory before the camera's shake.
        noise: Standard deviation of the grey noise, in steps of 0 to 255.
    """

    background: Floats
    distractors: tuple[Sprite, ...]
    object: Sprite
    course: Trajectory
    noise: float

    def draw(self, rng: np.random.Generator, frames: Sequence[int]) -> NDArray[np.uint8]:
        """Draws some frames of the clip, with fresh noise.

        Returns:
            uint8 (len(frames), size, size, 3), RGB.
        """
        size = self.background.shape[0]
        clip = np.empty((len(frames), size, size, 3), np.uint8)
        for out, frame in zip(clip, frames, strict=True):
            image = self.background.copy()
            for sprite in (*self.distractors, self.object):
                sprite.paint(image, frame)
            image += self.noise * rng.standard_normal((size, size, 1), dtype=np.float32)
            out[:] = np.clip(image + 0.5, 0, 255)
        return clip


def _background(rng: np.random.Generator, size: int) -> Floats:
    """A few soft clouds of colour: random values on a coarse grid, interpolated linearly."""
    cells = int(rng.integers(3, 7))
    tint = 0.6 * rng.uniform(8, 24) * rng.normal(size=(cells, cells, 3))
    coarse = rng.uniform(50, 150) + tint + 14 * rng.normal(size=(cells, cells, 1))
    position = np.linspace(0, cells - 1, size)
    cell = np.minimum(position.astype(int), cells - 2)
    weight = (position - cell)[:, None, None]
    rows = coarse[cell] * (1 - weight) + coarse[cell + 1] * weight
    columns = rows.transpose(1, 0, 2)
    image = columns[cell] * (1 - weight) + columns[cell + 1] * weight
    return np.ascontiguousarray(image.transpose(1, 0, 2), dtype=np.float32)


def _distractor(rng: np.random.Generator, shake: tuple[Floats, Floats]) -> Sprite:
    frames = len(shake[0])
    drift = np.linspace(-0.5, 0.5, frames)
    place, speed = rng.uniform(0.05, 0.95, size=2), 0.12 * rng.normal(size=2)
    return Sprite(
        shape=SHAPES[rng.integers(len(SHAPES))],
        colour=(rng.uniform(30, 215) + 10 * rng.normal(size=3)).astype(np.float32),
        x=(place[0] + speed[0] * drift + shake[0]).astype(np.float32),
        y=(place[1] + speed[1] * drift + shake[1]).astype(np.float32),
        radius=np.full(frames, rng.uniform(0.04, 0.08), np.float32),
        opacity=np.full(frames, 0.8, np.float32),
    )


def sample_scene(
    rng: np.random.Generator,
    *,
    colour: str,
    shape: str,
    motion: str,
    frames: int = FRAMES,
    size: int = SIZE,
    radius: tuple[float, float] = RADIUS,
) -> Scene:
    """Draws the scene of one clip: object and course, 0 to 2 grey distractors, background, camera shake.

    Args:
        rng: Source of chance; advanced by the call.
        colour: A key of `classes.COLOURS`.
        shape: Shape, one of `classes.SHAPES`.
        motion: A key of `classes.MOTIONS`.
        frames: Length T of the clip.
        size: Height and width in pixels.
        radius: Range that the object's radius is drawn from, uniformly.

    Raises:
        KeyError: If colour or motion is unknown; an unknown shape shows when it is drawn.
    """
    course = trajectory(rng, motion, frames)
    shake = camera_shake(rng, frames), camera_shake(rng, frames)
    paint = (np.array(COLOURS[colour]) + 12 * rng.normal(size=3)) * rng.uniform(0.8, 1.1)
    return Scene(
        object=Sprite(
            shape=shape,
            colour=np.clip(paint, 0, 255).astype(np.float32),
            x=course.x + shake[0],
            y=course.y + shake[1],
            radius=course.scale * np.float32(rng.uniform(*radius)),
            opacity=course.opacity,
            angle=rng.uniform(-0.3, 0.3),
        ),
        background=_background(rng, size),
        distractors=tuple(_distractor(rng, shake) for _ in range(rng.integers(0, 3))),
        course=course,
        noise=rng.uniform(3, 9),
    )


def render_clip(rng: np.random.Generator, *, colour: str, shape: str, motion: str) -> NDArray[np.uint8]:
    """Renders one whole clip, uint8 (`FRAMES`, `SIZE`, `SIZE`, 3), RGB; arguments as for `sample_scene`."""
    return sample_scene(rng, colour=colour, shape=shape, motion=motion).draw(rng, range(FRAMES))
