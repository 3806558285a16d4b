"""`vlbench features`. torch is imported only where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console

from vlbench.bank.facts import DType
from vlbench.datasets.specs import Part
from vlbench.errors import ConfigError
from vlbench.files import check_writable, write_atomically
from vlbench.ranges import COUNTS, JOBS, SEEDS, Range


def features(
    config: Sequence[str],
    parts: Sequence[Part] = ("train", "test"),
    augmented: int = 0,
    dtype: DType = "float16",
    out: Path = Path("banks"),
    processes: int = 1,
    seed: int = 0,
) -> int:
    """Encode the videos of a dataset once and keep their frame features; a second run goes on where the first ended.

    Args:
        config: Configurations of a dataset and a backbone by name, such as data/hmdb51.yaml backbone/vit_b16.yaml.
        parts: Parts of the dataset that are encoded.
        augmented: Passes of augmented clips of the training part that are kept beside its views.
        dtype: Number format of the features.
        out: Folder for banks; each has a folder below it that is named by what the features depend on.
        processes: Processes of this machine that encode, each on a GPU of its own where there are several.
        seed: Seed of the augmented clips.

    Returns:
        0.
    """
    unknown = [part for part in parts if part not in get_args(Part)]
    if unknown:
        raise ConfigError(f"parts has {unknown[0]}; allowed: {', '.join(get_args(Part))}")
    Range(0, 1_000).check("augmented", augmented)
    JOBS.check("processes", processes)
    SEEDS.check("seed", seed)
    check_writable(out, "out")
    from vlbench.cli.features import make_bank

    make_bank(config, list(dict.fromkeys(parts)), augmented, dtype, out, processes, seed)
    return 0


def verify(folder: Path, root: str | None = None, videos: int = 16, seed: int = 0) -> int:
    """Check a bank: the bytes of its files, its lists, and a random sample of its videos, which are encoded again.

    Args:
        folder: Folder of the bank.
        root: Folder of the videos; that of the configuration the bank was made with by default.
        videos: Number of videos that are encoded again.
        seed: Seed of the sample.

    Returns:
        0 if everything agrees, 1 if something differs, which is named, one line each.
    """
    COUNTS.check("videos", videos)
    SEEDS.check("seed", seed)
    from vlbench.cli.features import check_bank

    return check_bank(folder, root, videos, seed)


def export(folder: Path, out: Path, format: Literal["parquet"] = "parquet") -> int:  # noqa: A002, ARG001 - there is one
    """Write the features of a bank and its lists as tables: features.parquet and videos.parquet, joined by their ids.

    Args:
        folder: Folder of the bank.
        out: Folder that the tables are written to.
        format: Format of the tables; parquet needs pyarrow, the extra parquet.

    Returns:
        0.
    """
    check_writable(out, "out")
    from vlbench.bank.bank import FeatureBank
    from vlbench.bank.parquet import export_parquet

    console = Console()
    for path in export_parquet(FeatureBank(folder), out):
        text = f"{path}, {path.stat().st_size / 2**20:,.1f} MiB"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def check_bank(
    folder: Path,
    root: Path | None,
    similar: float,
    decode: bool,
    workers: int | None,
    report: Path | None,
    html: Path | None,
) -> int:
    """Looks for training videos of a bank that are tested, see `vlbench.cli.data.check`."""
    # Only now: they import torch.
    from vlbench.bank.bank import FeatureBank
    from vlbench.tools import doctor
    from vlbench.tools.doctor.page import to_html

    bank = FeatureBank(folder)
    findings, videos = doctor.check_bank(bank, root=root, threshold=similar, decode=decode, workers=workers)
    findings.print(Console())
    if report is not None:
        findings.write(report)
    if html is not None:
        names = bank.facts.spec.class_names
        listed = (pair for pairs in bank.facts.lists.values() for pair in pairs)
        classes = {str(video): names[label] for video, label in listed}
        write_atomically(html, to_html(findings, videos, classes, workers).encode())
    return findings.exit_code
