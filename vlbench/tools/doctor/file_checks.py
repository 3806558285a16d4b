"""What the files tell: whether they are there, unlike each other and whole."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

from rich.progress import track

from vlbench.datasets.frames import frames_of, is_frames
from vlbench.datasets.lists.index import FileIndex, Stamp
from vlbench.datasets.specs import Part
from vlbench.errors import DecodeError
from vlbench.regular_files import NotRegularError, open_regular
from vlbench.tools.doctor.findings import Finding
from vlbench.tools.doctor.probe import FACT, Probe, probe
from vlbench.tools.parallel import cores, for_each

Thing = TypeVar("Thing")
_DIGEST = "blake2b/1"
_MEND = {
    "missing": "fetch it, or it counts as wrong in every test",
    "empty": "fetch it again",
    "unreadable": "mend its permissions or the disk",
    "no_file": "put the video in its place",
    "no_video": "it has sound only, or was cut in its header; fetch it again",
    "undecodable": "fetch it again",
    "truncated": "fetch it again",
    "damaged": "fetch it again",
    "frame_size": "re-encode it at one size",
    "frames": "extract its frames again",
    "frame_count": "extract its frames again, or make the list anew",
    "crashed": "the process that decoded it died; decode it with ffmpeg, or leave it out",
}


@dataclass(frozen=True)
class Use:
    """One mention of a file in a list.

    Attributes:
        list: Name of the list.
        part: Part of the dataset.
        split: Number of the split, `None` where there are none.
        label: Label of the video.
    """

    list: str
    part: Part
    split: int | None
    label: int


@dataclass(frozen=True)
class File:
    """A video file to look at.

    Attributes:
        name: What findings call it.
        uses: Mentions of the file in lists.
        frames: Number of frames that a list states.
    """

    name: str
    uses: tuple[Use, ...] = ()
    frames: int | None = None


def check_files(
    files: Mapping[Path, File], index: FileIndex, *, decode: bool, frames: int, workers: int | None, progress: bool
) -> tuple[int, list[Finding]]:
    """Looks at files: their presence, their content and, if asked for, every frame.

    Args:
        files: Files by their paths.
        index: Facts about the files from earlier runs; it is saved, also by an interrupted check.
        decode: Decode every file from start to end.
        frames: Number of frames that clips will have.
        workers: Processes that decode; 0 for this one, `None` for one a core.
        progress: Whether to show progress bars.

    Returns:
        Number of files that were decoded, and findings.
    """
    present, findings = check_presence(files)
    try:
        findings += check_duplicates(files, present, index, progress=progress)
        if decode:
            findings += check_decoding(files, present, index, frames=frames, workers=workers, progress=progress)
    finally:
        index.save()  # an interrupted check goes on where it was
    return len(present) if decode else 0, findings


def check_presence(files: Mapping[Path, File]) -> tuple[dict[Path, Stamp], list[Finding]]:
    """Which files are there and readable, and findings about the others."""
    present: dict[Path, Stamp] = {}
    findings = []
    for path, file in files.items():
        try:
            stamp = Stamp.of(path)
        except FileNotFoundError as error:
            findings.append(_problem(file, "missing", f"{path}: {error.strerror}"))
        except NotRegularError as error:
            findings.append(_problem(file, "no_file", f"{error.strerror}"))
        except OSError as error:
            findings.append(_problem(file, "unreadable", f"{path}: {error.strerror}"))
        except DecodeError as error:
            findings.append(_problem(file, "frames", error.cause))
        else:
            if not is_frames(path) and not os.access(path, os.R_OK):
                findings.append(_problem(file, "unreadable", f"{path}: permission denied"))
            elif not stamp.size:
                findings.append(_problem(file, "empty", "it has 0 bytes"))
            else:
                present[path] = stamp
    return present, findings


def check_duplicates(
    files: Mapping[Path, File], stamps: Mapping[Path, Stamp], index: FileIndex, *, progress: bool
) -> Iterator[Finding]:
    """Files with the same content; only files of the same size are read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path, stamp in stamps.items():
        sizes[stamp.size].append(path)
    alike = [path for paths in sizes.values() if len(paths) > 1 for path in paths]
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, digest in _digests(alike, stamps, index, progress=progress):
        groups[digest].append(path)
    for paths in groups.values():
        if len(paths) > 1:
            yield _duplicates([files[path] for path in sorted(paths)])


def check_decoding(
    files: Mapping[Path, File],
    stamps: Mapping[Path, Stamp],
    index: FileIndex,
    *,
    frames: int,
    workers: int | None,
    progress: bool,
) -> Iterator[Finding]:
    """Decodes every file that the index does not know."""
    for path, result in _probes(list(stamps), stamps, index, workers=workers, progress=progress):
        yield from _judgement(files[path], result, frames)


def _problem(file: File, code: str, cause: str) -> Finding:
    return Finding("error", code, file.name, f"{cause}; {_MEND[code]}")


def _duplicates(same: Sequence[File]) -> Finding:
    names = tuple(file.name for file in same)
    others = f"the same content as {', '.join(names[1:4])}{' …' if len(names) > 4 else ''}"
    uses = [use for file in same for use in file.uses]
    leaks = (
        (one.list, other.list)
        for one, other in product(uses, uses)
        if one.part == "train" and other.part != "train" and one.split == other.split
    )
    leak = next(leaks, None)
    if leak is not None:
        text = f"{others}: {leak[0]} trains on what {leak[1]} tests; remove it from one of them"
        return Finding("error", "duplicate", names[0], text, names)
    if len({use.label for use in uses}) > 1:
        text = f"{others}, under another class; keep the right one"
        return Finding("error", "duplicate", names[0], text, names)
    return Finding("warning", "duplicate", names[0], f"{others}; it counts several times, keep one", names)


def _judgement(file: File, result: Probe | None, frames: int) -> Iterator[Finding]:
    if result is None:
        yield _problem(file, "crashed", "it cannot be decoded")
        return
    if result.problem is not None:
        yield _problem(file, result.problem, result.cause)
        return
    if file.frames not in (None, result.frames):
        yield _problem(file, "frame_count", f"it has {result.frames} frames, and its list says {file.frames}")
    if result.frames < frames:
        yield Finding(
            "warning", "short", file.name, f"{result.frames} frames, clips of {frames} show some twice; take fewer"
        )
    if result.variable_rate:
        text = "frames are unevenly spaced in time and clips with them; re-encode at a constant rate if time matters"
        yield Finding("warning", "variable_rate", file.name, text)
    if result.rotation % 90:
        turned = 90 * round(result.rotation / 90) % 360
        text = f"stored turned by {result.rotation % 360} degrees; vlbench turns it by {turned}, so it is not upright;"
        text += " re-encode it"
        yield Finding("warning", "rotated", file.name, text)
    elif result.rotation:
        text = f"stored turned by {result.rotation % 360} degrees; vlbench turns it upright, other readers may not"
        yield Finding("note", "rotated", file.name, text)


def _digests(
    paths: Sequence[Path], stamps: Mapping[Path, Stamp], index: FileIndex, *, progress: bool
) -> Iterator[tuple[Path, str]]:
    unknown = []
    for path in paths:
        known = index.get(path, _DIGEST)
        if known is None:
            unknown.append(path)
        else:
            yield path, known
    with ThreadPoolExecutor(cores()) as pool:
        digests = zip(unknown, pool.map(_digest, unknown), strict=True)
        for path, digest in _tracked(digests, "comparing files of one size", len(unknown), progress):
            if digest is not None:
                index.put(path, _DIGEST, digest, stamp=stamps[path])
                yield path, digest


def _digest(path: Path) -> str | None:
    try:
        if is_frames(path):
            with closing(frames_of(path)) as frames:
                whole = hashlib.blake2b()
                for index in range(len(frames.names)):
                    whole.update(frames.read(index))
                return whole.hexdigest()
        with open_regular(path) as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except (OSError, DecodeError):  # decoding says so
        return None


def _probes(
    paths: Sequence[Path], stamps: Mapping[Path, Stamp], index: FileIndex, *, workers: int | None, progress: bool
) -> Iterator[tuple[Path, Probe | None]]:
    unknown = []
    for path in paths:
        known = index.get(path, FACT)
        if known is None:
            unknown.append(path)
        else:
            yield path, Probe(**known)
    results = for_each(probe, unknown, workers=workers)
    for path, result in _tracked(results, "decoding", len(unknown), progress):
        if result is not None:
            index.put(path, FACT, asdict(result), stamp=stamps[path])
        yield path, result


def _tracked(things: Iterable[Thing], what: str, total: int, progress: bool) -> Iterable[Thing]:
    return track(things, what, total=total, disable=not progress or not total)
