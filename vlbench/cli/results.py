"""What is made of records. torch is imported only where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlbench.cli.consoles import console_of_tables
from vlbench.datasets.lists.class_names import read_class_names
from vlbench.datasets.lists.text import lines_of
from vlbench.errors import ConfigError
from vlbench.files import write_atomically
from vlbench.results.leaderboard import leaderboard_rows
from vlbench.results.tables import cell, filled, to_csv, to_latex, to_markdown

_SHOWN = (
    "protocol",
    "dataset",
    "shots",
    "method",
    "options",
    "top1",
    "runs_low",
    "runs_high",
    "top5",
    "map",
    "base",
    "novel",
    "hm",
    "order_score",
    "time_score",
    "runs",
    "videos",
)


# Not named as the command: a parser looks a function's name up in `vlbench`, whose `leaderboard` loads torch.
def print_leaderboard(
    folders: Sequence[Path],
    csv: Path | None = None,
    html: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    svg: Path | None = None,
    allow_dirty: bool = False,
    allow_mixed: bool = False,
) -> int:
    """Make a table of all records below some folders.

    Args:
        folders: Results folders, searched for records.
        csv: File to write, every column; the table is printed in any case.
        html: Page to write, with charts and the published results; it loads nothing from elsewhere.
        markdown: File to write, a table for each set of rows that compare.
        latex: File to write, a tabular for each set of rows that compare.
        svg: Picture to write, accuracy over shots with the interval of the runs.
        allow_dirty: Take records of code that differed from its commit.
        allow_mixed: Take records of different schemas in one table.

    Returns:
        0.
    """
    table = leaderboard_rows(folders, allow_dirty=allow_dirty, allow_mixed=allow_mixed)
    if csv is not None:
        write_atomically(csv, to_csv(table).encode())
    if html is not None:
        from vlbench.results.html import to_html

        write_atomically(html, to_html(table).encode())
    if markdown is not None:
        write_atomically(markdown, to_markdown(table).encode())
    if latex is not None:
        write_atomically(latex, to_latex(table).encode())
    if svg is not None:
        from vlbench.results.svg import to_svg

        write_atomically(svg, to_svg(table).encode())
    shown = filled(table, _SHOWN)
    view = Table(*shown, title="leaderboard" if csv is None else escape(str(csv)))
    for row in table:
        view.add_row(*(escape(cell(row, column)) for column in shown))
    console_of_tables().print(view)
    return 0


def verify(folders: Sequence[Path]) -> int:
    """Recompute what the records and audits below some folders say from the scores beside the records.

    Args:
        folders: Results folders, searched for records.

    Returns:
        0 if every record and audit fits, 1 if something does not, which is named, one line each.
    """
    from vlbench.results.verify import verify as verified

    outcome = verified(folders)
    console = Console()
    for finding in outcome.findings:
        console.print(str(finding), markup=False, highlight=False, soft_wrap=True)
    if outcome.findings:
        wrong = len({finding.path for finding in outcome.findings})
        of = f"{outcome.records} records" + (f" and {outcome.audits} audits" if outcome.audits else "")
        Console(stderr=True).print(f"{wrong} of {of} do not fit", highlight=False)
        return 1
    audits = f" and {outcome.audits} audits" if outcome.audits else ""
    console.print(f"{outcome.records} records{audits} verified", highlight=False)
    return 0


def compare(a: str, b: str, folder: Path = Path("results"), draws: int = 10_000, seed: int = 0) -> int:
    """Say whether two evaluations of the same videos differ by more than chance; from stored scores.

    Args:
        a: Path of a record, or the name of one below FOLDER.
        b: Path of the other record, or its name below FOLDER.
        folder: Results folder in which names are looked up.
        draws: Resampled sets of videos.
        seed: Seed of the resampling.

    Returns:
        0.
    """
    from vlbench.evaluation.statistics import compare as paired
    from vlbench.results.stored import StoredEvaluation

    first, second = (StoredEvaluation.load(name, folder) for name in (a, b))
    if len(first.classes) != len(second.classes):
        raise ConfigError(
            f"{first.name} chooses among {len(first.classes)} classes, {second.name} among {len(second.classes)};"
            " compare evaluations over one number of classes"
        )
    outcome = paired(first.correct(), second.correct(), draws=draws, seed=seed)
    lines = [
        f"A {outcome.top1[0]:6.2f}  {first.name}",
        f"B {outcome.top1[1]:6.2f}  {second.name}",
        f"{outcome.videos:,} videos: {outcome.both:,} right in both, {outcome.only_a:,} only in A,"
        f" {outcome.only_b:,} only in B, {outcome.neither:,} in neither",
        f"B - A = {outcome.difference:+.2f} points, 95 % of {draws:,} resampled test sets in"
        f" [{outcome.low:+.2f}, {outcome.high:+.2f}]",
        f"McNemar's exact test: p = {outcome.p_value:.3g}",
    ]
    if first.classes != second.classes:
        lines.append("the two do not call the classes by the same names")
    for line in lines:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def report(
    record: str,
    folder: Path = Path("results"),
    csv: Path | None = None,
    confusion: Path | None = None,
    html: Path | None = None,
    videos: Path | None = None,
) -> int:
    """Show every class of one evaluation, the worst first; from stored scores.

    Args:
        record: Path of a record, or the name of one below FOLDER.
        folder: Results folder in which names are looked up.
        csv: File to write, a line a class.
        confusion: File to write, the confusion matrix as CSV.
        html: Page to write, with the confusion matrix, classes and confidences; it loads nothing from elsewhere.
        videos: Folder of the dataset, for frames of the most confused videos on the page; needs html.

    Returns:
        0.
    """
    if videos is not None and html is None:
        raise ConfigError(f"videos is {videos} and there is no page to show frames on; give --html FILE too")
    from vlbench.results.report import class_reports, confusion_csv, reports_csv
    from vlbench.results.stored import StoredEvaluation

    stored = StoredEvaluation.load(record, folder)
    reports = class_reports(stored)
    if csv is not None:
        write_atomically(csv, reports_csv(reports).encode())
    if confusion is not None:
        write_atomically(confusion, confusion_csv(stored).encode())
    if html is not None:
        from vlbench.results.report_page import confused_pairs, pictured_videos, to_html

        pictures = None
        if videos is not None:
            from vlbench.tools.strips import middle_frames

            pictures = middle_frames(pictured_videos(confused_pairs(stored)), videos)
        write_atomically(html, to_html(stored, pictures).encode())
    columns = ("class", "videos", "right", "unreadable", "accuracy", "precision", "mostly taken for")
    table = Table(*columns, title=escape(stored.name))
    for entry in sorted(reports, key=lambda entry: (entry.accuracy is None, entry.accuracy or 0.0, entry.name)):
        taken = f"{entry.confused_with} ({entry.confusions})" if entry.confusions else ""
        shares = ("" if share is None else f"{share:.1f}" for share in (entry.accuracy, entry.precision))
        counts = (str(count) for count in (entry.videos, entry.correct, entry.unreadable))
        table.add_row(*map(escape, (entry.name, *counts, *shares, taken)))
    for column in table.columns[1:6]:
        column.justify = "right"
    console_of_tables().print(table)
    return 0


def rescore(
    record: str,
    classes: Path | None = None,
    half: bool = False,
    prompts: str | None = None,
    config: Sequence[str] = (),
    ckpt_path: Path | None = None,
    folder: Path = Path("results"),
) -> int:
    """Evaluate stored scores under another list of classes or other prompts: nothing is decoded.

    Args:
        record: Path of a record, or the name of one below FOLDER.
        classes: File with one name of a class a line, some of those of the evaluation.
        half: Ten random halves of the classes instead, as MoTE's zero-shot protocol draws them.
        prompts: Name of a set of templates, or a file with one a line; needs what the record was tested with.
        config: Configurations of the test, for the text tower of other prompts.
        ckpt_path: Checkpoint of the test, if it had one.
        folder: Results folder in which names are looked up.

    Returns:
        0.
    """
    from vlbench.results.report import rescore as restricted
    from vlbench.results.report import rescore_halves
    from vlbench.results.stored import StoredEvaluation

    if (half and (classes is not None or prompts is not None)) or not (half or classes or prompts):
        raise ConfigError("give --classes FILE, --prompts FILE or both, or --half")
    if prompts is None and (config or ckpt_path is not None):
        raise ConfigError(
            "--config and --ckpt_path are for the text tower of other prompts; leave them out, or give --prompts"
        )
    stored = StoredEvaluation.load(record, folder)
    recorded, views = stored.record.metrics, stored.record.identity.views
    if half:
        metrics, label = rescore_halves(stored), "ten halves"
    else:
        if prompts is not None:
            from vlbench.cli.methods import with_prompts
            from vlbench.methods.parts.prompts import PROMPTS

            named = prompts if prompts in PROMPTS else _templates(Path(prompts))
            stored = with_prompts(stored, named, config, ckpt_path)
        names = stored.classes if classes is None else read_class_names(classes, stored.classes, stored.name)
        metrics = restricted(stored, names)
        label = f"{len(names)} classes" + (f", prompts {prompts}" if prompts is not None else "")
    table = Table("scored against", *metrics, title=escape(stored.name))
    for scored, values in (("as recorded", recorded), (label, metrics)):
        table.add_row(escape(scored), *(f"{values[key]:.2f}" if key in values else "" for key in metrics))
    console = Console(highlight=False)
    console.print(table)
    if not half and views != "1x1":
        console.print(f"the views ({views}) are fused by the mean of their cosines", markup=False)
    return 0


def _templates(path: Path) -> list[str]:
    """Templates in a file, one a line."""
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; give one with a template such as 'a video of {{}}' a line")
    return [line for _, line in lines_of(path)]
