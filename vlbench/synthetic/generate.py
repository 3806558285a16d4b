"""Renders the synthetic sets to mp4 files with annotation lists, in parallel and resumably."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from vlbench.ranges import Range
from vlbench.synthetic.classes import SETS, SyntheticClass, classes_of
from vlbench.synthetic.render import render_clip

GENERATOR_VERSION = 1
"""Raised whenever the same seed gives other clips; sets of another version are rendered anew."""
SEED = 0
PARTS: dict[str, int] = {"train": 16, "validation": 6, "test": 10}
"""Name of a part to its clips a class."""
FPS = 16

_MARKER = "dataset.json"  # written last: the set is complete
_STAMP = ".generator"  # written first: which version the clips found in an unfinished folder are of
# For the same bytes from every run: one thread, and no macroblock tree (with it, x264 core 165 encoded the same frames
# differently from call to call). The tree is worth about 4 steps of crf: 32 gives the size that 28 gives with it.
_ENCODER = {"preset": "veryfast", "crf": "32", "g": "16", "threads": "1", "mbtree": "0"}


@dataclass(frozen=True)
class _Clip:
    """A clip to render: where it goes and what its seed is made of."""

    path: Path
    set: str
    part: str
    label: int
    number: int

    @property
    def cls(self) -> SyntheticClass:
        return SETS[self.set][self.label]


def render_dataset(
    root: Path, *, sets: Sequence[str] = tuple(SETS), workers: int | None = None, progress: bool = True
) -> None:
    """Renders sets below a folder: clips, one annotation list a part, and a marker once a set is complete.

    A clip is `<root>/<set>/<part>/<label>_<number>.mp4`, its line in `<root>/<set>/<part>.txt` is
    `<part>/<label>_<number>.mp4 <label>`. Clips depend on set, part, label and number alone, not on `workers`.
    Clips that are there are kept, so an interrupted call can be repeated; those of another generator version
    are replaced. Of several calls at once, one renders and the others wait for it.

    Args:
        root: Folder of the synthetic dataset; made if missing.
        sets: Names of the sets, from `classes.SETS`.
        workers: Processes; `None` for one a core, 1 for none besides this one.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: If a set is unknown.
    """
    Range(1, 1_024).check("workers", workers, "one a core")
    for name in sets:
        classes_of(name)
    clips = [clip for name in sets for clip in _clips(root, name)]
    with _alone(root):
        for name in sets:
            _discard_other_versions(root / name, (clip.path for clip in clips if clip.set == name))
        missing = [clip for clip in clips if not clip.path.is_file()]
        for folder in {clip.path.parent for clip in missing}:
            folder.mkdir(exist_ok=True)

        with _mapped(missing, workers or len(os.sched_getaffinity(0))) as done:
            for _ in track(done, "rendering clips", total=len(missing), disable=not progress or not missing):
                pass

        for name in sets:
            for part in PARTS:
                of_part = [clip for clip in clips if (clip.set, clip.part) == (name, part)]
                lines = "".join(f"{part}/{clip.path.name} {clip.label}\n" for clip in of_part)
                _write_text(root / name / f"{part}.txt", lines)
            _write_text(root / name / _MARKER, json.dumps(_description(name), indent=2) + "\n")


def is_complete(root: Path, name: str) -> bool:
    """Whether a set was rendered to its end by this version of the generator; reads one small file.

    Raises:
        ConfigError: If the set is unknown.
    """
    expected = _description(name)
    try:
        return bool(json.loads((root / name / _MARKER).read_text()) == expected)
    except (OSError, ValueError):
        return False


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Waits until no other process renders below the folder; the lock goes with the process, however it ends."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _description(name: str) -> dict[str, object]:
    """What the marker says of a complete set."""
    classes = len(classes_of(name))
    return {
        "generator": GENERATOR_VERSION,
        "seed": SEED,
        "classes": classes,
        "videos": {part: classes * number for part, number in PARTS.items()},
    }


def _clips(root: Path, name: str) -> Iterator[_Clip]:
    """The clips of a set, in the order of its lists."""
    for part, number in PARTS.items():
        for label in range(len(SETS[name])):
            for k in range(number):
                yield _Clip(root / name / part / f"{label:02d}_{k:03d}.mp4", name, part, label, k)


def _discard_other_versions(folder: Path, clips: Iterable[Path]) -> None:
    """Makes sure that clips found in the folder are of this version, and stamps the folder with it."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp, current = folder / _STAMP, f"{GENERATOR_VERSION} {SEED}\n"
    if stamp.is_file() and stamp.read_text() == current:
        return
    (folder / _MARKER).unlink(missing_ok=True)
    for path in clips:
        path.unlink(missing_ok=True)
    _write_text(stamp, current)


@contextmanager
def _mapped(clips: Sequence[_Clip], workers: int) -> Iterator[Iterable[None]]:
    """Renders clips, here or in other processes, as the result is iterated over."""
    if workers == 1 or len(clips) < 2:
        yield map(_render, clips)
        return
    # Spawned, not forked: the caller may hold threads (torch, a progress bar) that a fork would freeze.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool.map(_render, clips, chunksize=8)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _render(clip: _Clip) -> None:
    """Renders one clip to its path; runs in a worker process."""
    rng = np.random.default_rng([SEED, zlib.crc32(f"{clip.set}/{clip.part}".encode()), clip.label, clip.number])
    cls = clip.cls
    frames = render_clip(rng, colour=cls.colour, shape=cls.shape, motion=cls.motion)
    temporary = _temporary(clip.path)
    try:
        write_clip(temporary, frames)
        temporary.replace(clip.path)
    finally:
        temporary.unlink(missing_ok=True)


def write_clip(path: Path, frames: NDArray[np.uint8]) -> None:
    """Writes uint8 (T, H, W, 3) frames as an H.264 mp4 file.

    Args:
        path: Path of the file, with any name.
        frames: Frames of the clip, RGB.
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=_ENCODER)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _temporary(path: Path) -> Path:
    """A name in the same folder, so that the final rename is atomic; no list or search for mp4 files finds it."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _write_text(path: Path, text: str) -> None:
    temporary = _temporary(path)
    temporary.write_text(text)
    temporary.replace(path)
