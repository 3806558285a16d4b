"""The published results as they ship."""

import statistics
from collections import defaultdict

import pytest

from vlbench.results.published_values import contradictions, practices, published_results, sources

pytestmark = pytest.mark.quick


def test_every_result_has_a_source_and_a_possible_value():
    for result in published_results():
        assert result.source in sources()
        assert 0 < result.value <= 100
        assert result.std is None or 0 <= result.std < 10
        assert result.origin in ("reported", "rerun", "quoted")
        assert result.selection in ("", "last", "best_on_test")
        assert result.metric in ("top1", "top5", "base", "novel", "hm", "map")
        assert (result.shots is not None) == (result.protocol in ("few_shot", "base_to_novel"))
    assert {result.source for result in published_results()} == set(sources())


def test_every_known_practice_is_of_a_published_method():
    assert practices().keys() <= {result.method for result in published_results()}
    assert all(practices().values())


def test_top5_is_never_below_top1():
    both = defaultdict(dict)
    for result in published_results():
        key = (result.source, result.method, result.backbone, result.protocol, result.dataset, result.frames,
               result.views, result.over, result.note)  # fmt: skip
        if result.metric in ("top1", "top5"):
            both[key].setdefault(result.metric, result.value)
    pairs = [values for values in both.values() if len(values) == 2]
    assert len(pairs) > 30
    assert all(values["top5"] >= values["top1"] for values in pairs)


def test_harmonic_means_are_those_of_their_parts():
    parts = defaultdict(dict)
    for result in published_results():
        if result.protocol == "base_to_novel" and result.over == "3 seeds":
            key = (result.source, result.method, result.dataset, result.backbone, result.note)
            parts[key].setdefault(result.metric, result.value)
    complete = [values for values in parts.values() if len(values) == 3]
    assert len(complete) > 40
    # One decimal each, and some sources average the seeds' harmonic means.
    assert all(abs(statistics.harmonic_mean([v["base"], v["novel"]]) - v["hm"]) < 0.35 for v in complete)


def test_contradictions_are_mutual_and_kept():
    for result in published_results():
        for other in contradictions(result):
            assert result in contradictions(other)
            assert abs(other.value - result.value) > 0.05
    (x_clip,) = (
        result
        for result in published_results()
        if (result.source, result.metric, result.value) == ("x-clip", "top5", 95.7) and result.views == "4x3"
    )
    assert [(other.source, other.value) for other in contradictions(x_clip)] == [("mote-4", 96.7)]
