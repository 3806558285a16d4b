"""`vlbench multiverse`; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlbench.cli.consoles import console_of_tables
from vlbench.files import write_atomically


def multiverse(
    folders: Sequence[Path],
    protocol: str | None = None,
    dataset: str | None = None,
    shots: str | None = None,
    classes: str | None = None,
    json: Path | None = None,
    csv: Path | None = None,
    html: Path | None = None,
    allow_dirty: bool = False,
) -> int:
    """Say whether the order of methods survives other protocols that could be defended as well; nothing is decoded.

    Args:
        folders: Results folders of tests with --record.keep=[views,templates].
        protocol: Protocol of the compared records, such as few_shot@1, where the folders hold several.
        dataset: Dataset of the compared records, such as ucf101, where the folders hold several.
        shots: Training videos a class, a number or `all`, where the folders hold several.
        classes: Tested class set, all, base or novel, where the folders hold several.
        json: File to write, everything that is shown.
        csv: File to write, a line for each universe with the accuracy of every method.
        html: Page to write, with a figure; it loads nothing from elsewhere.
        allow_dirty: Take records of code that differed from its commit.

    Returns:
        0.
    """
    from vlbench.cli.multiverse_tables import methods, pairs, variance
    from vlbench.results.multiverse_forms import to_csv, to_json
    from vlbench.results.multiverse_page import multiverse_html
    from vlbench.results.multiverse_records import multiverse as of_records

    outcome = of_records(
        folders, protocol=protocol, dataset=dataset, shots=shots, classes=classes, allow_dirty=allow_dirty
    )
    for path, form in ((json, to_json), (csv, to_csv), (html, multiverse_html)):
        if path is not None:
            write_atomically(path, form(outcome).encode())
    console = console_of_tables(markup=False)
    console.print(f"{outcome.setting}: {outcome.universes:,} universes of {len(outcome.methods)} methods")
    for choice in outcome.choices:
        console.print(f"  {choice.name}: {', '.join(choice.options)}", soft_wrap=True)
    for table in (methods(outcome), pairs(outcome), variance(outcome)):
        if table.row_count:
            console.print(table)
    for note in outcome.notes:
        console.print(f"note: {note}", soft_wrap=True)
    return 0
