"""What a bank of features tells of its dataset: training videos that are tested, by id, by content and by features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, get_args

from vlbench.bank.bank import FeatureBank
from vlbench.datasets import DATASETS
from vlbench.datasets.frames import is_there
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.specs import Part, Stored, VideoItem
from vlbench.errors import ConfigError, DataError
from vlbench.names import one_line
from vlbench.tools.doctor.file_checks import File, Use, check_files
from vlbench.tools.doctor.findings import Finding, Pair, Report
from vlbench.tools.doctor.list_checks import Listing, check_listings
from vlbench.tools.doctor.near_duplicates import Whitening, similar_videos

MOST_PAIRS = 500
"""Pairs by features that are listed of a split."""


def check_bank(
    bank: FeatureBank,
    *,
    root: Path | None = None,
    threshold: float,
    decode: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[Report, dict[str, VideoItem]]:
    """Looks for training videos that are tested: equal ids, equal files, and videos alike by their features.

    Args:
        bank: Bank of a dataset's features.
        root: Folder of the videos; that of the configuration the bank was made with by default.
        threshold: Least similarity of a pair by features, up to 1.
        decode: Decode every video that is there from start to end, see `check`.
        workers: Processes that decode; 0 for this one, `None` for one a core.
        progress: Whether to show progress bars.

    Returns:
        The report, and the videos whose files are there, by their ids.

    Raises:
        DataError: If the features are not finite.
    """
    facts = bank.facts
    listings = list(_listings(bank))
    findings = list(check_listings(listings, facts.spec.class_names))
    if bank.failures:
        text = f"{len(bank.failures)} videos could not be read when the bank was made and are not compared"
        findings.append(Finding("note", "unread", str(bank.folder), text, tuple(bank.failures)))
    videos, folder, why = _videos(bank, listings, root)
    if why:
        findings.append(Finding("note", "not_compared", str(bank.folder), why))
    uses: dict[Path, list[Use]] = defaultdict(list)
    for listing in listings:
        for item in listing.items:
            if item.id in videos:
                uses[videos[item.id].path].append(Use(listing.name, listing.part, listing.split, item.label))
    names = {item.path: video for video, item in reversed(videos.items())}
    files = {path: File(names[path], tuple(uses[path])) for path in uses}
    decoded, of_files = check_files(
        files, FileIndex(folder), decode=decode, frames=facts.frames, workers=workers, progress=progress
    )
    findings += of_files
    pairs = list(_equal(listings, of_files))
    similar = list(_similar(bank, listings, threshold, {(pair.train, pair.test) for pair in pairs}, findings))
    report = Report(
        f"bank {bank.folder} of {facts.dataset['label']}", len(facts.ids()), decoded, tuple(findings),
        (*pairs, *similar),
    )  # fmt: skip
    return report, videos


def _listings(bank: FeatureBank) -> Iterator[Listing]:
    spec = bank.facts.spec
    for part, split in product(get_args(Part), range(1, spec.splits + 1)):
        items = bank.videos(part, split)
        if items is not None:
            labels = spec.labels("all", split if part == "test" else None)
            yield Listing(f"{part}/{split}", part, items, split, None, labels)


def _sides(listings: Iterable[Listing]) -> Iterator[tuple[Listing, Listing]]:
    """A training list with each list of its split that is not trained on."""
    for train, other in product(listings, listings):
        if train.part == "train" and other.part != "train" and train.split == other.split:
            yield train, other


def _equal(listings: list[Listing], of_files: Iterable[Finding]) -> Iterator[Pair]:
    """Pairs of one id, and of two files with the same content."""
    seen = set()
    for train, test in _sides(listings):
        trained, tested = ({item.id for item in listing.items} for listing in (train, test))
        same = [(video, video) for video in sorted(trained & tested)]
        groups = [finding.videos for finding in of_files if finding.code == "duplicate"]
        equal = [pair for group in groups for pair in product(sorted(trained & {*group}), sorted(tested & {*group}))]
        for one, other in (*same, *equal):
            if (one, other) not in seen:
                seen.add((one, other))
                yield Pair("id" if one == other else "content", one, other, 1.0)


def _similar(
    bank: FeatureBank,
    listings: list[Listing],
    threshold: float,
    known: set[tuple[str, str]],
    findings: list[Finding],
) -> Iterator[Pair]:
    """Pairs alike by their features, each with a finding."""
    ids = {listing.name: [item.id for item in listing.items if item.id not in bank.failures] for listing in listings}
    sides = [(train, test) for train, test in _sides(listings) if ids[train.name] and ids[test.name]]
    if not sides:
        readable = ", ".join(name for name in ids if ids[name]) or "no list"
        text = f"features: it has readable videos of {readable}, and of no training list and test list of one split"
        findings.append(Finding("note", "not_compared", str(bank.folder), text))
        return
    whitening = Whitening(
        bank, list(dict.fromkeys(video for side in sides for each in side for video in ids[each.name]))
    )
    for train, test in sides:
        similar = similar_videos(whitening, ids[train.name], ids[test.name], threshold, MOST_PAIRS, known)
        for one, other, score in similar.pairs:
            text = f"{score:.3f} like {one} of {train.name} by features; look at both, and remove one if they are one"
            findings.append(Finding("warning", "similar", other, text, (one, other)))
            known.add((one, other))
            yield Pair("features", one, other, score)
        if similar.total > len(similar.pairs):
            more = similar.total - len(similar.pairs)
            text = f"{more:,} more pairs with {train.name} reach {threshold:g}; raise --similar"
            findings.append(Finding("warning", "similar", test.name, text))


def _videos(
    bank: FeatureBank, listings: Iterable[Listing], root: Path | None
) -> tuple[dict[str, VideoItem], Path, str]:
    """Videos of a bank whose files are there, the folder of the dataset, and why others are not among them."""
    facts = bank.facts.dataset
    given = root if root is not None else _made_of(bank.made_by)
    cls = DATASETS.get(facts["class"])
    if cls is None:
        return {}, bank.folder, f"files: vlbench does not know the dataset {one_line(str(facts['class']))}"
    stored: Stored = "frames" if bank.facts.settings["views"].get("loading.backend") == "rawframes" else "videos"
    dataset = cls(None if given is None else str(given), facts["variant"], stored=stored)
    way_out = f"give the folder of the videos by --root DIR in place of {dataset.root}"
    wanted = [video for video in bank.facts.ids() if video not in bank.failures]
    listed: dict[str, VideoItem] = {}
    for listing in listings:
        try:
            listed |= {item.id: item for item in dataset.listed(listing.part, listing.split or 1)}
        except (ConfigError, DataError, OSError) as error:
            return {}, dataset.root, f"files: {one_line(str(error)).split('; ')[0]}; {way_out}"
    videos = {video: listed[video] for video in wanted if video in listed and is_there(listed[video].path)}
    missing = len(wanted) - len(videos)
    why = f"files: those of {missing:,} of {len(wanted):,} videos are not there; {way_out}"
    return videos, dataset.root, why if missing else ""


def _made_of(made_by: Mapping[str, Any]) -> Path | None:
    """The folder of the videos that the command was given that made a bank."""
    try:
        return Path(made_by["arguments"]["configuration"]["data"]["init_args"]["root"])
    except (KeyError, TypeError):  # none was given
        return None
