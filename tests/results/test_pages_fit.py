"""Pages in a browser, narrow and wide, light and dark: nothing is cut off, and figures can be read."""

import re

import numpy as np
import pytest

from tests.results.browser import Page
from tests.results.fakes import record, store
from tests.results.test_audit import outcomes
from tests.results.test_curves import lines, log
from tests.results.test_multiverse import kept
from vlbench.results.audit import audit_of
from vlbench.results.audit_page import audit_html
from vlbench.results.curves import curves_page, curves_section
from vlbench.results.html import to_html
from vlbench.results.leaderboard import rows
from vlbench.results.multiverse_page import multiverse_html
from vlbench.results.multiverse_records import multiverse
from vlbench.results.stored import StoredEvaluation

NAME = "few_shot-a_dataset_with_a_long_name-a_method_with_a_long_name-16shot-seed0-test"
METHODS = [f"method{number:02}" for number in range(18)]


def audit(folder):
    labels = [0, 0, 1, 1, 2, 2]
    stored = StoredEvaluation.load(str(store(folder, NAME, np.eye(4)[labels], labels, failures={"lost": 1})), folder)
    return audit_html(audit_of(stored, outcomes(stored), {}, draws=10, seed=0))


def universes(folder):
    for number, name in enumerate(("mote", "a_method_with_a_long_name_and_some")):
        kept(folder, name, number)
    return multiverse_html(multiverse([folder]))


def curves(folder):
    log(folder, 0, lines(0, 50, 2.0))
    return curves_page([curves_section(NAME, folder), curves_section("nothing", folder / "nothing")])


def board(folder):
    """More methods than colours, of which none knows how long its training took."""
    training = {"steps": 2, "seconds": 0.0, "processes": 1}
    made = [
        record(40.0 + place, method=name, trainable_params=10 ** (place % 6), training=training)
        for place, name in enumerate(METHODS)
    ]
    return to_html(rows(made))


@pytest.fixture(scope="module", params=[False, True], ids=["light", "dark"])
def browser(request, tmp_path_factory):
    """A browser, and the files of the pages by their names."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {}
    for make in (audit, universes, curves, board):
        (folder / make.__name__).mkdir()
        paths[make.__name__] = folder / f"{make.__name__}.html"
        paths[make.__name__].write_text(make(folder / make.__name__))
    with Page(paths["audit"], folder / "profile", dark=request.param) as page:
        yield page, paths


def shown(browser, name, width):
    page, paths = browser
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.open(paths[name])
    return page


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("name", ["audit", "universes", "curves", "board"])
def test_nothing_is_wider_than_the_window_and_figures_can_be_read(browser, name, width):
    page = shown(browser, name, width)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    heights = page.evaluate(
        "[...document.querySelectorAll('svg text')].map((text) => text.getBoundingClientRect().height)"
    )
    heights = [height for height in heights if height]
    assert heights
    assert min(heights) >= 9
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('svg text')).fill, getComputedStyle(document.body).backgroundColor]"
    )
    levels = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in colours]
    assert abs(levels[0] - levels[1]) > 90
    assert page.complaints == []


def test_no_two_methods_look_the_same(browser):
    page = shown(browser, "board", 1600)
    looks = page.evaluate(
        "[...document.querySelectorAll('.legend i')].map((mark) => mark.className + ' ' + mark.style.background)"
    )
    assert len(looks) == len(set(looks)) == len(METHODS)
    marks = page.evaluate(
        "[...document.querySelector('#charts svg').querySelectorAll('[tabindex]')]"
        ".map((mark) => [mark.localName, !!mark.getAttribute('transform'), mark.getAttribute('fill')].join())"
    )
    assert len(marks) == len(set(marks)) == len(METHODS)


def test_a_chart_of_zeros_has_no_other_tick(browser):
    page = shown(browser, "board", 1600)
    ticks = page.evaluate(
        "[...document.querySelector('svg[aria-label=\"Accuracy and training cost\"]').querySelectorAll('text')]"
        ".map((text) => text.textContent)"
    )
    assert ticks[-3] == "0"  # then the names of both axes
    assert float(ticks[-4]) > 40


def test_seconds_and_shares_begin_at_zero_and_losses_near_their_lowest(browser):
    page = shown(browser, "curves", 1600)
    lowest = page.evaluate(
        "[...document.querySelectorAll('svg')].map((chart) => chart.querySelectorAll('text')[1].textContent)"
    )
    assert lowest[1:] == ["0", "0", "0"]
    assert float(lowest[0]) > 0
