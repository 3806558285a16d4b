"""The page: what is in it, and what a browser makes of it."""

import json
import re

import pytest

from tests.results.browser import Page
from tests.results.fakes import half, record
from vlbench.results.html import to_html
from vlbench.results.leaderboard import rows

EVIL = '</script><script>document.title="broken"</script><b>&"'


def records():
    training = {"steps": 9, "seconds": 7200.0, "processes": 2}
    made = [
        record(top1, method=method, shots=shots, seed=seed, trainable_params=trainable, training=training,
               videos_per_second=4.0 + seed)
        for method, trainable, top1 in (("mote", 9_000_000, 60.0), ("msta", 1_744_000, 65.0))
        for shots in (2, 16) for seed in range(2)
    ]  # fmt: skip
    made += [record(41.0, method="zero_shot", shots=0, trainable_params=0), record(7.0, method=EVIL, shots=2)]
    return [*made, half("base", 80, dataset="hmdb51/words"), half("novel", 60, dataset="hmdb51/words")]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("html") / "board.html"
    path.write_text(to_html(rows(records())))
    return path


@pytest.fixture(scope="module")
def page(html, tmp_path_factory):
    with Page(html, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def column(page, name, table="rows"):
    """Texts of a column, from the top."""
    return page.evaluate(
        f"(() => {{ const heads = [...document.querySelectorAll('#{table} th')];"
        f" const at = heads.findIndex((head) => head.dataset.column === {json.dumps(name)});"
        f" return [...document.querySelectorAll('#{table} tbody tr')].map((row) => row.children[at].textContent); }})()"
    )


def click(page, selector):
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def choose(page, identifier, value):
    page.evaluate(
        f"(() => {{ const node = document.getElementById('{identifier}'); node.value = {json.dumps(value)};"
        " node.dispatchEvent(new Event('change')); node.dispatchEvent(new Event('input')); })()"
    )


def head(name, table="rows"):
    return f"#{table} th[data-column={name}] button"


def test_the_data_cannot_leave_its_element(html):
    text = html.read_text()
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    table = [row.cells() for row in rows(records())]
    assert [{key: row[key] for key in table[0]} for row in json.loads(data)["rows"]] == table
    assert EVIL not in text
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", text)


def test_it_asks_nobody_and_complains_about_nothing(page, html):
    click(page, "#all-columns")
    click(page, "#all-columns")
    assert page.requests == [html.as_uri()]
    assert page.complaints == []


def test_strings_are_shown_as_text(page):
    assert page.evaluate("document.title") == "vlbench leaderboard"
    assert EVIL in column(page, "method")
    assert page.evaluate("document.querySelectorAll('td b, td script, .legend b, option b').length") == 0


def test_a_click_sorts_two_bring_the_other_way_and_three_the_first(page):
    first = column(page, "top1")
    click(page, head("top1"))
    down = column(page, "top1")
    values = [float(text.split()[0]) for text in down if text]
    assert values == sorted(values, reverse=True)
    assert down[-1] == ""  # what has no value is last, either way
    assert page.evaluate("document.querySelector('#rows th[data-column=top1]').ariaSort") == "descending"
    click(page, head("top1"))
    up = column(page, "top1")
    assert [float(text.split()[0]) for text in up if text] == values[::-1]
    assert up[-1] == ""
    click(page, head("top1"))
    assert column(page, "top1") == first != down


def test_words_and_shots_sort_by_what_they_mean(page):
    click(page, head("method"))
    assert column(page, "method") == sorted(column(page, "method"), key=str.lower)
    click(page, head("shots"))
    click(page, head("shots"))
    shots = [int(text) for text in column(page, "shots")]
    assert shots == sorted(shots)
    assert {2, 16} < set(shots)
    click(page, head("shots"))


def test_filters_narrow_the_rows_and_the_charts(page):
    choose(page, "method", "msta")
    assert set(column(page, "method")) == {"msta"}
    choose(page, "dataset", "ucf101/words")
    assert set(column(page, "dataset")) == {"ucf101/words"}
    assert page.evaluate("document.querySelector('#charts svg').querySelectorAll('circle').length") == 2
    choose(page, "search", "no such words")
    assert column(page, "method") == []
    for name in ("search", "dataset", "method"):
        choose(page, name, "")
    assert len(column(page, "method")) == len(rows(records()))


def test_charts_place_better_higher_and_larger_to_the_right(page):
    choose(page, "scope", "few_shot@1 on ucf101/words")
    points = page.evaluate(
        "[...document.querySelectorAll('#charts svg')].map((chart) => [...chart.querySelectorAll('circle')]"
        ".map((dot) => [+dot.getAttribute('cx'), +dot.getAttribute('cy'), dot.getAttribute('aria-label')]))"
    )
    assert len(points) == 4
    by_parameters = {label.split(",")[0]: (x, y) for x, y, label in points[0]}
    assert by_parameters["zero_shot"][0] < by_parameters["msta"][0] < by_parameters["mote"][0]
    assert by_parameters["zero_shot"][1] > by_parameters["mote"][1] > by_parameters["msta"][1]
    assert page.evaluate("document.querySelectorAll('#charts polyline').length") == 2
    assert len({x for x, _, _ in points[1]}) == 3  # 0, 2 and 16 shots


def test_all_columns_are_there_when_asked_for(page):
    few = page.evaluate("document.querySelectorAll('#rows th').length")
    click(page, "#all-columns")
    assert {"config_digests", "git_commits", "steps"} <= set(
        page.evaluate("[...document.querySelectorAll('#rows th')].map((head) => head.dataset.column)")
    )
    click(page, "#all-columns")
    assert page.evaluate("document.querySelectorAll('#rows th').length") == few


def test_published_results_sort_and_filter(page):
    assert len(column(page, "value", "published")) == 771
    choose(page, "p-method", "MoTE")
    click(page, head("value", "published"))
    values = [float(text) for text in column(page, "value", "published")]
    assert values == sorted(values, reverse=True)
    choose(page, "p-method", "")
    click(page, "#p-conflicts")
    assert 0 < len(column(page, "contradicted_by", "published")) < 771
    assert all(column(page, "contradicted_by", "published"))
    click(page, "#p-conflicts")


def brightness(page):
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3


def test_light_and_dark(page, html, tmp_path):
    assert brightness(page) > 200
    click(page, "#theme")
    assert brightness(page) < 60
    click(page, "#theme")
    assert brightness(page) > 200
    with Page(html, tmp_path, dark=True) as dark:
        assert brightness(dark) < 60
        assert dark.complaints == []
