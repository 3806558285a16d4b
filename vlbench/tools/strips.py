"""Frames of videos as small JPEG pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vlbench.datasets.frames import frame_places
from vlbench.datasets.lists.frame_folders import without_extension
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.specs import VIDEO_EXTENSIONS
from vlbench.errors import DataError, DecodeError
from vlbench.tools.parallel import for_each

if TYPE_CHECKING:
    from torch import Tensor

_WIDEST = 4
"""Width of a frame, in heights, at most."""


def strip_of(task: tuple[Path, tuple[float, float] | None], frames: int = 5, height: int = 96) -> bytes | str:
    """Frames of a video side by side as a JPEG picture, or why there are none.

    Args:
        task: Path of the video, and start and end in seconds of the part of it that is meant.
        frames: Number of frames, evenly spread; one is the middle frame.
        height: Height of the picture in pixels.
    """
    from vlbench.clips.container import cause_of
    from vlbench.clips.decoding import open_video

    path, span = task
    try:
        with open_video(path) as reader:
            places = range(reader.num_frames) if span is None else reader.frames_between(*span)
            if not places:
                return "decoding yields no frame"
            images = reader.frames_at([places[(2 * k + 1) * len(places) // (2 * frames)] for k in range(frames)])
    except DecodeError as error:
        return error.cause
    except Exception as error:  # whatever a file does to a decoder
        return cause_of(error)
    return jpeg_strip(images, height)


def jpeg_strip(images: Tensor, height: int) -> bytes:
    """Images side by side as a JPEG picture.

    Args:
        images: Images of one size, uint8 `(N, 3, H, W)`.
        height: Height of the picture in pixels.
    """
    import torch  # late, as in `probe`: only the worker processes need it
    from torch.nn.functional import interpolate
    from torchvision.io import encode_jpeg

    tall, wide = images.shape[-2:]
    size = (height, max(1, min(_WIDEST * height, round(wide * height / tall))))
    small = interpolate(images.float(), size, mode="bilinear", antialias=True).round().clamp(0, 255).to(torch.uint8)
    strip = small.permute(1, 2, 0, 3).reshape(3, size[0], -1).contiguous()
    return bytes(encode_jpeg(strip, quality=80).numpy().tobytes())


def middle_frames(ids: Iterable[str], root: Path, height: int = 144) -> dict[str, bytes | str]:
    """The middle frame of videos as JPEG pictures, by the ids of the videos, or why there is none.

    A file is a video's if its path below the folder is the id or ends with it, with or without the extension, or, where
    there is none, if its name is that of the id; so are frames, where the folder has no video files. Nothing outside
    the folder is opened, whatever an id says.

    Args:
        ids: Ids of videos, such as those of a record.
        root: Folder of the dataset.
        height: Height of the pictures in pixels.

    Raises:
        DataError: If the folder does not exist.
    """
    wanted = list(dict.fromkeys(ids))
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder that holds the videos")
    index = FileIndex(root)
    places = {name: root / name for name in index.named(root, VIDEO_EXTENSIONS)} or dict(frame_places(root))
    index.save()
    files = _by_name(places)
    pictures: dict[str, bytes | str] = {}
    tasks: dict[tuple[Path, None], list[str]] = defaultdict(list)
    for video in wanted:
        paths = _matching(video, files)
        if len(paths) == 1:
            tasks[places[paths[0]], None].append(video)
        else:
            pictures[video] = f"{len(paths) or 'no'} files of this name are below the folder of the videos"
    # One process beside this one: a decoder that dies takes only that one along.
    for task, picture in for_each(partial(strip_of, frames=1, height=height), list(tasks), workers=1) if tasks else ():
        pictures |= dict.fromkeys(tasks[task], picture or "the process that decoded it died")
    return pictures


def _by_name(paths: Iterable[str]) -> Mapping[str, list[str]]:
    """Paths below a folder by the last part of them without its extension."""
    files = defaultdict(list)
    for path in paths:
        files[without_extension(path).rpartition("/")[2]].append(path)
    return files


def _matching(video: str, files: Mapping[str, list[str]]) -> list[str]:
    stem = without_extension(video)
    same_name = files.get(stem.rpartition("/")[2], [])
    for paths in (
        [path for path in same_name if path == video],
        [path for path in same_name if f"/{path}".endswith(f"/{video}")],
        [path for path in same_name if f"/{without_extension(path)}".endswith(f"/{stem}")],
    ):
        if paths:
            return paths
    return same_name
