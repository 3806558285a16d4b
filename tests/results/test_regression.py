import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.results.fakes import store
from vlbench.cli.regress import names, planned
from vlbench.errors import DataError
from vlbench.results.regression import (
    MARGINS,
    SPREAD,
    Band,
    Check,
    Expectation,
    measure,
    to_json,
    to_junit,
    to_markdown,
)
from vlbench.results.stored import StoredEvaluation

pytestmark = pytest.mark.quick

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=1), st.floats(0, 10), st.floats(0, 2), st.floats(1, 1e6))
def test_a_band_holds_what_it_was_made_of_and_nothing_beyond_its_margins(values, margin, spread, distance):
    band = Band.around(values, margin, spread)
    assert all(value in band for value in values)
    beyond = margin + spread * (max(values) - min(values))
    assert max(values) + beyond + distance not in band
    assert min(values) - beyond - distance not in band
    assert math.nan not in band
    assert band.low <= band.expected + 1e-6
    assert band.expected - 1e-6 <= band.high


def test_what_is_measured(tmp_path):
    cosines = [[0.5, 0.1, 0.3, -0.2], [0.2, 0.0, 0.4, 0.0], [0.1, 0.1, 0.1, 0.7]]
    training = {"training": {"steps": 12}, "trainable_params": 345}
    store(tmp_path, "run", torch.eye(4)[[0, 2, 3]], [0, 1, 3], failures={"bad.mp4": 2}, cosines=cosines, **training)
    assert measure(StoredEvaluation.load("run", tmp_path)) == {
        "top1": 50.0,  # of four videos, of which one could not be read
        "cosine": pytest.approx((0.5 + 0.0 + 0.7) / 3),
        "lead": pytest.approx((0.5 - 0.3 + 0.0 - 0.4 + 0.7 - 0.1) / 3),
        "videos": 3,
        "steps": 12,
        "trainable_params": 345,
        "updated_tensors": 0,
    }


def test_what_was_not_trained_took_no_steps(tmp_path):
    store(tmp_path, "run", torch.eye(4), [0, 1, 2, 3], shots=0, training={})
    assert measure(StoredEvaluation.load("run", tmp_path))["steps"] == 0


def test_tensors_without_a_gradient_are_not_counted(tmp_path):
    """Of three that train, one is never used and one is multiplied by zero."""
    used, unused, silent = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = torch.optim.AdamW([used, unused, silent])
    (used.sum() + 0 * silent.sum()).backward()
    optimizer.step()
    torch.save({"optimizer_states": [optimizer.state_dict()]}, tmp_path / "last.ckpt")
    store(tmp_path, "run", torch.eye(4), [0, 1, 2, 3], training={})
    assert measure(StoredEvaluation.load("run", tmp_path), tmp_path / "last.ckpt")["updated_tensors"] == 1


def values(**changes):
    return {**dict.fromkeys(MARGINS, 7.0), "top1": 50.0, "lead": 0.01, **changes}


def expectation(**changes):
    measured = {"few <1>": [values(top1=top1, **changes) for top1 in (40.0, 50.0, 60.0)], "zero": [values()]}
    return Expectation.of(
        "smoke.yaml", [3, 4, 5], measured, {"vlbench": "1"}, {**dict.fromkeys(MARGINS, 0), "top1": 5}, 0.5
    )


def test_a_file_says_everything(tmp_path):
    made = expectation()
    made.write(tmp_path / "a" / "smoke.json")
    assert Expectation.read(tmp_path / "a" / "smoke.json") == made
    assert made.bands["few <1>"]["top1"] == Band(50.0, 25.0, 75.0)
    assert made.bands["zero"]["lead"] == Band(0.01, 0.01, 0.01)


@pytest.mark.parametrize("content", ["[]", "{", '{"schema_version": 1}', '{"schema_version": 1, "bands": [1]}'])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x.json holds no expected values: .*--update"):
        Expectation.read(tmp_path / "x.json")


def test_other_schemas_and_missing_files_are_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"schema_version": 9}')
    with pytest.raises(DataError, match="schema_version is 9; this vlbench reads 1"):
        Expectation.read(tmp_path / "x.json")
    with pytest.raises(DataError, match="--update"):
        Expectation.read(tmp_path / "missing.json")


def test_there_is_no_band_around_a_training_that_diverged():
    with pytest.raises(DataError, match="few <1>: cosine is not a finite number"):
        expectation(cosine=math.nan)


def failed(**changes):
    checks = expectation().compare({"few <1>": values(**changes), "zero": values()})
    assert len(checks) == 2 * len(MARGINS)
    return [(check.evaluation, check.metric) for check in checks if not check.passed]


def test_values_are_compared_with_their_own_bands():
    assert failed() == failed(top1=25.0) == failed(top1=75.0) == []
    assert failed(top1=24.9) == [("few <1>", "top1")]
    assert failed(steps=6, lead=math.nan) == [("few <1>", "lead"), ("few <1>", "steps")]


@pytest.mark.parametrize(
    ("measured", "example"),
    [
        ({"few <1>": values()}, "zero cosine"),
        ({"few <1>": values(), "zero": values(), "more": values()}, "more cosine"),
        ({"few <1>": values(other=1.0), "zero": values()}, "few <1> other"),
    ],
)
def test_bands_of_another_suite_are_refused(measured, example):
    with pytest.raises(DataError, match=f"do not fit what was run, {example} among .* --update"):
        expectation().compare(measured)


CHECKS = [
    Check("few <1>", "top1", Band(50.0, 45.0, 55.0), 12.5),
    Check("few <1>", "trainable_params", Band(1234567.0, 1234567.0, 1234567.0), 1234567.0),
    Check("zero", "cosine", Band(0.25, 0.2, 0.3), math.nan),
]


def test_junit():
    root = ElementTree.fromstring(to_junit("smoke.yaml", CHECKS))
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "3", "2")
    cases = root.findall("testsuite/testcase")
    assert [(case.get("classname"), case.get("name")) for case in cases] == [(c.evaluation, c.metric) for c in CHECKS]
    messages = [failure.get("message") for case in cases for failure in case]
    assert messages == ["top1 is 12.5, expected 50 in 45 .. 55", "cosine is nan, expected 0.25 in 0.2 .. 0.3"]


def test_json():
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    report = json.loads(to_json("smoke.yaml", CHECKS), parse_constant=refuse)
    assert (report["suite"], report["passed"]) == ("smoke.yaml", False)
    assert [(row["metric"], row["measured"], row["passed"]) for row in report["checks"]] == [
        ("top1", 12.5, False), ("trainable_params", 1234567, True), ("cosine", None, False),
    ]  # fmt: skip


def test_markdown():
    title, _, head, rule, *rows = to_markdown("smoke.yaml", CHECKS).splitlines()
    assert title == "### smoke.yaml"
    assert head.count("|") == rule.count("|") == 7
    assert rows[:2] == [
        r"| few \<1\> | top1 | 50 | 45 .. 55 | 12.5 | REGRESSION |",
        r"| few \<1\> | trainable\_params | 1,234,567 | 1,234,567 .. 1,234,567 | 1,234,567 | ok |",
    ]


COMMITTED = sorted((Path(__file__).parents[2] / "benchmarks" / "expected").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_bands_fit_their_suites(path):
    expectation = Expectation.read(path)
    assert expectation.suite == f"{path.stem}.yaml"
    assert (expectation.margins, expectation.spread) == (MARGINS, SPREAD)
    stages = planned(expectation.suite, expectation.seeds[:1])
    assert list(expectation.bands) == [name for stage in stages for name in names(stage).values()]
    for band in (band for bands in expectation.bands.values() for band in bands.values()):
        assert band.low <= band.expected <= band.high
