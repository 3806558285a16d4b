"""The lists the field compares on, found by name in one folder.

Layout of the folder, `<ds>` being `DatasetSpec.lists`:

- `<ds>_splits/train1_few_shot_<K>.txt`: K training videos of each class, of the first split.
- `<ds>_splits/val<i>.txt` (HMDB-51, UCF-101), `validation.txt` (Something-Something), `val.txt` (Kinetics-400),
  `ZS_split<i>_K600_eval.txt` (Kinetics-600): test split i; the last holds 160 classes and counts within them.
- `base2novel_splits/<ds>_splits/fs_base_s<seed>_train.txt`: 16 training videos of each base class; `base_train.txt`:
  all of them; `base_val.txt` and `novel_val.txt`: the halves of test split 1. They count within their half, in an order
  of their own, which the test list of all classes explains: it has the same videos under the dataset's labels.

A line is `name label`. Folders and extensions are a matter of how a copy of the videos is kept; a list is the same list
whatever they are, so names are compared by their stem.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.specs import VIDEO_EXTENSIONS, DatasetSpec, Part, Subset, VideoItem
from vlbench.errors import ConfigError, DataError
from vlbench.files import stays_below

_KNOWN = Path(__file__).parents[1] / "assets" / "published.json"
_TEST = {
    "hmdb": "val{split}",
    "ucf": "val{split}",
    "ssv2": "validation",
    "k400": "val",
    "k600": "ZS_split{split}_K600_eval",
}
_HALF_SHOTS = 16  # of every published base-to-novel training list


@dataclass(frozen=True)
class PublishedList:
    """A list as it was read.

    Attributes:
        name: What records call it: `vifi/val1 (verified)` where the content is the published one; otherwise
            `val1 (altered, 1f0c6d2e)` with the start of its digest, or `.. (unknown, ..)` if vlbench knows no list of
            that name.
        items: Paths and ids as the list has them, labels of the whole dataset.
    """

    name: str
    items: tuple[VideoItem, ...]


class PublishedLists:
    """The lists of one dataset in a folder; each file is read once.

    Args:
        folder: Folder of the published lists.
        spec: Specification of the dataset.
    """

    def __init__(self, folder: Path, spec: DatasetSpec) -> None:
        self.folder = folder
        self.spec = spec
        self._read: dict[Path, list[VideoItem]] = {}

    def find(self, part: Part, subset: Subset) -> Path | None:
        """The list of a subset; `None` for all videos of a training part that has no list of its own.

        Few-shot lists of all classes have no seed: `subset.seed` does not matter there.

        Args:
            part: Part of the dataset, `train` or `test`.
            subset: Subset that the list is for.

        Raises:
            ConfigError: If there is no such list.
        """
        if not self.folder.is_dir():
            raise ConfigError(f"data.splits_dir is {self.folder}, which is no folder; give the one that holds *_splits")
        name = _file_name(self.spec.lists, part, subset)
        if name and (self.folder / name).is_file():
            return self.folder / name
        if part == "train" and subset.shots is None:
            return None
        raise ConfigError(
            f"{self.spec.name}: no published {part} list has classes {subset.classes}, shots {subset.shots}, split"
            f" {subset.split}, seed {subset.seed}"
            + (f" (there is no {name})" if name else "")
            + f"; {self.folder} has for this dataset: {', '.join(self._present()) or 'nothing'}; choose one of these"
            f" subsets (the base-to-novel lists: shots {_HALF_SHOTS}, seeds 1 to 3), or leave data.splits_dir out to"
            " draw lists"
        )

    def read(self, path: Path, part: Part, subset: Subset) -> PublishedList:
        """Reads a list that `find` found and gives it the dataset's labels.

        Raises:
            ConfigError: If the list that explains the labels is missing.
            DataError: If the list cannot be read (see `read_path_label`) or its labels cannot be explained.
        """
        if subset.classes == "all":
            labels = self.spec.labels("all", subset.split if part == "test" else None)
        else:
            labels = self._half_labels(path.with_name(f"{subset.classes}_val.txt"), subset)
        listed = self._listed(path, len(labels))
        items = tuple(item.relabelled(labels[item.label]) for item in listed)
        return PublishedList(_name(path.relative_to(self.folder), content_digest(listed)), items)

    def _present(self) -> list[str]:
        lists = self.spec.lists
        places = (f"{lists}_splits", f"base2novel_splits/{lists}_splits") if lists else ()
        return [
            path.relative_to(self.folder).as_posix()
            for place in places
            for path in sorted((self.folder / place).glob("*.txt"))
        ]

    def _half_labels(self, half: Path, subset: Subset) -> tuple[int, ...]:
        """The dataset's label of each label that the lists of one half use."""
        whole = self.find("test", Subset())
        assert whole is not None, "a test list is found or refused"
        label_of = {_stem(item): item.label for item in self._listed(whole, len(self.spec.class_names))}
        labels = self.spec.labels(subset.classes)
        label_of_position: dict[int, int] = {}
        for item in self._listed(half, len(labels)):
            label = label_of.get(_stem(item))
            if label is None or label_of_position.setdefault(item.label, label) != label:
                raise DataError(f"{half}: {item.id!r} contradicts {whole}; take both from one source")
        if sorted(label_of_position.values()) != list(labels):
            strange = sorted(set(label_of_position.values()) ^ set(labels))
            raise DataError(
                f"{half} holds other classes than {self.spec.name}'s {subset.classes} half;"
                f" in one of them only: {', '.join(self.spec.class_names[label] for label in strange[:5])}"
            )
        return tuple(label_of_position[position] for position in range(len(labels)))

    def _listed(self, path: Path, num_classes: int) -> list[VideoItem]:
        """The entries of a list under its own labels."""
        if path not in self._read:
            items = read_path_label(path, path.parent, class_names=[str(label) for label in range(num_classes)])
            first: dict[str, str] = {}
            for item in items:
                if first.setdefault(_stem(item), item.id) != item.id:
                    raise DataError(f"{path}: {first[_stem(item)]!r} and {item.id!r} are one video; keep one")
            self._read[path] = items
        return self._read[path]


def content_digest(listed: Iterable[VideoItem]) -> str:
    """32 hexadecimal characters for the stems and labels of a list, in its order."""
    digest = hashlib.blake2b(digest_size=16)
    for item in listed:
        digest.update(f"{_stem(item)} {item.label}\n".encode())
    return digest.hexdigest()


@cache
def known_digests() -> Mapping[str, Mapping[str, str]]:
    """Digests of the published lists that vlbench knows, by lineage and by path below the folder of lists."""
    known: dict[str, dict[str, str]] = json.loads(_KNOWN.read_text())
    return known


class VideoFiles:
    """Video files below a folder by stem, wherever they are.

    Args:
        folder: Folder below which the videos are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate(self, official: str, stems: Sequence[str]) -> Path:
        """The file of a video; the official place where there is none, so that it counts as unreadable.

        Args:
            official: Path below the folder.
            stems: Names, without extension, that the file may have anywhere below the folder; the first found counts.

        Raises:
            DataError: If two files have the name, or the official path leaves the folder.
        """
        check_below(self.folder, official)
        for stem in stems:
            matches = self._by_stem.get(stem, [])
            if len(matches) == 1:
                return matches[0][0] / matches[0][1]
            if matches:
                paths = [folder / name for folder, name in matches]
                if self.folder / official in paths:
                    break
                raise DataError(f"{stem!r} is {paths[0]} or {paths[1]}; keep one of them below {self.folder}")
        return self.folder / official

    def find(self, item: VideoItem) -> VideoItem:
        """The same video at the place where it is kept; videos are where their list says.

        Args:
            item: Video of a list.
        """
        return item

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[Path, str]]]:
        by_stem: dict[str, list[tuple[Path, str]]] = defaultdict(list)
        index = FileIndex(self.folder)
        for folder, names in index.walk(self.folder) if self.folder.is_dir() else ():
            for name in names:
                stem, extension = os.path.splitext(name)  # noqa: PTH122 - a Path for each file is slow
                if extension.lower() in VIDEO_EXTENSIONS:
                    by_stem[stem].append((folder, name))
        index.save()
        return by_stem


def check_below(folder: Path, official: str) -> None:
    """Whether a video of a list lies below the folder of the videos.

    Args:
        folder: Folder of the videos.
        official: Path of a video below it, as a list has it.

    Raises:
        DataError: If the path leaves the folder.
    """
    if not stays_below(official):
        raise DataError(f"video {official!r}; allowed: a path below {folder}; use the released list")


def check_names(listed: PublishedList, label_of: Callable[[str], int | None], class_names: Sequence[str]) -> None:
    """Whether the labels agree with what the file names say.

    Args:
        listed: List whose labels are checked.
        label_of: Label that a file name states, `None` where it states none.
        class_names: Class names of the dataset.

    Raises:
        DataError: Naming the first video that is listed under another class.
    """
    for item in listed.items:
        stated = label_of(item.id)
        if stated not in (None, item.label):
            raise DataError(
                f"{listed.name}: {item.id!r} is listed under {class_names[item.label]!r}, its name says"
                f" {class_names[stated]!r}; does the list count in another order of classes?"
            )


def _file_name(lists: str, part: Part, subset: Subset) -> str | None:
    """Path of a subset's list below the folder, `None` where the layout has no place for it."""
    half, shots, split = subset.classes, subset.shots, subset.split
    if not lists or (part == "train" and half == "all" and shots is None):
        return None
    if half == "all":
        name = _TEST[lists].format(split=split) if part == "test" else f"train{split}_few_shot_{shots}"
        return f"{lists}_splits/{name}.txt"
    if split != 1 or (part == "train" and shots not in (None, _HALF_SHOTS)):
        return None
    train = f"{half}_train" if shots is None else f"fs_{half}_s{subset.seed}_train"
    return f"base2novel_splits/{lists}_splits/{train if part == 'train' else f'{half}_val'}.txt"


def _stem(item: VideoItem) -> str:
    """File name without folder and extension; lists are long and `PurePosixPath.stem` is slow."""
    name = item.id.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _name(relative: Path, digest: str) -> str:
    known = {lineage: digests.get(relative.as_posix()) for lineage, digests in known_digests().items()}
    for lineage, published in known.items():
        if published == digest:
            return f"{lineage}/{relative.stem} (verified)"
    return f"{relative.stem} ({'altered' if any(known.values()) else 'unknown'}, {digest[:8]})"
