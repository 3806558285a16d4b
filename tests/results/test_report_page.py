"""The page of one evaluation: what is in it, and what a browser makes of it."""

import base64
import json
import re
import time

import numpy as np
import pytest
import torch
from torchvision.io import ImageReadMode, decode_image

from tests.pages import assert_loads_nothing
from tests.results.browser import Page
from tests.results.fakes import store
from vlbench.results.confusion_map import picture
from vlbench.results.report import confusion_matrix
from vlbench.results.report_page import confused_pairs, pictured_videos, to_html
from vlbench.results.stored import StoredEvaluation

EVIL = '</script><script>document.title="broken"</script><b>&"\'{{style}}\x1b[2J\u202e\x00\n'


def evaluation(folder, classes=12, videos=300, lost=4, names=None, name="run", seed=0):
    """An evaluation whose classes are alike in groups of four."""
    random = np.random.default_rng(seed)
    axes = random.normal(size=(classes // 4 + 1, 32))[np.arange(classes) // 4] + 0.6 * random.normal(size=(classes, 32))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    labels = random.integers(classes, size=videos)
    features = axes[labels] + 0.2 * random.normal(size=(videos, 32))
    cosines = features @ axes.T / np.linalg.norm(features, axis=1, keepdims=True)
    powers = np.exp(12 * cosines)
    failures = {f"lost/{k}.mp4": k % classes for k in range(lost)}
    store(
        folder, name, powers / powers.sum(axis=1, keepdims=True), labels, cosines=cosines, failures=failures,
        classes=names or [f"class {k}" for k in range(classes)],
    )  # fmt: skip
    return StoredEvaluation.load(name, folder)


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


# What is in it -------------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_the_page_says_what_the_record_says(tmp_path):
    stored = evaluation(tmp_path)
    page = to_html(stored)
    elements = assert_loads_nothing(page)
    data, matrix = data_of(page), confusion_matrix(stored)
    place = [stored.classes.index(name) for name in data["classes"]]
    assert sorted(place) == list(range(12))
    for row, label in zip(data["rows"], place, strict=True):
        counts = dict(zip(row[::2], row[1::2], strict=True))
        assert counts.pop(12, 0) == matrix[label, -1]
        assert {place[column]: n for column, n in counts.items()} == {
            column: n for column, n in enumerate(matrix[label, :-1].tolist()) if n
        }
    for expected in ("304 of 12 classes, 4 unreadable", f"{stored.record.metrics['top1']:.2f} %", "lost/3.mp4"):
        assert expected in elements.text
    assert len(elements.all("button")) == min(25, np.count_nonzero(matrix[:, :-1]) - 12)
    assert "What they look like" not in elements.text
    identifiers = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(identifiers) == len({*identifiers})


@pytest.mark.quick
def test_pairs_are_ordered_by_their_videos_and_show_the_surest_ones(tmp_path):
    scores = np.full((8, 3), 0.1)
    given = [1, 1, 1, 2, 0, 0, 2, 2]
    scores[np.arange(8), given] = [0.3, 0.9, 0.5, 0.9, 0.6, 0.7, 0.9, 0.9]
    store(tmp_path, "run", scores, [0, 0, 0, 0, 1, 1, 2, 2], classes=["a", "b", "c"], failures={"x": 1})
    pairs = confused_pairs(StoredEvaluation.load("run", tmp_path))
    assert [tuple(pair) for pair in pairs] == [
        (0, 1, 3, 4, ("v1.mp4", "v2.mp4")), (1, 0, 2, 3, ("v5.mp4", "v4.mp4")), (0, 2, 1, 4, ("v3.mp4",)),
    ]  # fmt: skip
    assert pictured_videos(pairs) == ["v1.mp4", "v2.mp4", "v5.mp4", "v4.mp4", "v3.mp4"]


@pytest.mark.quick
def test_frames_are_shown_and_what_has_none_says_why(tmp_path):
    stored = evaluation(tmp_path)
    first, second, *_ = pictured_videos(confused_pairs(stored))
    elements = assert_loads_nothing(to_html(stored, {first: b"\xff\xd8jpeg", second: "it is <i>empty</i>"}))
    assert [img["alt"] for img in elements.all("img")][1:] == [f"Middle frame of {first}"]
    assert "no frame: it is <i>empty</i>" in elements.text
    assert "no frame: it was not looked for" in elements.text


@pytest.mark.quick
def test_hostile_names_stay_text(tmp_path):
    names = [EVIL, "=cmd", *(f"class {k}" for k in range(10))]
    stored = evaluation(tmp_path, names=names, name="a<b>&{{script}}")
    store(tmp_path, "lost", np.eye(12)[[1, 0]], [0, 1], failures={EVIL: 0}, classes=names, dataset=EVIL)
    for each in (stored, StoredEvaluation.load("lost", tmp_path)):
        video = confused_pairs(each)[0].examples[0]
        page = to_html(each, {video: EVIL})
        page.encode()
        elements = assert_loads_nothing(page)
        assert len(elements.all("script")) == 2
        assert not elements.all("b")[12:]  # the numbers of the rows
        assert not set("\x1b\u202e\x00") & {*page}
        assert "{{style}}" in elements.text
        assert "\\u202e" in elements.text
        assert any(name.startswith('</script><script>document.title="broken"') for name in data_of(page)["classes"])


@pytest.mark.quick
def test_one_class_no_errors_and_nothing_readable(tmp_path):
    one = assert_loads_nothing(to_html(evaluation(tmp_path, classes=1, videos=5, lost=0, name="one"), {}))
    for expected in ("No readable video was given to a wrong class.", "Every video could be read.", "There are none."):
        assert expected in one.text
    nothing = np.zeros((0, 4))
    store(tmp_path, "none", nothing, [], failures={f"v{k}": k for k in range(4)})
    none = assert_loads_nothing(to_html(StoredEvaluation.load("none", tmp_path)))
    assert "Histogram and reliability diagram are left out: no video could be read." in none.text
    assert "4 of 4 videos; each counts as wrong." in none.text
    store(tmp_path, "cosines", [[0.3, 0.2, 0.1, 0.0]], [0])
    cosines = assert_loads_nothing(to_html(StoredEvaluation.load("cosines", tmp_path)))
    assert "the record does not say which factor makes them logits" in cosines.text


@pytest.mark.quick
@pytest.mark.parametrize("lost", [0, 2])
def test_the_picture_has_a_pixel_a_cell(lost):
    """Read by another decoder: blue on the diagonal, orange beside it, the shade by the share of the row."""
    matrix = np.array([[8, 2, 0, 0], [0, 10, 0, 0], [1, 0, 9, lost]])
    element = picture(matrix)
    dark, light = (
        decode_image(torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8), ImageReadMode.RGB)
        for text in re.findall(r"base64,([^\"]+)", element)
    )
    for pixels, ground in ((light, (255, 255, 255)), (dark, (0x1A, 0x1F, 0x26))):
        assert pixels.shape == (3, 3, 5 if lost else 3)
        red, _, blue = pixels.int()
        assert tuple(pixels[:, 1, 0].tolist()) == ground
        assert (blue > red).diagonal().all()
        assert red[0, 1] > blue[0, 1]
        assert red[2, 0] > blue[2, 0]
        distance = (pixels.int() - torch.tensor(ground)[:, None, None]).abs().sum(0)
        assert distance[0, 1] > distance[2, 0] > 60  # two of ten and one of ten or twelve
        assert distance[1, 1] > distance[0, 0]
        if lost:
            assert tuple(pixels[:, 2, 3].tolist()) == ground
            assert distance[2, 4] > 60


def test_400_classes_are_a_small_page_made_soon(tmp_path):
    stored = evaluation(tmp_path, classes=400, videos=20_000, lost=30, seed=3)
    begin = time.process_time()
    page = to_html(stored)
    assert time.process_time() - begin < 5
    assert len(page.encode()) < 1_000_000
    assert len(data_of(page)["classes"]) == 400


# What a browser makes of it ------------------------------------------------------------------------------------------

CONTRAST = """
(() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((value) => channel(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)|transparent/.test(color)) return color;
    }
  };
  const poor = [];
  for (const node of document.body.querySelectorAll("*")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length || ["SCRIPT", "title"].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(node instanceof SVGElement ? style.fill : style.color), light(ground(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${node.tagName} ${node.textContent.slice(0, 20)} ${style.color}`);
  }
  return poor;
})()
"""  # noqa: E501


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    stored = evaluation(
        folder,
        classes=400,
        videos=4000,
        lost=9,
        names=[EVIL, *(f"a rather long name of a class {k}" for k in range(399))],
    )
    path = folder / "page.html"
    frame = base64.b64decode("R0lGODlhAQABAAAAACw=")
    videos = pictured_videos(confused_pairs(stored))
    path.write_text(to_html(stored, {video: frame if k % 2 else "no frames " * 30 for k, video in enumerate(videos)}))
    return path


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request, html, tmp_path_factory):
    with Page(html, tmp_path_factory.mktemp("profile"), dark=request.param == "dark") as opened:
        yield opened


def resize(page, width):
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)


def press(page, key, code=0):
    for kind in ("rawKeyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def cell(page):
    return page.evaluate(
        "[Number(document.getElementById('true').value), Number(document.getElementById('given').value)]"
    )


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_window_and_text_is_read_well(page, width):
    resize(page, width)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for node in ("#box", ".scroll", "h1", ".card", ".chart", "select"):
        assert page.evaluate(
            f"[...document.querySelectorAll('{node}')].every((n) => n.getBoundingClientRect().right <= innerWidth)"
        ), node
    page.evaluate("document.querySelector('details').open = true")
    assert page.evaluate(CONTRAST) == []
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('#map img, svg').length") == 3
    assert page.evaluate("document.querySelector('#map img').naturalWidth") == 402


def test_it_asks_nobody_and_names_are_text(page, html):
    assert [url for url in page.requests if not url.startswith("data:")] == [html.as_uri()]
    assert page.evaluate("document.title").endswith("vlbench report")
    assert page.evaluate("document.querySelectorAll('option b, td b, th b, h3 b').length") == 0


def test_the_keyboard_moves_the_cell_and_the_sentence_says_it(page, html):
    data = data_of(html.read_text())
    resize(page, 1600)
    page.evaluate("document.querySelector('nav a:last-child').focus()")
    for _ in range(4):  # three selections, then the matrix
        press(page, "Tab", 9)
    assert page.evaluate("document.activeElement.id") == "picture"
    for node in ("picture", "box"):  # also where the edge of the picture is out of sight
        assert page.evaluate(f"getComputedStyle(document.getElementById('{node}')).outlineStyle") == "solid"
    page.evaluate("select(17, 20)")
    for key, code, expected in (
        ("ArrowRight", 39, [17, 21]), ("ArrowDown", 40, [18, 21]), ("ArrowLeft", 37, [18, 20]),
        ("ArrowUp", 38, [17, 20]),
        ("PageDown", 34, [27, 20]), ("End", 35, [27, 400]), ("ArrowRight", 39, [27, 400]), ("Home", 36, [27, 0]),
        ("ArrowLeft", 37, [27, 0]), ("PageUp", 33, [17, 0]), ("PageUp", 33, [7, 0]), ("PageUp", 33, [0, 0]),
    ):  # fmt: skip
        press(page, key, code)
        assert cell(page) == expected, key
    row = next(k for k, flat in enumerate(data["rows"]) if len(flat) > 4)
    page.evaluate(f"select({row}, 0)")
    press(page, "Enter", 13)
    counts = dict(zip(data["rows"][row][::2], data["rows"][row][1::2], strict=True))
    _, column = cell(page)
    assert counts[column] == max(n for label, n in counts.items() if label not in (row, 400))
    assert page.evaluate("document.getElementById('said').textContent") == (
        f"true {data['classes'][row]} → predicted {data['classes'][column]}: {counts[column]} of {sum(counts.values())}"
    )
    # The cursor is in sight, also of large cells, and lies on its cell.
    page.evaluate("byId('width').value = 24; byId('width').dispatchEvent(new Event('change'))")
    numbers = "[...document.querySelectorAll('.columns span:not([hidden])')].map((node) => node.textContent)"
    assert page.evaluate(numbers) == [*map(str, range(1, 401)), "not read"]
    for _ in range(3):
        press(page, "PageDown", 34)
    row, column = cell(page)
    at = "(({left, top}) => [left, top])(document.getElementById('%s').getBoundingClientRect())"
    (left, top), (x, y) = page.evaluate(at % "picture"), page.evaluate(at % "cursor")
    assert [round((x - left) / 24), round((y - top) / 24)] == [column, row]
    box_left, box_top = page.evaluate(at % "box")
    assert x > box_left
    assert y > box_top
    page.evaluate("byId('width').value = 2; byId('width').dispatchEvent(new Event('change'))")
    assert page.evaluate(numbers) == ["1", *map(str, range(20, 401, 20)), "not read"]


def test_a_click_a_button_and_the_search(page):
    resize(page, 1600)
    page.evaluate("document.querySelectorAll('button[data-row]')[3].click()")
    expected = page.evaluate(
        "(({row, column}) => [+row, +column])(document.querySelectorAll('button[data-row]')[3].dataset)"
    )
    assert cell(page) == expected
    assert page.evaluate("document.activeElement.id") == "picture"
    page.evaluate("document.getElementById('search').value = 'class 17'")
    page.evaluate("document.getElementById('search').dispatchEvent(new Event('input'))")
    shown = page.evaluate(
        "[...byId('classes').tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.textContent)"
    )
    assert 0 < len(shown) < 400
    assert all("class 17" in text for text in shown)
    x, y = page.evaluate(
        "(({left, top}) => [left, top])((byId('matrix').scrollIntoView(), byId('box').scrollTo(0, 0), picture)"
        ".getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.send(
            "Input.dispatchMouseEvent", type=kind, x=x + 2 * 30 + 1, y=y + 2 * 12 + 1, button="left", clickCount=1
        )
    assert cell(page) == [12, 30]
    lost = next(k for k, flat in enumerate(page.evaluate("data.rows")) if 400 in flat[::2])
    page.evaluate(f"select({lost}, 400)")
    assert "could not be read: 1 of" in page.evaluate("document.getElementById('said').textContent")
