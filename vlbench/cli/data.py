"""`vlbench data`. torch is imported only where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vlbench.errors import ConfigError, DataError
from vlbench.ranges import FRAMES, PROCESSES, Range

_SIMILARITIES = Range(0, 1, above=True)
"""Similarities from which videos may be reported: of those that have nothing in common it is about 0."""


def list_datasets() -> int:
    """List the datasets: variants, classes, official splits, where they come from.

    Returns:
        0.
    """
    from vlbench.cli.datasets import variants_of
    from vlbench.datasets import DATASETS

    console = Console(highlight=False)
    for name in DATASETS:
        console.print(f"[bold]{name}[/]")
        if name == "FolderVideos":
            console.print("  your own: class folders, or lists, below train/ and test/", markup=False)
            continue
        variants = [(label, dataset.facts) for label, dataset in variants_of(name)]
        for label, spec in variants:
            classes = len(spec.split_classes[1]) if spec.split_classes else spec.num_classes
            tested = ", ".join(f"{n:,}" for (part, _), n in (spec.counts or {}).items() if part == "test")
            facts = f"{classes} classes, {spec.splits} split{'s' * (spec.splits > 1)}"
            console.print(f"  {label:20} {facts}, test videos: {tested or 'not stated'}", soft_wrap=True)
        origins = dict.fromkeys((spec.licence, spec.source) for _, spec in variants)
        for licence, source in origins:
            console.print(f"  licence: {licence}\n  source:  {source}", soft_wrap=True, markup=False)
    return 0


def describe_dataset(dataset: str) -> int:
    """Print what vlbench knows of a dataset, its classes included.

    Args:
        dataset: Name, such as ucf101 or HMDB51.

    Returns:
        0.
    """
    from vlbench.cli.datasets import variants_of

    console = Console(highlight=False)
    for label, variant in variants_of(dataset):
        try:
            spec = variant.spec
        except DataError:  # the file with the class names is not there
            spec = variant.facts
        base = set(spec.base_classes)
        counts = ", ".join(f"{part} {split}: {n:,}" for (part, split), n in (spec.counts or {}).items())
        lines = [
            f"[bold]{label}[/]",
            f"classes       {spec.num_classes}{spec.names_file and f', named by {spec.names_file} below the root'}",
            f"base/novel    {f'{len(base)} base classes, marked *' if base else 'by frequency in the training list'}",
            f"splits        {spec.splits}",
            f"videos        {counts or 'not stated'}",
            f"mirrored      {'never: a mirrored video can be of another class' if spec.directional else 'in training'}",
            f"descriptions  {'shipped' if spec.descriptions else 'none shipped; see `vlbench describe`'}",
            f"licence       {spec.licence}",
            f"source        {spec.source}",
            "",
            *(f"{i:4} {'*' if i in base else ' '} {name}" for i, name in enumerate(spec.class_names)),
            "",
        ]
        for line in lines:
            console.print(line, soft_wrap=True, markup=line.startswith("[bold]"))
    return 0


def check(
    config: Sequence[str] = (),
    root: Path | None = None,
    lists: list[Path] | None = None,
    labels: Path | None = None,
    bank: Path | None = None,
    similar: float = 0.78,
    decode: bool = False,
    frames: int = 8,
    workers: int | None = None,
    report: Path | None = None,
    html: Path | None = None,
) -> int:
    """Look at a dataset before anything is trained on it: lists, names, duplicates, and with --decode every video.

    Args:
        config: Configurations of a dataset by name, such as data/hmdb51.yaml.
        root: Any folder of videos, instead; with bank, the folder of the bank's videos where it is another one now.
        lists: Published list files, or folders of them, instead; needs labels.
        labels: CSV with the columns id and name that says what the labels in those lists mean.
        bank: Folder of a bank of features, instead: training videos that are tested, by id, content and features.
        similar: Similarity by features from which two videos of a bank are reported; 1 is that of equal features.
        decode: Decode every video from start to end.
        frames: Number of frames that clips will have.
        workers: Processes that decode; one a core by default.
        report: JSON file to write.
        html: Page to write of the pairs of videos that a bank has, with frames of both; it loads nothing.

    Returns:
        1 if an error was found, otherwise 0.
    """
    folder = root if bank is None else None
    sources = (config or None, folder, lists, bank)
    if sum(given is not None for given in sources) != 1 or (lists is None) != (labels is None):
        raise ConfigError(
            "give one of --config NAME, --root DIR, --lists FILE with --labels CSV, or --bank DIR, which may have the"
            " --root DIR of its videos"
        )
    if html is not None and bank is None:
        raise ConfigError(f"html is {html} and there is no bank; give --bank DIR, or --report FILE for the findings")
    _SIMILARITIES.check("similar", similar)
    FRAMES.check("frames", frames)
    PROCESSES.check("workers", workers, "one a core")
    from vlbench.cli.datasets import dataset_of

    dataset = dataset_of(config) if config else None
    # Only now: it imports torch, which a wrong command line should not wait for.
    from vlbench.tools import doctor

    if bank is not None:
        from vlbench.cli.banks import check_bank

        return check_bank(bank, root, similar, decode, workers, report, html)
    if dataset is not None:
        findings = doctor.check(dataset, decode=decode, frames=frames, workers=workers)
    elif root is not None:
        findings = doctor.check_folder(root, decode=decode, frames=frames, workers=workers)
    else:
        assert lists is not None
        assert labels is not None
        findings = doctor.check_lists(lists, labels)
    findings.print(Console())
    if report is not None:
        findings.write(report)
    return findings.exit_code


def prepare(root: Path, out: Path, resize: int = 256, workers: int | None = None, report: Path | None = None) -> int:
    """Copy a dataset with every video resized, for faster reading; a second run goes on where the first ended.

    Args:
        root: Folder of the dataset.
        out: Folder of the copy; it gets the same files under the same names.
        resize: Short side, in pixels.
        workers: Processes; one a core by default.
        report: JSON file to write.

    Returns:
        1 if a video could not be resized and was copied as it is, otherwise 0.
    """
    from vlbench.tools.prepare import prepare as copy_resized

    findings = copy_resized(root, out, resize=resize, workers=workers)
    findings.print(Console())
    if report is not None:
        findings.write(report)
    return findings.exit_code


def subset(out: Path, config: Sequence[str], videos: int = 2, seed: int = 0) -> int:
    """Copy a few videos of every class, for a quick check in CI; FolderVideos reads the copy.

    Args:
        out: Folder of the copy.
        config: Configurations of the dataset by name, such as data/ucf101.yaml.
        videos: Videos of each class and part.
        seed: Seed of the choice.

    Returns:
        0.
    """
    from vlbench.cli.datasets import dataset_of

    dataset = dataset_of(config)
    # Only now: it imports torch, which a wrong configuration should not wait for.
    from vlbench.tools.prepare import subset as copy_some

    copy_some(dataset, out, videos=videos, seed=seed)
    return 0


def unpack(source: Path, out: Path, classes: Path | None = None) -> int:
    """Write the videos of parquet files or webdataset shards to a folder that FolderVideos reads, with lists.

    Args:
        source: Folder of parquet files with columns video and label, or of tars with KEY.mp4 and KEY.cls or KEY.json.
        out: Folder of the videos; a second run goes on where the first ended.
        classes: File with a class a line in the order of the numbers, where labels are numbers without names.

    Returns:
        0.
    """
    from vlbench.tools.unpack import unpack as write_videos

    counts = write_videos(source, out, classes=classes)
    Console().print(f"{out}: " + ", ".join(f"{number} {part} videos" for part, number in counts.items()), markup=False)
    return 0


def synth(folder: Path, sets: list[str] | None = None, workers: int | None = None) -> int:
    """Render the synthetic dataset to mp4 files; files that exist are kept.

    Args:
        folder: Folder of the rendered sets; it becomes the `root` of SyntheticActions.
        sets: Which of shapes-s, shapes-k and shapes-u; all by default.
        workers: Processes; one a core by default.

    Returns:
        0.
    """
    from vlbench.synthetic.classes import SETS
    from vlbench.synthetic.generate import render_dataset

    render_dataset(folder, sets=tuple(sets or SETS), workers=workers)
    return 0
