"""Which records make a row, and which rows are ranked together."""

import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results.fakes import half, record
from vlbench.errors import DataError
from vlbench.results.audits import AuditScores, audited_record
from vlbench.results.leaderboard import check_provenance, rows
from vlbench.results.row import COLUMNS

pytestmark = pytest.mark.quick

# Anything of these makes a comparison unfair.
INCOMPARABLE = {
    "test list": {"test_list": "vifi/val1 (verified)"},
    "test split": {"test": {"classes": "all", "shots": None, "split": 2, "seed": 0}},
    "number of videos": {"expected": 11, "evaluated": 11},
    "unreadable video": {"evaluated": 9, "failures": {"x": "empty"}},
    "class names": {"classes": ["Jump", "Run", "A", "Wave"]},
    "variant": {"dataset": "ucf101/camel", "train_dataset": "ucf101/camel"},
    "selection": {"selection": "best_on_test"},
    "shots": {"shots": 16},
    "training list": {"train_list": "vifi/train1_few_shot_8 (verified)"},
    "training classes": {"train": {"classes": "base", "shots": 8, "split": 1, "seed": 0}},
    "protocol": {"protocol": "few_shot@2"},
}
COMPARABLE = {
    "method": {},
    "backbone": {"backbone": "ViT-L-14-quickgelu:openai"},
    "views": {"views": "4x3"},
    "frames": {"frames": 16},
    "deviations": {"deviations": {"scale": 1.0}},
    "seed": {"seed": 5, "train_list": "own/8-shot seed 5"},
}


@pytest.mark.parametrize("changes", INCOMPARABLE.values(), ids=INCOMPARABLE)
def test_what_does_not_compare_is_never_ranked_together(changes):
    table = rows([record(50), record(70, method="mote", **changes)])
    assert len({row.comparison for row in table}) == len({row.comparison.digest for row in table}) == 2
    assert [row.rank for row in table] == [1, 1]


@pytest.mark.parametrize("changes", COMPARABLE.values(), ids=COMPARABLE)
def test_settings_that_may_differ_are_ranked_together(changes):
    table = rows([record(50), record(70, method="mote", **changes)])
    assert len({row.comparison for row in table}) == len({row.comparison.digest for row in table}) == 1
    assert [(row.rank, row.top1) for row in table] == [(1, 70.0), (2, 50.0)]


def test_equal_scores_share_a_rank():
    table = rows([record(top1, method=method) for method, top1 in (("a", 60), ("b", 60), ("c", 50))])
    assert [row.rank for row in table] == [1, 1, 3]


@given(st.lists(st.floats(1, 100), min_size=2, max_size=6), st.randoms())
def test_a_rank_says_how_many_are_better(values, random):
    records = [record(value, method=f"m{index}") for index, value in enumerate(values)]
    shuffled = random.sample(records, len(records))
    table = rows(shuffled)
    assert table == rows(records)
    for row in table:
        assert row.rank == 1 + sum(other.top1 > row.top1 for other in table)


def test_three_splits_are_one_row_with_the_population_deviation():
    tops = [40.0, 43.0, 49.0]
    test = {"classes": "all", "shots": None, "seed": 0}
    records = [record(top, shots=0, protocol="zero_shot@1", test={**test, "split": k}) for k, top in enumerate(tops, 1)]
    (row,) = rows(records)
    assert (row.top1, row.top1_std, row.runs) == (44.0, round(statistics.pstdev(tops), 2), 3)
    assert row.videos == 30
    two, three = rows([*records, *(record(50, shots=0, protocol="zero_shot@1", method="mote", test={**test, "split": k})
                                   for k in (1, 2))])  # fmt: skip
    assert two.comparison != three.comparison


def test_one_run_has_no_deviation():
    halves = {"half_top1": 61.5, "half_top5": 91.5}
    (one,) = rows([record(metrics={"top1": 50.0, "top5": 90.0, "mean_per_class": 50.0, **halves})])
    assert (one.top1, one.top1_std, one.half_top1, one.half_top1_std) == (50.0, None, 61.5, None)
    (equal,) = rows([record(50), record(50, seed=1)])
    assert (equal.top1, equal.top1_std) == (50.0, 0.0)
    (two,) = rows([half("base", 80, 0), half("base", 90, 1), half("novel", 40, 0)])
    assert (two.base_std, two.novel, two.novel_std) == (5.0, 40.0, None)


def test_zero_shots_are_those_of_the_tested_dataset():
    elsewhere = {"train_dataset": "kinetics400/words", "train_list": "vifi/train (verified)", "method": "mote"}
    everything = {"classes": "all", "shots": None, "split": 1, "seed": 0}
    best, frozen = rows([record(40, shots=0, method="zero_shot"), record(50, train=everything, **elsewhere)])
    assert (best.shots, best.trained_on) == (0, "kinetics400/words, vifi")
    assert (frozen.shots, frozen.trained_on) == (0, "")
    assert (best.rank, frozen.rank) == (1, 2)


def test_base_and_novel_make_one_row_with_the_harmonic_mean_of_the_means():
    base, novel = [80.0, 90.0], [40.0, 70.0]
    records = [half("base", top, seed) for seed, top in enumerate(base)]
    records += [half("novel", top, seed) for seed, top in enumerate(novel)]
    (row,) = rows(records)
    assert (row.base, row.base_std, row.novel, row.novel_std) == (85.0, 5.0, 55.0, 15.0)
    assert row.hm == round(2 * 85 * 55 / (85 + 55), 2)
    assert row.hm != round(statistics.fmean(2 * b * n / (b + n) for b, n in zip(base, novel, strict=True)), 2)
    assert (row.top1, row.runs, row.videos) == (None, 2, 20)


def test_no_harmonic_mean_of_different_runs():
    (row,) = rows([half("base", 80, 0), half("base", 90, 1), half("novel", 40, 0)])
    assert (row.base, row.novel, row.hm, row.rank) == (85.0, 40.0, None, None)


def test_an_evaluation_counts_once():
    (row,) = rows([record(50), record(50), record(60, seed=1)])
    assert (row.runs, row.top1) == (2, 55.0)
    with pytest.raises(DataError, match=r"msta-ucf101.*50\.000 and 60\.000"):
        rows([record(50), record(60)])


COPIES = {
    "speed": {"videos_per_second": 2.5},
    "memory": {"peak_memory_bytes": 2**30},
    "training": {"training": {"steps": 90, "seconds": 1800.0, "processes": 4}},
    "calibration": {"calibration": {"videos": 10, "source": "scores", "ece": 0.25}},
    "operations": {"cost": {"view": 281_000_000_000, "classes": 5_000_000_000}},
    "halves": {"metrics": {"top1": 50.0, "top5": 90.0, "mean_per_class": 50.0, "half_top1": 61.5}},
    "commit": {"git_commit": "0123456789abcdef"},
    "deviations": {"deviations": {"scale": 1.0}},
    "parameters": {"trainable_params": 11},
    "names": {"published_as": ["MoTE"]},
    "scores": {"predictions": "0" * 32},
}


@pytest.mark.parametrize("changes", COPIES.values(), ids=COPIES)
def test_which_copy_of_an_evaluation_counts_does_not_depend_on_the_order_of_folders(changes):
    changed = replace(record(50, **{**changes, "expected": 10}), predictions=changes.get("predictions"))
    copies = [record(50), changed]
    audits = {audited_record(changed): AuditScores(7.0, 9.0)} if "predictions" in changes else {}
    (row,), (other,) = rows(copies, audits), rows(copies[::-1], audits)
    assert row == other
    assert row.half_top1 == (61.5 if "metrics" in changes else None)  # what one of them has is shown


@pytest.mark.parametrize("changes", [{"failures": {"x": "empty"}}, {"failures": {"z": "empty"}, "expected": 11}])
def test_copies_of_an_evaluation_with_other_unreadable_videos_are_refused(changes):
    for other in (record(50, evaluated=9, failures={"y": "empty"}), record(50)):
        copy = record(50, **{"evaluated": changes.get("expected", 10) - 1, **changes})
        with pytest.raises(DataError, match=r"two records of msta-ucf101.* differ: .* give only the folder of one"):
            rows([other, copy])


def test_every_two_copies_of_an_evaluation_are_compared():
    metrics = {"top1": 50.0, "top5": 90.0, "mean_per_class": 50.0}
    with pytest.raises(DataError, match=r"half_top1 61\.000 and 62\.000"):
        rows([record(50), *(record(metrics={**metrics, "half_top1": half}) for half in (61.0, 62.0))])


def test_intervals_of_other_draws_are_no_other_results_of_one_evaluation():
    metrics = {"top1": 50.0, "top5": 90.0, "mean_per_class": 50.0, "top1_low": 20.0, "top1_high": 80.0}
    once = record(metrics=metrics, bootstrap=1000)
    assert [row.runs for row in rows([once, record(metrics={**metrics, "top1_low": 30.0}, bootstrap=10)])] == [1]
    with pytest.raises(DataError, match=r"top1_low 20\.000 and 30\.000"):
        rows([once, record(metrics={**metrics, "top1_low": 30.0}, bootstrap=1000)])


def test_unreadable_videos_bound_the_accuracy():
    (whole,) = rows([record(50)])
    (part,) = rows([record(50, evaluated=8, failures={"x": "empty", "y": "empty"})])
    assert (whole.coverage, whole.upper_bound) == (1.0, None)
    assert (part.coverage, part.upper_bound, part.evaluated, part.videos) == (0.8, 70.0, 8, 10)
    lost = {"evaluated": 9, "failures": {"x": "empty"}}
    (halves,) = rows([half("base", 80, **lost), half("novel", 40, **lost)])
    assert halves.upper_bound == round(2 * 90 * 50 / (90 + 50), 2)


def test_one_video_of_many_keeps_the_coverage_below_one():
    failures = {"x": "empty"}
    (row,) = rows([record(50, expected=100_000, evaluated=99_999, failures=failures)])
    assert row.coverage < 1
    assert row.upper_bound is not None


def test_costs():
    training = {"steps": 90, "seconds": 1800.0, "processes": 4}
    (row,) = rows([record(50, views="4x3", videos_per_second=2.5, training=training, total_params=40)])
    assert (row.steps, row.device_hours, row.clips_per_second) == (90, 2.0, 30.0)
    assert (row.trainable_params, row.trainable_percent) == (10, 25.0)


def test_halves_of_the_classes_have_their_own_columns():
    metrics = {"top1": 50.0, "top5": 90.0, "mean_per_class": 50.0, "half_top1": 61.234, "half_top1_std": 2.345}
    (row,) = rows([record(metrics=metrics)])
    assert (row.half_top1, row.half_top1_std, row.top1_std) == (61.23, 2.35, None)


def test_halves_of_the_classes_are_a_mean_over_runs_that_all_have_them():
    """Beside the number of runs, a mean over a part of them would be that of others."""
    halves = {"half_top1": 61.234, "half_top1_std": 2.345}
    records = [
        record(50, seed=seed, metrics={"top1": 50.0, "top5": 90.0, **metrics})
        for seed, metrics in enumerate(({}, halves))
    ]
    (row,) = rows(records)
    assert (row.runs, row.half_top1, row.half_top1_std, row.mean_per_class) == (2, None, None, None)


def test_where_it_came_from_is_short_and_each_once():
    commit = "0123456789abcdef0123456789abcdef01234567"
    records = [record(50, seed=s, git_commit=commit, config_digest=f"{s}" * 32) for s in range(2)]
    (row,) = rows([*records, record(50, seed=2, git_commit=f"{commit}-dirty")])
    assert row.git_commits == "0123456789ab 0123456789ab-dirty"
    assert row.config_digests == "000000000000 111111111111"


def test_changed_code_is_refused_unless_asked_for():
    records = [record(50, git_commit="0123456-dirty"), record(60, seed=1, git_commit="0123456")]
    with pytest.raises(DataError, match=r"1 of 2 records .* --allow_dirty"):
        check_provenance(records)
    check_provenance(records, allow_dirty=True)
    check_provenance(records[1:])


def test_mixed_schemas_are_refused_unless_asked_for():
    old = [record(50, test_list=None, train_list=None)]
    with pytest.raises(DataError, match=r"1 of 2 records .* --allow_mixed"):
        check_provenance([*old, record(60, seed=1)])
    check_provenance([*old, record(60, seed=1)], allow_mixed=True)
    check_provenance(old)


def test_no_evaluated_video_is_no_score():
    nan = float("nan")
    (row,) = rows([record(metrics={"top1": nan, "top5": nan, "mean_per_class": nan}, expected=0, evaluated=0)])
    assert (row.top1, row.rank) == (None, None)


def published(**changes):
    setting = {"method": "mote", "dataset": "hmdb51/words", "protocol": "zero_shot@1", "views": "3x1", "shots": 0}
    (row,) = rows([record(50.0, **setting | changes)])
    return row.published, row.published_source, row.difference, bool(row.published_practice)


def test_the_published_value_stands_beside_ours():
    value, source, difference, practice = published()
    assert (value, difference, practice) == (55.8, -5.8, True)
    assert source.startswith("mote-3 (reported)")


@pytest.mark.parametrize(
    "changes",
    [
        {"views": "1x1"}, {"frames": 16}, {"dataset": "synthetic/shapes-s"}, {"protocol": "few_shot@1"},
        {"backbone": "ViT-B-16-quickgelu:laion2b"}, {"backbone": "tiny:shipped"}, {"method": "zero_shot"},
        {"published_as": []}, {"published_as": ["MSTA"]},
    ],
)  # fmt: skip
def test_nothing_published_for_another_setting(changes):
    assert published(**changes) == (None, "", None, False)


def test_a_row_has_the_value_of_what_tables_call_its_method():
    changes = {"method": "tuned", "frames": 32, "views": "1x1", "backbone": "ViT-B-16-quickgelu:openai"}
    values = [published(published_as=[name], **changes)[0] for name in ("CLIP image-FT", "ViFi-CLIP")]
    assert values == [49.0, 51.3]
    changes["backbone"] += "+tuned@01234567"  # a backbone that an earlier training gave its weights
    assert published(published_as=["ViFi-CLIP"], **changes)[0] == 51.3


def test_values_that_contradict_the_published_one_are_told():
    changes = {"dataset": "kinetics400/words", "train_dataset": "kinetics400/words", "protocol": "base_to_novel@1",
               "backbone": "ViCLIP-B-16:f", "views": "4x3", "selection": "best_on_test"}  # fmt: skip
    halves = {"shots": None, "split": 1, "seed": 0}
    train = {"classes": "base", "shots": 16, "split": 1, "seed": 0}
    (row,) = rows([record(70, train=train, test={"classes": c, **halves}, **changes) for c in ("base", "novel")])
    assert row.published == 71.1
    assert row.published_source == "msta-logs (reported); 72.0 in msta-notes (quoted)"


def test_columns():
    (row,) = rows([record()])
    assert tuple(row.cells()) == COLUMNS
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_the_documentation_has_every_column_in_order():
    text = (Path(__file__).parents[2] / "docs" / "leaderboard.md").read_text()
    section = text.split("## Columns")[1].split("\n## ")[0]
    named = [
        name for cell in re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    ]
    assert tuple(named) == COLUMNS


def with_setting(made, name, value):
    """A record of a test with a setting, of which the settings alone tell."""
    details = replace(made.details, settings={name: value})
    return replace(made, identity=replace(made.identity, settings=value), details=details)


def in_order(made, order):
    """A record of a test whose views have an order of their frames."""
    return with_setting(made, "data.clip.views.order", order)


def of_frames(made):
    """A record of a test on frames that are kept as pictures."""
    return with_setting(made, "data.loading.backend", "rawframes")


def test_tests_on_frames_are_ranked_among_their_own_kind():
    others = [of_frames(record(80 + k, method=f"m{k}")) for k in range(2)]
    decoder = with_setting(record(40, method="m2"), "data.loading.backend", "torchcodec")
    table = {row.method: row for row in rows([record(50), *others, decoder])}
    assert [table[name].rank for name in ("msta", "m0", "m1", "m2")] == [1, 2, 1, 2]
    assert [table[name].stored for name in ("msta", "m0", "m1", "m2")] == ["", "frames", "frames", ""]
    assert len({row.comparison.digest for row in table.values()}) == 2
    seeds = [record(50), of_frames(record(60, seed=1))]
    assert [row.runs for row in rows(seeds)] == [1, 1]  # never averaged


def test_beside_a_published_value_stands_that_frames_were_read():
    made = record(50.0, method="mote", dataset="hmdb51/words", protocol="zero_shot@1", views="3x1", shots=0)
    (videos,), (frames,) = (rows([each]) for each in (made, of_frames(made)))
    assert frames.published == videos.published == 55.8
    assert "here the videos are read as frames" in frames.published_practice
    assert "read as frames" not in videos.published_practice


def test_counterfactual_orders_are_ranked_among_their_own_kind():
    orders = ["reversed", "reversed", "shuffled"]
    others = [in_order(record(80 + k, method=f"m{k}"), order) for k, order in enumerate(orders)]
    table = {row.method: row for row in rows([record(50), *others])}
    assert [table[name].rank for name in ("msta", "m0", "m1", "m2")] == [1, 2, 1, 1]
    assert table["msta"].comparison != table["m0"].comparison == table["m1"].comparison != table["m2"].comparison
    assert len({row.comparison.digest for row in table.values()}) == 3
    assert table["m0"].views == "1x1 reversed"


def test_a_counterfactual_order_has_no_published_value():
    made = record(50.0, method="mote", dataset="hmdb51/words", protocol="zero_shot@1", views="3x1", shots=0)
    (normal,), (other,) = (rows([each]) for each in (made, in_order(made, "reversed")))
    assert (normal.published, normal.difference) == (55.8, -5.8)
    assert (other.published, other.published_source, other.difference) == (None, "", None)
    changes = {"method": "tuned", "published_as": ["X-CLIP"], "frames": 32}  # whose source states no views
    made = record(50.0, dataset="hmdb51/words", protocol="zero_shot@1", shots=0, **changes)
    (normal,), (other,) = (rows([each]) for each in (made, in_order(made, "reversed")))
    assert (normal.published, other.published) == (44.6, None)


def test_scores_of_audits_are_means_over_runs_that_all_have_one():
    runs = [replace(record(50 + seed, seed=seed), predictions=f"p{seed}") for seed in range(2)]
    audits = {audited_record(run): AuditScores(10.0 + k, 20.0 + k) for k, run in enumerate(runs)}
    (row,) = rows(runs, audits)
    assert (row.order_score, row.time_score) == (10.5, 20.5)
    (row,) = rows([*runs, record(52, seed=2)], audits)
    assert (row.order_score, row.time_score) == (None, None)
    (row,) = rows([replace(runs[0], predictions="others")], audits)
    assert (row.order_score, row.time_score) == (None, None)


def test_calibration_is_a_mean_over_all_runs_or_none():
    runs = [record(50 + seed, seed=seed, calibration={"videos": 10, "ece": 0.1 + 0.2 * seed}) for seed in range(2)]
    (row,) = rows(runs)
    assert row.ece == pytest.approx(0.2)
    assert (row.nll, row.base_novel_auroc) == (None, None)
    (row,) = rows([*runs, record(52, seed=2)])
    assert row.ece is None


def test_a_video_costs_as_many_views_as_it_has():
    (row,) = rows([record(views="4x3", cost={"view": 6_000_000_000, "classes": 2_000_000_000})])
    assert (row.gflops_view, row.gflops_video, row.gflops_classes) == (3.0, 36.0, 1.0)


def test_halves_with_a_mean_average_precision_have_no_harmonic_mean():
    (row,) = rows([half(classes, 0.0, metrics={"map": 20.0}) for classes in ("base", "novel")])
    assert (row.hm, row.base, row.score, row.rank) == (None, None, None, None)
