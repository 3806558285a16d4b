"""Videos that are kept as pictures: a folder of frames, or frames in a tar.

Frame k is the k-th picture by number, as `vlbench.datasets.frames` orders them. Pictures are decoded by torchvision's
libjpeg and libpng, to RGB and as stored: an orientation in a picture's EXIF data is not applied, which tools that
extract frames do not write. A picture that ends early is refused; of damage inside a JPEG picture the format tells
nothing, and libjpeg shows what it makes of it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from vlbench.clips.container import cause_of
from vlbench.datasets.frames import frames_of
from vlbench.errors import DecodeError
from vlbench.names import quoted

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # JPEG, PNG


class RawFramesReader:
    """Exact frames by number of a video that is kept as pictures. See `VideoReader`.

    Args:
        path: A folder of frames, a tar of the frames of one video, or `<tar>/<folder>`, a folder in a tar.

    Raises:
        DecodeError: If the pictures there are not the frames of one video, or a tar is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._frames = frames_of(self.path)
        except OSError as error:
            raise DecodeError(self.path, cause_of(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the files."""
        self._frames.close()

    @property
    def num_frames(self) -> int:
        """Number of frames: the pictures that are there, see `VideoReader.num_frames`."""
        return len(self._frames.names)

    def frames_at(self, indices: Sequence[int]) -> Tensor:
        """Frames with these indices, `(len(indices), 3, H, W)` uint8 RGB; see `VideoReader.frames_at`."""
        if not indices:
            return torch.empty(0, 3, 0, 0, dtype=torch.uint8)
        if not 0 <= min(indices) <= max(indices) < self.num_frames:
            raise IndexError(
                f"frames {min(indices)}..{max(indices)} asked of {self.path}; allowed: 0..{self.num_frames - 1}"
            )
        images = {index: self._decoded(index) for index in dict.fromkeys(indices)}
        sizes: dict[torch.Size, int] = {}
        for index, image in images.items():
            sizes.setdefault(image.shape[1:], index)
        if len(sizes) > 1:
            (size, one), (other_size, other) = [*sizes.items()][:2]
            raise DecodeError(
                self.path,
                f"its frames differ in size: {self._named(one)} is {size[1]}x{size[0]}, {self._named(other)} is"
                f" {other_size[1]}x{other_size[0]}",
            )
        # Channels-last in memory, as decoders of video give them: resizing rounds otherwise elsewhere.
        return torch.stack([images[index].permute(1, 2, 0) for index in indices]).permute(0, 3, 1, 2)

    @property
    def duration(self) -> float:
        """Refuses: pictures have no times, and nothing states a rate; see `VideoReader.duration`."""
        raise DecodeError(self.path, "its frames have no times to tell its length by; use the video file")

    def frames_between(self, start: float, end: float) -> range:
        """Refuses: pictures have no times, and nothing states a rate; see `VideoReader.frames_between`."""
        raise DecodeError(
            self.path, f"its frames have no times to find {start} to {end} s by; use the video files of this dataset"
        )

    def _decoded(self, index: int) -> Tensor:
        """Frame `(3, H, W)` uint8 RGB."""
        try:
            content = self._frames.read(index)
            if not content:
                raise OSError(errno.EINVAL, "it is empty")
            if not content.startswith(_BEGINNINGS):
                raise OSError(errno.EINVAL, "it is neither a JPEG nor a PNG picture")
            image: Tensor = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
        except (OSError, ValueError, RuntimeError) as error:
            cause = cause_of(error) if isinstance(error, OSError) else f"it is damaged: {_first_line(error)}"
            raise DecodeError(self.path, f"{self._named(index)}: {cause}") from error
        if image.dtype != torch.uint8:
            raise DecodeError(self.path, f"{self._named(index)}: its samples have more than 8 bits; store it with 8")
        return image

    def _named(self, index: int) -> str:
        return f"frame {index}, {quoted(self._frames.names[index])}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
