"""Copies of a dataset: a smaller one that decodes faster (`prepare`), and a few of its videos for tests (`subset`)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from rich.progress import track

from vlbench.clips.container import cause_of, open_container
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.frames import frame_places
from vlbench.datasets.lists.index import FileIndex, Stamp
from vlbench.datasets.lists.splits import draw_shots, select
from vlbench.datasets.specs import VIDEO_EXTENSIONS, Part, VideoItem
from vlbench.errors import ConfigError, DataError
from vlbench.files import replacing, write_atomically
from vlbench.names import is_text, quoted
from vlbench.ranges import COUNTS, PROCESSES, SEEDS, SIDES
from vlbench.regular_files import copy_regular
from vlbench.tools.doctor.findings import Finding, Report
from vlbench.tools.doctor.probe import probe
from vlbench.tools.parallel import for_each

ANNOTATIONS: tuple[str, ...] = (".csv", ".json", ".txt")
"""Suffixes of the files that are copied as they are."""
_LOG = "prepared.jsonl"
# Made to be read a few frames at a time: any of them is at most six frames of decoding away, and each of these is
# cheap. On three real clips, 8 frames of a training sample cost 1/5, 1/3 and 1/2 of the original's, at 1.9, 1.7 and 0.7
# times its size. One thread, as there are as many processes as cores. With x264's macroblock tree on, about one copy in
# 150 came out with other bytes than its repetitions, and none of 1280 without it.
_ENCODER = {
    "preset": "veryfast",
    "tune": "fastdecode",
    "crf": "18",
    "g": "6",
    "bf": "0",
    "threads": "1",
    "x264-params": "mbtree=0",
}


@dataclass(frozen=True)
class _Task:
    """A video to copy; `entry` is the log's line once it is done."""

    source: Path
    target: Path
    short_side: int
    entry: dict[str, Any]


def prepare(root: Path, out: Path, *, resize: int = 256, workers: int | None = None, progress: bool = True) -> Report:
    """Makes a copy of a dataset with smaller videos that decode faster; its folder is a `root` like the original's.

    Every copy is an upright, silent H.264 video in an MP4 container, whose frame k shows frame k of the original at its
    time. It keeps path and name of the original, extension included, because lists and video ids name it so; readers
    look at the content. Sides are even, and no video is enlarged. A video that cannot be decoded to its end is copied
    as it is, and is an error of the report: nothing that was there is lost. Lists (`ANNOTATIONS`) are copied too, and
    hidden files are not.

    What `OUT/prepared.jsonl` names as done is skipped, unless the original or `resize` has changed since: an
    interrupted call can be repeated.

    Args:
        root: Folder of videos, as deep as need be.
        out: Folder of the copy; made if missing.
        resize: Length of the frames' short side, in pixels.
        workers: Processes; 0 for this one, `None` for one a core.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: If `resize` is no size, or one folder lies in the other.
        DataError: If the folder does not exist or holds no video.
    """
    SIDES.check("resize", resize)
    PROCESSES.check("workers", workers, "one a core")
    _check_folders(root, out)
    index = FileIndex(root)
    videos = sorted(index.named(root, VIDEO_EXTENSIONS))
    if not videos:
        _refuse_empty(root)
    findings = [
        Finding("error", "not_copied", name, f"{problem}; mend it, or the copy lacks this list")
        for name in sorted(index.named(root, ANNOTATIONS))
        if (problem := _not_copied(root / name, out / name))
    ]
    tasks = [_task(name, root, out, resize) for name in videos]
    log = out / _LOG
    done = _done(log)
    waiting = [task for task in tasks if done.get(task.entry["video"]) != task.entry or not task.target.is_file()]
    out.mkdir(parents=True, exist_ok=True)
    with log.open("a") as lines:
        results = for_each(_prepare, waiting, workers=workers)
        for task, failure in track(results, "preparing", total=len(waiting), disable=not progress or not waiting):
            if failure == "":
                lines.write(json.dumps(task.entry) + "\n")
                lines.flush()
            else:
                findings.append(_not_prepared(task, failure))
    return Report(f"copy of {root} in {out}", len(tasks), len(waiting) - len(findings), tuple(findings))


def subset(dataset: VideoDataset, out: Path, *, videos: int = 2, seed: int = 0) -> None:
    """Copies a few videos of each class and part, to be read by `FolderVideos`.

    Writes the videos, `classes.txt` (names in label order) and a list for each part, such as `train.csv` with the
    columns `path` and `class`. The draw is that of `splits.draw_shots`: it depends on the videos' ids and the seed.
    Videos that are not there are not drawn.

    Args:
        dataset: Dataset of whole files; the splits are those of its training and test subsets.
        out: Folder of the copy; new or empty.
        videos: Number of videos of each class in each part.
        seed: Seed of the draw.

    Raises:
        ConfigError: If the folder holds something, or the videos are parts of files or kept as frames.
        DataError: If a class has fewer videos than asked for, or a video has a name that no list can hold.
    """
    COUNTS.check("videos", videos)
    SEEDS.check("seed", seed)
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; give a new folder")
    if dataset.stored == "frames":
        raise ConfigError("the dataset's videos are kept as frames, and only video files are copied; choose another")
    if dataset.facts.multi_label:
        raise ConfigError(f"a video of {dataset.label} may have several labels, which no list of a copy holds")
    listed = dataset.listed_classes
    labels = range(dataset.spec.num_classes) if listed is None else listed.labels
    names = [dataset.spec.class_names[label] for label in labels]
    splits: dict[Part, int] = {
        "train": dataset.train_subset.split,
        "validation": dataset.test_subset.split,
        "test": dataset.test_subset.split,
    }
    parts = {
        part: _draw(select(dataset.items(part, split), labels), videos, seed, names) for part, split in splits.items()
    }
    for item in chain(*parts.values()):
        _check_listable(item)
    for part, drawn in parts.items():
        for item in drawn:
            copy_regular(item.path, out / _file_name(item))
        if drawn:
            rows = [("path", "class"), *((_file_name(item), names[item.label]) for item in drawn)]
            write_atomically(out / f"{part}.csv", csv_bytes(rows))
    write_atomically(out / "classes.txt", "".join(f"{name}\n" for name in names).encode())


def _check_folders(root: Path, out: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder of the dataset")
    inner, outer = out.resolve(), root.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ConfigError(f"{out} and {root} lie in one another; give a folder for the copy elsewhere")


def _refuse_empty(root: Path) -> NoReturn:
    frames = next(frame_places(root), None)
    if frames is None:
        raise DataError(f"{root} holds no video; looked for {', '.join(VIDEO_EXTENSIONS)}")
    raise DataError(
        f"{root} holds videos as frames, {frames[1]} is one; only video files are copied: frames are quick to read at"
        " random as they are"
    )


def _task(name: str, root: Path, out: Path, resize: int) -> _Task:
    try:
        stamp: Stamp | None = Stamp.of(root / name)
    except OSError:  # a link to nothing; preparing it says so
        stamp = None
    return _Task(root / name, out / name, resize, {"video": name, "stamp": stamp and list(stamp), "resize": resize})


def _done(log: Path) -> dict[str, dict[str, Any]]:
    """The log's entries by video; a line that a killed run left unfinished is closed and counts for nothing."""
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return {}
    if content and not content.endswith(b"\n"):
        with log.open("a") as lines:
            lines.write("\n")
    return {entry["video"]: entry for entry in _entries(content)}


def _entries(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.split(b"\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("video"), str):
            yield entry


def _prepare(task: _Task) -> str:
    """Makes one copy; returns why it could not, or nothing."""
    facts = probe(task.source)
    if facts.problem is not None:
        return facts.cause
    try:
        with replacing(task.target) as temporary:
            written = _encode(task.source, temporary, task.short_side)
            if written != facts.frames:
                raise DataError(f"{written} of {facts.frames} frames were written")
    except Exception as error:  # whatever a file does to a decoder or an encoder
        return f"the copy failed: {cause_of(error)}"
    return ""


def _encode(source: Path, target: Path, short_side: int) -> int:
    """Writes the copy; returns its number of frames."""
    from vlbench.clips.decoding.pyav import PyAVReader  # late: it loads torch, which only the worker processes need

    with PyAVReader(source) as reader:
        index, timed = reader.stream_index, reader.planned
    with (
        open_container(source) as original,
        av.open(str(target.absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as copy,
    ):
        stored: Any = original.streams[index]
        stored.codec_context.thread_count = 1
        rate = stored.average_rate or Fraction(25)
        stream: Any = None
        count, start = 0, 0
        for count, frame in enumerate(original.decode(stored), start=1):
            image = _upright(frame)
            if stream is None:
                scale = min(1.0, short_side / min(image.width, image.height))
                stream = copy.add_stream("libx264", rate=rate, options=_ENCODER)
                stream.width, stream.height = (_even(side * scale) for side in (image.width, image.height))
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = frame.time_base if timed else 1 / rate
                start = frame.pts if timed else 0
            small = image.reformat(stream.width, stream.height, "yuv420p", interpolation="BICUBIC", threads=1)
            # Without dependable times in the original, frames come at its rate.
            small.pts = frame.pts - start if timed else count - 1
            small.time_base = stream.codec_context.time_base
            copy.mux(stream.encode(small))
        if stream is not None:
            copy.mux(stream.encode(None))
    return count


def _upright(frame: VideoFrame) -> VideoFrame:
    """The frame as RGB, the way readers show it: whatever its depth, colour space and rotation were."""
    image: NDArray[Any] = frame.reformat(format="rgb24", threads=1).to_ndarray()
    turned: NDArray[np.uint8] = np.rot90(image, round(frame.rotation / 90))
    return VideoFrame.from_ndarray(np.ascontiguousarray(turned), format="rgb24")


def _even(side: float) -> int:
    return max(2, 2 * round(side / 2))


def _not_prepared(task: _Task, problem: str | None) -> Finding:
    cause = problem if problem is not None else "the process that decoded it died"
    failed = _not_copied(task.source, task.target)
    kept = f"not copied: {failed}" if failed else "copied as it is; fetch it again"
    return Finding("error", "not_prepared", task.entry["video"], f"{cause}; {kept}")


def _not_copied(source: Path, target: Path) -> str:
    """Copies a file as it is; why that failed, or nothing."""
    try:
        copy_regular(source, target)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _check_listable(item: VideoItem) -> None:
    if not is_text(item.id) or item.id != item.id.strip():
        raise DataError(
            f"video {quoted(item.id)} has a name with bytes that are no UTF-8 or blanks around it, which no list can"
            " hold; rename it"
        )


def _draw(items: list[VideoItem], videos: int, seed: int, class_names: Sequence[str]) -> list[VideoItem]:
    if any(item.span for item in items):
        raise ConfigError("the dataset's videos are parts of files, and only whole files are copied; choose another")
    present = [item for item in items if item.path.is_file()]
    absent = {item.label for item in items} - {item.label for item in present}
    if absent:
        raise DataError(f"class {class_names[min(absent)]!r} has no video on disk; fetch some")
    return draw_shots(present, videos, seed)


def _file_name(item: VideoItem) -> str:
    """Path of the copy below its folder: the video's id, which may come without an extension."""
    named = item.id.lower().endswith(VIDEO_EXTENSIONS)
    return item.id if named else item.id + item.path.suffix


def csv_bytes(rows: list[tuple[str, str]]) -> bytes:
    """A CSV file of rows, every field in quotation marks, so that names may hold line breaks."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)  # Python 3.11 quotes no "\r" else
    return text.getvalue().encode()
