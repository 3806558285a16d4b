"""Courses of the motions: where the object is, how large and how visible, frame by frame.

Coordinates run from 0 to 1, x to the right and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlbench.synthetic.classes import REVERSED_OF

_TURN = 2 * np.pi


@dataclass(frozen=True)
class Trajectory:
    """The course of an object; four float32 arrays of shape (T,).

    Attributes:
        x: Centre, 0 is the left edge of the frame and 1 the right one.
        y: Centre, 0 is the top edge and 1 the bottom one.
        scale: Factor on the object's radius.
        opacity: 0 (invisible) to 1.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    scale: NDArray[np.float32]
    opacity: NDArray[np.float32]

    def reversed(self) -> Trajectory:
        """The same course played backwards."""
        return Trajectory(self.x[::-1], self.y[::-1], self.scale[::-1], self.opacity[::-1])


def trajectory(rng: np.random.Generator, motion: str, frames: int) -> Trajectory:
    """Draws one course of a motion.

    Two motions that are partners give exactly reversed courses for generators in the same state.

    Args:
        rng: Source of chance; advanced by the call.
        motion: A key of `classes.MOTIONS`.
        frames: Number T of frames.

    Raises:
        KeyError: If the motion is unknown.
    """
    if motion in REVERSED_OF:
        return trajectory(rng, REVERSED_OF[motion], frames).reversed()
    time = np.linspace(0, 1, frames)
    begin, end = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
    done = np.clip((time - begin) / (end - begin), 0, 1)
    done = done + rng.uniform(-0.12, 0.12) * np.sin(_TURN * done)  # uneven speed
    x, y = np.full((2, frames), rng.uniform(0.3, 0.7, size=(2, 1)))
    scale, opacity = np.ones((2, frames))

    match motion:
        case "l2r" | "rise":
            way = rng.uniform(0.15, 0.28) + done * rng.uniform(0.45, 0.57)
            beside = rng.uniform(0.22, 0.78) + 0.06 * rng.normal() * done
            x, y = (way, beside) if motion == "l2r" else (beside, 1 - way)
        case "grow":
            scale = rng.uniform(0.35, 0.5) + done * rng.uniform(0.8, 1.1)
        case "appear":
            opacity = np.clip(done * rng.uniform(1, 1.4), 0, 1)
        case "cw":
            angle = _TURN * (rng.random() + rng.uniform(0.8, 1.2) * time)
            radius = rng.uniform(0.17, 0.24)
            # y points down, so a growing angle is clockwise on the screen
            x = 0.5 + rng.uniform(-0.06, 0.06) + radius * np.cos(angle)
            y = 0.5 + rng.uniform(-0.06, 0.06) + radius * np.sin(angle)
        case "bounce":
            hops = np.abs(np.sin(np.pi * (rng.uniform(1.5, 2.5) * time + rng.random())))
            y = 0.75 - rng.uniform(0.35, 0.45) * hops
        case "shake":
            x = x + 0.07 * np.sin(_TURN * (rng.uniform(5, 7) * time + rng.random()))
            y = y + 0.04 * np.sin(_TURN * (rng.uniform(4, 7) * time + rng.random()))
        case "blink":
            lit = np.sin(_TURN * (rng.uniform(2, 3) * time + rng.random())) > -0.2
            opacity = np.where(lit, 1.0, 0.08)
        case "still":
            pass
        case _:
            raise KeyError(motion)
    return Trajectory(*(values.astype(np.float32) for values in (x, y, scale, opacity)))


def camera_shake(rng: np.random.Generator, frames: int, amplitude: float = 0.01) -> NDArray[np.float32]:
    """A smooth random wobble of shape (T,), float32, as a fraction of the frame."""
    time = np.linspace(0, 1, frames)
    slow = rng.normal() * np.sin(_TURN * (time * rng.uniform(0.5, 2) + rng.random()))
    fast = rng.normal() * np.sin(_TURN * (time * rng.uniform(2, 5) + rng.random()))
    return (amplitude * (slow + fast / 2)).astype(np.float32)
