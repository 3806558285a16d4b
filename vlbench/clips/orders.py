"""Orders of the frames of a test view: the normal one, and counterfactual ones that take time out of a video.

A view has T frames, of which the sampling picks the numbers. With frames 0 to T - 1 of a normal view:

- `reversed`: frames T - 1 to 0.
- `shuffled`: a permutation of the frames that is drawn by the id of the video, one for all of its clips, and never the
  one that leaves every frame in its place, unless T is 1.
- `middle`: frame T // 2, T times.
- `half_rate`: frames 0, 0, 2, 2, 4, 4, .., as a camera of half the frame rate would show them.
- `first_half`, `second_half`: what the sampling picks of a video that ends, or begins, in the middle; of an odd number
  of frames the one in the middle is in both halves.
- `stripes`: one picture T times, the background of the view with black and white stripes in place of what moves, see
  `striped`.

Each is the same at every call, in any process and in a batch of any size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vlbench.clips.options import ViewOrder
from vlbench.names import name_bytes

_MOVES = 32
"""Grey levels from the background, more than which a pixel moves; noise of codecs is smaller."""

_STRIPES = 28
"""Height of a stripe, as a part of the shorter side of the frame: 8 pixels of 224."""


def clips_in(order: ViewOrder, pick: Callable[[int], list[list[int]]], num_frames: int, video: str) -> list[list[int]]:
    """Frame numbers of the clips of a video in an order, each in `[0, num_frames)`.

    Args:
        order: Order of the frames.
        pick: Function from a number of frames to the frame numbers of each clip in the normal order.
        num_frames: Number of frames of the video, 1 or more.
        video: Id of the video, which seeds the permutation of `shuffled`.

    Example:
        >>> clips_in("second_half", lambda count: [[0, count // 2]], 8, "a.mp4")
        [[4, 6]]
    """
    if order == "first_half":
        return pick((num_frames + 1) // 2)
    if order == "second_half":
        first = num_frames // 2
        return [[first + number for number in clip] for clip in pick(num_frames - first)]
    return [[clip[place] for place in places_in(order, len(clip), video)] for clip in pick(num_frames)]


def places_in(order: ViewOrder, frames: int, video: str) -> list[int]:
    """Positions in a normal view of the frames that a view in an order shows.

    Args:
        order: Order of the frames; of those that change which frames are picked, the positions are the normal ones.
        frames: Number T of frames of the view.
        video: Id of the video.

    Example:
        >>> places_in("half_rate", 5, "a.mp4")
        [0, 0, 2, 2, 4]
    """
    if order == "reversed":
        return list(range(frames))[::-1]
    if order == "shuffled":
        return _permutation(frames, video)
    if order == "middle":
        return [frames // 2] * frames
    if order == "half_rate":
        return [place - place % 2 for place in range(frames)]
    return list(range(frames))


def shown_in(order: ViewOrder, frames: Tensor, places: Tensor) -> Tensor:
    """Clips `(C, T, 3, h, w)` uint8 that a view in an order shows.

    Args:
        order: Order of the frames.
        frames: Frames of the video, uint8 `(U, 3, h, w)`.
        places: Positions of the clips' frames, int64 `(C, T)`, where the frame numbers are in the order already.
    """
    # Colours last, the order in which decoders and resizing leave pixels.
    clips = frames.movedim(-3, -1)[places.to(frames.device)].movedim(-1, -3)
    return torch.stack([striped(clip) for clip in clips]) if order == "stripes" else clips


def striped(clip: Tensor) -> Tensor:
    """The background of a clip, still, with horizontal black and white stripes in place of what moves.

    The background is the median of the frames, pixel by pixel and colour by colour, of an even number the lower of the
    two in the middle. A pixel moves if a colour of it is more than 32 of 255 levels from the background in any frame.
    Where the camera moves, everything does.

    Args:
        clip: Frames of the clip, uint8 `(T, 3, h, w)`.

    Returns:
        The same picture T times, uint8 `(T, 3, h, w)`.
    """
    background = clip.median(dim=0).values
    moves = ((clip.short() - background.short()).abs() > _MOVES).any(dim=0).any(dim=0)
    height, width = moves.shape
    stripe = max(1, min(height, width) // _STRIPES)
    rows = (torch.arange(height, device=clip.device) // stripe % 2 * 255).to(torch.uint8)
    picture = torch.where(moves, rows[:, None], background)
    return picture.expand_as(clip)


def _permutation(frames: int, video: str) -> list[int]:
    """A permutation of positions that is not the identity, drawn by the id of a video."""
    seed = int.from_bytes(hashlib.blake2b(name_bytes(video), digest_size=4).digest(), "big")
    # The legacy generator draws the same with any numpy.
    generator = np.random.RandomState(seed)
    while True:
        places: list[int] = generator.permutation(frames).tolist()
        if frames < 2 or places != sorted(places):
            return places
