"""The doctor: looks at a dataset before anything is trained on it, and says what is wrong and what to do."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.frames import frame_places
from vlbench.datasets.lists.annotations import listed_label, read_path_label
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.lists.text import NamedColumns
from vlbench.datasets.specs import VIDEO_EXTENSIONS, Part, VideoItem
from vlbench.errors import ConfigError, DataError
from vlbench.tools.doctor.bank_checks import check_bank
from vlbench.tools.doctor.file_checks import File, Use, check_files
from vlbench.tools.doctor.findings import Finding, Report
from vlbench.tools.doctor.list_checks import Listing, check_listings

__all__ = ["Finding", "Report", "check", "check_bank", "check_folder", "check_lists"]


def check(
    dataset: VideoDataset,
    *,
    decode: bool = False,
    frames: int = 8,
    workers: int | None = None,
    progress: bool = True,
) -> Report:
    """Looks at all parts and splits of a dataset, and at the published lists if it is configured with them.

    Args:
        dataset: Dataset that is looked at.
        decode: Decode every video from start to end. What was decoded before and has not changed is remembered.
        frames: Number of frames that clips will have.
        workers: Processes that decode; 0 for this one, `None` for one a core.
        progress: Whether to show progress bars.
    """
    subject = f"{dataset.label} at {dataset.root}"
    try:
        class_names = dataset.spec.class_names
        dataset.listed_classes  # noqa: B018 - reads the list of classes, where there is one
    except (ConfigError, DataError) as error:
        return Report(subject, 0, 0, (_refused("class names", error),))
    findings: list[Finding] = []
    listings = list(_listings(dataset, findings))
    findings += check_listings(listings, class_names)
    names: dict[Path, VideoItem] = {}
    uses: dict[Path, list[Use]] = defaultdict(list)
    for listing in listings:
        for item in listing.items:
            names.setdefault(item.path, item)
            uses[item.path].append(Use(listing.name, listing.part, listing.split, item.label))
    files = {path: File(item.id, tuple(uses[path]), item.frames) for path, item in names.items()}
    index = FileIndex(dataset.root)
    decoded, of_files = check_files(files, index, decode=decode, frames=frames, workers=workers, progress=progress)
    return Report(subject, len(files), decoded, (*findings, *of_files))


def check_folder(
    root: Path, *, decode: bool = False, frames: int = 8, workers: int | None = None, progress: bool = True
) -> Report:
    """Looks at every video file below a folder, or where there is none at all frames; see `check`.

    Raises:
        DataError: If the folder does not exist or holds no video.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder that holds the videos")
    index = FileIndex(root)
    names = sorted(index.named(root, VIDEO_EXTENSIONS))
    files = {root / name: File(name) for name in names} or {
        path: File(name) for name, path in sorted(frame_places(root))
    }
    if not files:
        raise DataError(f"{root} holds no video; looked for {', '.join(VIDEO_EXTENSIONS)} and folders of frames")
    decoded, of_files = check_files(files, index, decode=decode, frames=frames, workers=workers, progress=progress)
    return Report(str(root), len(files), decoded, tuple(of_files))


def check_lists(lists: Sequence[Path], labels: Path) -> Report:
    """Looks at lists of `name label` lines and the class names that go with them, without any video.

    What a list is for is told by its name: one with `train` in it trains, others test; `val2` and `train2` belong to
    split 2; `few_shot_16` promises 16 videos of each class.

    Args:
        lists: Files, or folders of `*.txt` files.
        labels: CSV file with the columns `id` and `name`.

    Raises:
        ConfigError: If there is no list.
        DataError: If the class names cannot be read.
    """
    class_names = _read_labels(labels)
    paths = [path for given in lists for path in (sorted(given.glob("*.txt")) if given.is_dir() else [given])]
    if not paths:
        raise ConfigError(f"no list in {', '.join(map(str, lists)) or 'nothing'}; give *.txt files or their folder")
    findings: list[Finding] = []
    listings = []
    for path in paths:
        try:
            listings.append(_listing(path, class_names))
        except DataError as error:
            findings.append(_refused(str(path), error))
    findings += check_listings(listings, class_names)
    videos = {item.id for listing in listings for item in listing.items}
    return Report(f"{len(paths)} lists with the names of {labels}", len(videos), 0, tuple(findings))


def _listings(dataset: VideoDataset, findings: list[Finding]) -> Iterator[Listing]:
    """The lists that can be read; those that cannot are findings."""
    spec = dataset.spec
    counts = spec.counts or {}
    if dataset.splits_dir is not None:
        yield from _configured(dataset, findings)
    for part in get_args(Part):
        for split in range(1, spec.splits + 1):
            name = f"{part} split {split}" if spec.splits > 1 else part
            try:
                items = dataset.listed(part, split)
            except DataError as error:
                if dataset.splits_dir is None:
                    findings.append(_refused(name, error))
                continue
            labels = spec.labels("all", split if part == "test" else None)
            if items:
                yield Listing(name, part, items, split, counts.get((part, split)), labels)


def _configured(dataset: VideoDataset, findings: list[Finding]) -> Iterator[Listing]:
    """The configured training and test lists, which are published ones."""
    parts: tuple[Part, Part] = ("train", "test")
    for part in parts:
        subset = dataset.train_subset if part == "train" else dataset.test_subset
        try:
            videos, name = dataset.videos(part), dataset.list_name(part)
        except (ConfigError, DataError) as error:
            findings.append(_refused(f"{part} list", error))
            continue
        labels = (dataset.train_classes if part == "train" else dataset.test_classes).labels
        items = [item.relabelled(labels[item.label]) for item in videos]
        whole = subset.classes == "all" and subset.shots is None and dataset.class_list is None
        count = (dataset.spec.counts or {}).get((part, subset.split)) if whole else None
        if "altered" in name:
            text = "it is not the published list of that name; fetch it again, or call it by another name"
            findings.append(Finding("warning", "altered", name, text))
        yield Listing(name, part, items, subset.split, count, labels, subset.shots if part == "train" else None)


def _listing(path: Path, class_names: Sequence[str]) -> Listing:
    split = re.search(r"(?:train|val|test|split)(\d+)", path.stem)
    shots = re.search(r"few_shot_(\d+)", path.stem)
    return Listing(
        str(path),
        "train" if "train" in path.stem else "test",
        read_path_label(path, path.parent, class_names=class_names),
        split=int(split[1]) if split else None,
        shots=int(shots[1]) if shots else None,
    )


def _read_labels(path: Path) -> tuple[str, ...]:
    rows = [
        (listed_label(where, label, None), name) for where, (label, name) in NamedColumns(path).rows(("id",), ("name",))
    ]
    names = tuple(name for _, name in sorted(rows))
    if (
        [label for label, _ in sorted(rows)] != list(range(len(rows)))
        or len(set(names)) != len(names)
        or not all(names)
        or not names
    ):
        raise DataError(f"{path}: ids or names are missing or come twice; allowed: ids 0, 1, .. with a name each")
    return names


def _refused(where: str, error: Exception) -> Finding:
    return Finding("error", "list", where, " ".join(str(error).split()))
