"""Tables of `vlbench multiverse`."""

from __future__ import annotations

from rich.table import Table

from vlbench.results.multiverse import Multiverse

_PAIRS = 20
"""Number of pairs that are shown, those whose order is the least settled."""


def methods(outcome: Multiverse) -> Table:
    """Range, ranks and gain by the best epoch on test, of each method."""
    gain = outcome.best_on_test
    columns = ["method", "as recorded", "lowest", "highest", "best rank", "worst rank"]
    table = Table(*columns, *(["best epoch on test adds"] if gain is not None else []), title="top-1 in %")
    for row, name in enumerate(outcome.methods):
        values, ranks = outcome.flat[row], outcome.ranks[row]
        adds = [] if gain is None else [f"{gain[1][row]:+.2f} (mean {gain[0][row]:+.2f})"]
        table.add_row(
            name, f"{outcome.at_records[row]:.2f}", f"{values.min():.2f}", f"{values.max():.2f}", str(ranks.min()),
            str(ranks.max()), *adds,
        )  # fmt: skip
    return _right(table)


def pairs(outcome: Multiverse) -> Table:
    """Share of the universes in which either of two methods leads, the pair with the least settled order first."""
    table = Table("A", "B", "A leads", "equal", "B leads", "as recorded", title="share of the universes in %")
    order = list(outcome.pairs())
    for a, b in order[:_PAIRS]:
        first, second = outcome.leading[a, b], outcome.leading[b, a]
        difference = outcome.at_records[a] - outcome.at_records[b]
        leads = "equal" if difference == 0 else f"{'A' if difference > 0 else 'B'} by {abs(difference):.2f}"
        shares = (f"{100 * share:.1f}" for share in (first, 1 - first - second, second))
        table.add_row(outcome.methods[a], outcome.methods[b], *shares, leads)
    if len(order) > _PAIRS:
        table.caption = f"the {_PAIRS} of {len(order)} pairs whose order is the least settled; --json has all"
    return _right(table, 2)


def variance(outcome: Multiverse) -> Table:
    """What each choice moves alone, the choice that moves most first."""
    columns = ("choice", "options", "mean share", "largest share", "points", "of")
    table = Table(*columns, title="variance of a method's accuracy that a choice explains alone, in %")
    shares, spans = outcome.effects
    for column in (-shares.mean(axis=0)).argsort(kind="stable"):
        moved = int(spans[:, column].argmax())
        choice = outcome.choices[column]
        table.add_row(
            choice.name, str(len(choice.options)), f"{100 * shares[:, column].mean():.1f}",
            f"{100 * shares[:, column].max():.1f}", f"{spans[moved, column]:.2f}", outcome.methods[moved],
        )  # fmt: skip
    rest = 100 * (1 - shares.sum(axis=1)).mean()
    table.caption = (
        f"points: between the options with the highest and the lowest mean, of the method that it moves most;"
        f" {rest:.1f} % is moved by choices together, or not at all"
    )
    return _right(table)


def _right(table: Table, texts: int = 1) -> Table:
    for column in table.columns[texts:]:
        column.justify = "right"
    return table
