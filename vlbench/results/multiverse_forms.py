"""The multiverse of a comparison as JSON and as CSV."""

from __future__ import annotations

import json

import vlbench
from vlbench.results.escapes import csv_text
from vlbench.results.multiverse import Multiverse


def to_json(outcome: Multiverse) -> str:
    """Everything that the command shows, with full precision, and all pairs of methods."""
    return json.dumps(_values(outcome), indent=2, ensure_ascii=False) + "\n"


def _values(outcome: Multiverse) -> dict[str, object]:
    shares, spans = outcome.effects
    gain = outcome.best_on_test
    numbers = range(len(outcome.methods))
    return {
        "setting": outcome.setting,
        "universes": outcome.universes,
        "choices": {choice.name: list(choice.options) for choice in outcome.choices},
        "recorded": {c.name: c.options[place] for c, place in zip(outcome.choices, outcome.recorded, strict=True)},
        "methods": [
            {
                "method": name,
                "recorded": float(outcome.at_records[row]),
                "lowest": float(outcome.flat[row].min()),
                "highest": float(outcome.flat[row].max()),
                "best_rank": int(outcome.ranks[row].min()),
                "worst_rank": int(outcome.ranks[row].max()),
                "best_epoch_on_test_adds": None if gain is None else float(gain[1][row]),
                "best_epoch_on_test_adds_mean": None if gain is None else float(gain[0][row]),
                "variance_shares": dict(zip((c.name for c in outcome.choices), shares[row].tolist(), strict=True)),
                "spans": dict(zip((c.name for c in outcome.choices), spans[row].tolist(), strict=True)),
            }
            for row, name in enumerate(outcome.methods)
        ],
        "pairs": [
            {
                "a": outcome.methods[a],
                "b": outcome.methods[b],
                "a_leads": float(outcome.leading[a, b]),
                "equal": float((outcome.flat[a] == outcome.flat[b]).mean()),
                "b_leads": float(outcome.leading[b, a]),
            }
            for a in numbers
            for b in numbers
            if a < b
        ],
        "notes": list(outcome.notes),
        "vlbench": vlbench.__version__,
    }


def to_csv(outcome: Multiverse) -> str:
    """A line for each universe: its options, and the accuracy of every method in per cent."""
    header = (*(choice.name for choice in outcome.choices), *outcome.methods)
    return csv_text([header, *((*options, *values.tolist()) for options, values in outcome.each())])
