"""What `vlbench audit` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from vlbench.cli.consoles import console_of_tables
from vlbench.names import one_line
from vlbench.results.audit import Audit, ClassResult, Section, said_of

_MOST_CLASSES = 24
"""Classes that are printed; of more, those with the highest and the lowest order scores."""


def print_audit(outcome: Audit) -> None:
    """Prints a table for each section of an audit, and one of the classes.

    Args:
        outcome: Audit of a record.
    """
    console = console_of_tables(120)
    for section in outcome.sections:
        console.print(_table(section, outcome))
        for line in said_of(section, outcome.draws):
            console.print(line, markup=False, soft_wrap=True)
    console.print(_classes(outcome.classes))
    if outcome.unreadable:
        console.print(f"{outcome.unreadable} videos cannot be read and count as wrong in every order", markup=False)


def _table(section: Section, outcome: Audit) -> Table:
    title = f"{one_line(outcome.record)}: {section.name}, {section.videos:,} videos of {section.classes} classes"
    table = Table("frames", "top-1", "95 %", "normal - it", "95 %", "p", title=escape(title))
    for view in section.views:
        loss = ("", "", "")
        if view is not section.views[0]:
            loss = (f"{view.loss:+.2f}", f"[{view.loss_low:+.2f}, {view.loss_high:+.2f}]", f"{view.p_value:.3g}")
        table.add_row(view.order, f"{view.top1:.2f}", f"{view.low:.2f} to {view.high:.2f}", *map(escape, loss))
    for column in (1, 3):
        table.columns[column].justify = "right"
    return table


def _classes(classes: Sequence[ClassResult]) -> Table:
    ranked = sorted(classes, key=lambda each: (-each.order_score, each.name))
    half = _MOST_CLASSES // 2
    shown = ranked if len(ranked) <= _MOST_CLASSES else [*ranked[:half], *ranked[-half:]]
    title = "classes" if len(shown) == len(ranked) else f"{half} classes that use order most, and {half} that do least"
    table = Table("class", "videos", "normal", "shuffled", "middle", "order score", "time score", title=title)
    for each in shown:
        accuracies = (f"{each.top1[order]:.1f}" for order in ("normal", "shuffled", "middle"))
        scores = (f"{each.order_score:+.1f}", f"{each.time_score:+.1f}")
        table.add_row(escape(one_line(each.name)), str(each.videos), *accuracies, *scores)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
