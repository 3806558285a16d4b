"""The shipped published results against the collection they were taken from."""

import json
from collections import Counter

import pytest

from tests.conftest import _SHARED
from vlbench.results.published_values import published_results

DATASETS = {"HMDB-51": "hmdb51", "UCF-101": "ucf101", "SSv2": "ssv2", "ActivityNet": "activitynet"}
METRICS = {"base_top1": "base", "novel_top1": "novel", "base_top1_best": "base", "base_top1_last": "base",
           "novel_top1_of_best": "novel", "top1_last_epoch": "top1", "mAP": "map"}  # fmt: skip


@pytest.fixture(scope="module")
def collected():
    path = _SHARED / "published.json"
    if not path.is_file():
        pytest.skip(f"no published results at {path}")
    return json.loads(path.read_text())


def test_every_value_is_there(collected):
    def dataset(name):
        return DATASETS.get(name, name.lower().replace("kinetics-", "kinetics"))

    expected = Counter(
        (
            entry["protocol"], dataset(entry["dataset"]), entry["shots"], entry["backbone"], entry["frames"],
            entry["views"] or "", METRICS.get(entry["metric"], entry["metric"]), entry["value"], entry["std"],
            entry["params_m"],
        )
        for entry in collected
    )  # fmt: skip
    found = Counter(
        (
            result.protocol, result.dataset.replace(" (7.2k videos)", ""), result.shots, result.backbone, result.frames,
            result.views, result.metric, result.value, result.std, result.params_m,
        )
        for result in published_results()
    )  # fmt: skip
    assert found == expected
    assert found.total() == 771


def test_what_others_measured_is_told_apart(collected):
    primary = Counter(entry["primary"] for entry in collected)
    origins = Counter(result.origin for result in published_results())
    assert origins["reported"] <= primary[True]
    assert origins["quoted"] <= primary[False]
    assert origins.total() == primary.total()


def test_checkpoints_chosen_on_the_test_set_are_marked(collected):
    chosen = [entry for entry in collected if entry["metric"] in ("base_top1_best", "novel_top1_of_best")]
    noted = [
        entry
        for entry in collected
        if "best epoch" in (entry["note"] or "")
        or (entry["note"] == "top1 = best test epoch" and entry["metric"] == "top1")
    ]
    marked = [result for result in published_results() if result.selection == "best_on_test"]
    assert len(marked) == len(chosen) + len(noted)
