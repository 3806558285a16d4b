"""What lists of videos tell without looking at a video: names, counts, overlaps."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import PurePosixPath

from vlbench.datasets.specs import Part, VideoItem
from vlbench.datasets.ucf101_names import class_of_video
from vlbench.tools.doctor.findings import Finding


@dataclass(frozen=True)
class Listing:
    """One list of videos.

    Attributes:
        name: What findings call it.
        part: What it is for.
        items: Videos of the list.
        split: Number of the split it belongs to, `None` where there are none.
        count: Number of videos the list should have, where known.
        labels: Labels it should have videos of; `None` for all of the dataset's.
        shots: Videos it should have of each label, where known.
    """

    name: str
    part: Part
    items: Sequence[VideoItem]
    split: int | None = None
    count: int | None = None
    labels: tuple[int, ...] | None = None
    shots: int | None = None


def check_listings(listings: Sequence[Listing], class_names: Sequence[str]) -> Iterator[Finding]:
    """Everything about some lists of one dataset.

    Args:
        listings: Lists whose labels count in `class_names`.
        class_names: Class names in label order.
    """
    yield from _wording(class_names)
    yield from _names(listings, class_names)
    for listing in listings:
        yield from _counts(listing, class_names)
    yield from _overlaps(listings)
    yield from _copies(listings)


def label_in_path(video_id: str, labels: Mapping[str, int]) -> int | None:
    """The label that a video's file name states, or else its folder; `None` where neither does.

    Knows the file names of UCF-101 (`v_<class>_g01_c01.avi`) and HMDB-51 (`<title>_<class>_<six fields>.avi`).

    Args:
        video_id: File name, with or without folders.
        labels: Labels by class name, names reduced by `plain`.
    """
    path = PurePosixPath(video_id)
    ucf = class_of_video(path.name)
    if ucf is not None:
        return labels.get(plain(ucf))
    *title, _body, _camera, people, _view, _quality, _number = ("", "", "", "", "", "", *path.stem.split("_"))
    if re.fullmatch(r"np\d", people):
        # The longest ending of the title: "..._draw_sword" shows draw sword and not sword.
        endings = (plain("".join(title[start:])) for start in range(len(title)))
        return next((labels[ending] for ending in endings if ending in labels), None)
    return labels.get(plain(path.parent.name))


def plain(name: str) -> str:
    """A class name without case, spaces and signs, so that spellings of one class are equal."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _wording(class_names: Sequence[str]) -> Iterator[Finding]:
    joined = [name for name in class_names if re.search(r"[a-z][A-Z]", name) and " " not in name]
    if 2 * len(joined) > len(class_names):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", joined[0])
        yield Finding(
            "note",
            "wording",
            "class names",
            f"{len(joined)} of {len(class_names)} are CamelCase ({joined[0]!r}); text features differ from those of"
            f" words ({words!r}): say beside every number which were used",
        )


def _names(listings: Sequence[Listing], class_names: Sequence[str]) -> Iterator[Finding]:
    """Labels and videos that go by another class's name than the file names state."""
    labels = {plain(name): label for label, name in enumerate(class_names)}
    stated: dict[int, Counter[int]] = defaultdict(Counter)
    contradicting: dict[str, list[str]] = defaultdict(list)
    for listing in listings:
        for item in listing.items:
            label = label_in_path(item.id, labels)
            if label is not None:
                stated[item.label][label] += 1
            if label not in (None, item.label):
                contradicting[listing.name].append(item.id)
    yield from _misnamed({label: votes.most_common(1)[0][0] for label, votes in stated.items()}, class_names)
    for listing in listings:
        ids = contradicting[listing.name]
        if ids:
            yield Finding(
                "error",
                "mislabelled",
                listing.name,
                f"{len(ids)} of {len(listing.items)} videos carry the name of another class than their file names"
                f" state, such as {ids[0]}; mend the class names or the labels",
                tuple(ids),
            )


def _misnamed(stated: Mapping[int, int], class_names: Sequence[str]) -> Iterator[Finding]:
    """Labels most of whose videos are of another class; `stated` says which."""
    for label, other in sorted(stated.items()):
        named, truth = class_names[label], class_names[other]
        if label == other or (stated.get(other) == label and other < label):
            continue
        if stated.get(other) == label:
            yield Finding(
                "error",
                "swapped",
                f"labels {label} and {other}",
                f"{named!r} and {truth!r} are swapped: the videos of label {label} are of {truth!r}, those of {other}"
                f" of {named!r}; swap the two class names",
            )
        else:
            yield Finding(
                "error",
                "misnamed",
                f"label {label}",
                f"it is called {named!r}, its videos are of {truth!r}; put the class names in the order of the labels",
            )


def _counts(listing: Listing, class_names: Sequence[str]) -> Iterator[Finding]:
    if listing.count is not None and len(listing.items) != listing.count:
        yield Finding(
            "error",
            "count",
            listing.name,
            f"{len(listing.items)} videos where {listing.count} are expected; numbers on another set of videos cannot"
            " be compared: fetch the list again, or choose the variant that it belongs to",
        )
    each = ((item.label,) if item.labels is None else item.labels for item in listing.items)
    counts = Counter(label for labels in each for label in labels)
    absent = [label for label in listing.labels or range(len(class_names)) if not counts[label]]
    if absent:
        yield Finding(
            "warning",
            "no_videos",
            listing.name,
            f"{len(absent)} classes have no video, such as {class_names[absent[0]]!r}; complete the list",
        )
    uneven = [label for label in sorted(counts) if listing.shots not in (None, counts[label])]
    if uneven:
        yield Finding(
            "error",
            "shots",
            listing.name,
            f"{len(uneven)} classes do not have {listing.shots} videos, such as {class_names[uneven[0]]!r} with"
            f" {counts[uneven[0]]}; fetch the list again",
        )


def _overlaps(listings: Sequence[Listing]) -> Iterator[Finding]:
    """Training videos that are tested: an error within one split, something to know between two."""
    ids = {listing.name: {item.id for item in listing.items} for listing in listings}
    training = [listing for listing in listings if listing.part == "train"]
    for train, test in product(training, [listing for listing in listings if listing.part != "train"]):
        shared = tuple(sorted(ids[train.name] & ids[test.name]))
        if not shared:
            continue
        facts = f"{len(shared)} of {len(train.items)} videos are also in {test.name}, such as {shared[0]}"
        if train.split == test.split or None in (train.split, test.split):
            yield Finding("error", "overlap", train.name, f"{facts}; remove them from one of the lists", shared)
        else:
            way_out = f"evaluate what was trained on this list on split {train.split} only"
            yield Finding("warning", "overlap", train.name, f"{facts}; {way_out}", shared)


def _copies(listings: Sequence[Listing]) -> Iterator[Finding]:
    content = {listing.name: {(item.id, item.label) for item in listing.items} for listing in listings}
    for one, other in combinations(listings, 2):
        if one.part == other.part and content[one.name] == content[other.name]:
            yield Finding(
                "warning",
                "same_list",
                other.name,
                f"it has the videos of {one.name}; runs on both are one draw and not two: no spread can be told from"
                " them",
            )
