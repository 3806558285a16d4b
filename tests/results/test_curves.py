"""The page of trainings: whatever logs are there, it is whole, and names are text."""

import re
from html.parser import HTMLParser

import pytest

from vlbench.results.curves import curves_page, curves_section
from vlbench.results.training_logs import read_curves

pytestmark = pytest.mark.quick

HEADER = "epoch,step,train/loss,train/lr,train/step_seconds,train/data_share\n"


def page_of(trainings):
    return curves_page(curves_section(name, folder) for name, folder in trainings.items())


def log(folder, version, text):
    path = folder / "lightning_logs" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def lines(first, last, loss):
    return HEADER + "".join(f"0,{step},{loss},0.1,0.5,0.25\n" for step in range(first, last))


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.names = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)


def test_every_training_has_four_curves(tmp_path):
    log(tmp_path / "a", 0, lines(0, 5, 2.0))
    page = page_of({"a": tmp_path / "a"})
    titles = re.findall(r'aria-label="(.*?)"', page)
    assert titles == ["loss", "learning rate", "seconds a step", "share of waiting for data"]
    assert page.count("<polyline") == 4
    assert page.endswith("</body>\n</html>\n")


def test_a_continued_training_is_one_curve(tmp_path):
    """What the first start did beyond the checkpoint that the second one began with was done again."""
    log(tmp_path, 2, lines(6, 8, 1.0))
    log(tmp_path, 10, lines(7, 12, 0.5))
    log(tmp_path, 0, lines(0, 9, 2.0))
    points = read_curves(tmp_path)["train/loss"]
    assert points == [*((step, 2.0) for step in range(6)), (6, 1.0), *((step, 0.5) for step in range(7, 12))]


@pytest.mark.parametrize(
    "text",
    [
        "", "\x00\x01", HEADER, "step\n1\n", HEADER + "0,1\n", HEADER + "0,x,1,1,1,1\n", HEADER + "0,1,nan,inf,-inf,\n",
        HEADER + "0,1,,,,\n", '"' * 200_000,
    ],
)  # fmt: skip
def test_logs_without_an_entry_are_survived(tmp_path, text):
    log(tmp_path / "a", 0, text)
    (tmp_path / "a/lightning_logs/version_x").mkdir()
    (tmp_path / "a/lightning_logs/version_1/metrics.csv").mkdir(parents=True)
    assert page_of({"a": tmp_path / "a", "gone": tmp_path / "gone"}).count("no entry of a log") == 2


@pytest.mark.parametrize("loss", [0.0, -3.0, 1e-30, 1e30])
def test_one_point_or_a_flat_curve_has_a_scale(tmp_path, loss):
    for steps in (1, 3):
        log(tmp_path / str(steps), 0, lines(0, steps, loss))
        page = page_of({"a": tmp_path / str(steps)})
        assert page.count("<polyline") == 4
        assert "nan" not in page.lower().replace("nano", "")


def test_a_long_training_is_drawn_by_some_of_its_points(tmp_path):
    log(tmp_path, 0, lines(0, 50_000, 1.0))
    page = page_of({"a": tmp_path})
    assert len(page) < 200_000
    assert page.count("step 49999") == 4


def test_names_are_text_and_nothing_is_loaded(tmp_path):
    name = '</h2><script>alert(1)</script><img src="http://elsewhere/x">\n&'
    log(tmp_path, 0, lines(0, 3, 1.0))
    page = page_of({name: tmp_path})
    assert not {"script", "img", "iframe"} & {*Tags(page).names}
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
