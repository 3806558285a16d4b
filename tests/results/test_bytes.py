"""Every form of the leaderboard, byte by byte as it was when these files were written.

`python -m tests.results.test_bytes` writes them anew, where a change is meant.
"""

import re
from pathlib import Path

import pytest

from tests.results.fakes import half, record
from vlbench.results.html import to_html
from vlbench.results.leaderboard import rows
from vlbench.results.tables import to_csv, to_latex, to_markdown

pytestmark = pytest.mark.quick

GOLDEN = Path(__file__).parent / "golden"
EVERYTHING = {"classes": "all", "shots": None, "split": 1, "seed": 0}


def page_rows(table):
    """The rows of the page as JSON; the published results beside them have tests of their own."""
    return re.search(r'"rows":(\[.*?\]),"published":', to_html(table))[1].replace("},{", "},\n{") + "\n"


FORMS = {"board.csv": to_csv, "board.md": to_markdown, "board.tex": to_latex, "board.rows": page_rows}


def records():
    """Evaluations that fill every column: seeds, splits, halves, costs, failures, odd names, old schemas."""
    nan = float("nan")
    commit = "0123456789abcdef0123456789abcdef01234567"
    training = {"steps": 90, "seconds": 1800.0, "processes": 4}
    made = [
        record(
            50 + 3 * seed + shots, method=method, shots=shots, seed=seed, weights=f"{method}{seed}{shots}",
            trainable_params=trainable, total_params=124_000_000, training={**training, "steps": 90 + seed},
            calibration={"videos": 10, "source": "scores", "ece": 0.1 + seed / 8, "nll": 1.5, "brier": 0.5 + seed / 8},
            cost={"view": 281_000_000_000 + seed, "classes": 5_000_000_000}, peak_memory_bytes=2**30 + seed,
            videos_per_second=4.0 + seed, config_digest=f"{seed}" * 32, git_commit=commit,
        )
        for method, trainable in (("mote", 9_000_000), ("msta", 1_744_000)) for shots in (2, 16) for seed in range(3)
    ]  # fmt: skip
    made += [record(41.0, method="zero_shot", shots=0, trainable_params=0, training={})]
    made += [
        record(40 + split, shots=0, protocol="zero_shot@1", method="mote", dataset="hmdb51/words", views="3x1",
               test={**EVERYTHING, "split": split}, test_list=f"official/split {split}", train=EVERYTHING,
               train_dataset="kinetics400/words", train_list="vifi/train (verified)")
        for split in (1, 2, 3)
    ]  # fmt: skip
    made += [
        half(classes, top1 + 2 * seed, seed, dataset=dataset,
             calibration={"videos": 10, "source": "scores", "ece": 0.1, "base_novel_auroc": 0.75 - seed / 8})
        for dataset in ("ucf101/words", "hmdb51/camel") for seed in range(2)
        for classes, top1 in (("base", 80.0), ("novel", 60.0))
    ]  # fmt: skip
    kinetics = {"dataset": "kinetics400/words", "train_dataset": "kinetics400/words", "backbone": "ViCLIP-B-16:f"}
    made += [half(classes, 70.0, views="4x3", selection="best_on_test", **kinetics) for classes in ("base", "novel")]
    made += [
        half("base", 77.0, method="alone"),
        record(7.125, method='</script>"a|b_c" & 50%', deviations={"scale": 1.0, "layers": [1, 2]}),
        record(50, method="lost", evaluated=8, failures={"x": "empty", "y": "short"}),
        record(50, method="large", expected=100_000, evaluated=99_999, failures={"x": "empty"}),
        record(method="nothing", metrics={"top1": nan, "top5": nan, "mean_per_class": nan}, expected=0, evaluated=0),
        record(51.5, method="full", train=EVERYTHING, git_commit=f"{commit}-dirty"),
        record(52.5, method="old", test_list=None, train_list=None),
        record(method="zero_shot", dataset="charades", shots=0, metrics={"map": 20.456}),
        record(
            method="halves",
            metrics={"top1": 50.0, "top5": 90.0, "mean_per_class": 49.0, "half_top1": 61.234, "half_top1_std": 2.345},
        ),
    ]
    return made


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_every_form_is_what_it_was(name):
    assert FORMS[name](rows(records())) == (GOLDEN / name).read_text()


def test_the_order_of_records_changes_no_byte():
    assert to_csv(rows(records()[::-1])) == to_csv(rows(records()))


if __name__ == "__main__":
    for form, write in FORMS.items():
        (GOLDEN / form).write_text(write(rows(records())))
