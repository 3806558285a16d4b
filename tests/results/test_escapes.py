"""Names in tables that other programs read: shown as they are, executed by none."""

import csv
import io
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.results.fakes import record
from vlbench.names import one_line
from vlbench.results.leaderboard import rows
from vlbench.results.regression import Band, Check, to_junit
from vlbench.results.regression import to_markdown as checks_to_markdown
from vlbench.results.report import ClassReport, reports_csv
from vlbench.results.tables import to_csv, to_latex, to_markdown

pytestmark = pytest.mark.quick

NAMES = st.text(
    st.characters(codec="utf-8") | st.sampled_from(list("\\|*_<>`[]()#~&$!:/.@=+-'\"\t\r\n;,%{}^")), min_size=1
)
EVIL = (
    "ucf101\n\\input{/etc/passwd}", "a\r\n\\write18{id}", "a\u2028\\input{x}", "=cmd|' /C calc'!A0", "+1+1", "-2+3",
    "@SUM(A1)", "\t=1", " =1", "\uff1d1", "[x](javascript:alert(1))", "![x](http://a.b/c.png)", "https://a.b/c",
    "www.a.b", "a@b.c", "# x #", "a | b", "`x`", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "~~x~~", "$x$",
    "\x1b[31mred", "a\x00b", "[1ex]", "*",
)  # fmt: skip


def evil(test):
    for name in EVIL:
        test = example(name)(test)
    return test


def of(name):
    return rows([record(50.0, method=name, dataset=name)])


@evil
@given(NAMES)
def test_a_spreadsheet_computes_no_cell(name):
    (header, line) = csv.reader(io.StringIO(to_csv(of(name)), newline=""))
    cells = dict(zip(header, line, strict=True))
    for cell in cells.values():
        assert not re.match(r"\s*[=@\uff1d\uff0b\uff0d\uff20]", cell)
        assert not re.match(r"\s*[+-]", cell) or re.fullmatch(r"[+-][\d.e+-]+", cell)
        assert one_line(cell) == cell
    assert cells["method"].removeprefix("'") == one_line(name).removeprefix("'")
    assert cells["top1"] == "50.0"


def test_numbers_stay_numbers_in_csv():
    report = ClassReport("-walk", 3, 0, 1, -33.5, 4, None, "-7", 2)
    assert reports_csv([report]).splitlines()[1] == "'-walk,3,0,1,-33.5,4,,-7,2"


def shown(text):
    """What a reader sees of Markdown; fails on anything that is not plain text in headings and tables."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    seen = []
    for token in parser.parse(text):
        assert re.fullmatch(r"(heading|table|thead|tbody|tr|th|td)_(open|close)|inline", token.type)
        for inner in token.children or ():
            assert inner.type in ("text", "text_special"), inner
        if token.type == "inline":
            seen.append("".join(inner.content for inner in token.children))
    return seen


@evil
@given(NAMES)
def test_markdown_shows_a_name_and_nothing_else(name):
    text = to_markdown(of(name))
    title, *cells = shown(text)
    assert one_line(name).strip() in title
    assert one_line(name).strip() in cells
    assert len(text.splitlines()) == 5
    assert not re.search(r"(?<!\\)://|www\.|(?<!\\)\$", text)
    check = Check(name, name, Band(-1.5, -2.0, -1.0), -1.5)
    title, *cells = shown(checks_to_markdown(name, [check]))
    assert title == one_line(name).strip()
    assert cells[6:10] == [one_line(name).strip()] * 2 + ["-1.5", "-2 .. -1"]


@evil
@given(NAMES)
def test_latex_runs_nothing(name):
    lines = to_latex(of(name)).splitlines()
    commands = [line.split("{")[0] for line in lines[1:] if not line.endswith(r"\\")]
    assert commands == [r"\begin", r"\toprule", r"\midrule", r"\bottomrule", r"\end"]
    assert lines[0].startswith("% few_shot@1, ")
    assert len(lines) == 8
    signs = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
             r"\textgreater{}": ">", r"\textbar{}": "|", "{[}": "[", "{*}": "*"}  # fmt: skip
    cell = lines[5].removesuffix(r" \\").split(" & ")[1]
    known = "|".join(map(re.escape, signs)) + r"|\\[&%$#_{}]"
    assert not re.search(r"[\\{}&%$#_~^<>|]", re.sub(known, "", cell))
    assert not re.match(r"\s*[\[*]", cell)
    assert re.sub(known, lambda match: signs.get(match[0], match[0][-1]), cell) == one_line(name)


@evil
@given(NAMES)
def test_junit_is_xml(name):
    root = ElementTree.fromstring(to_junit(name, [Check(name, name, Band(1.0, 1.0, 1.0), 2.0)]))
    (case,) = root.iter("testcase")
    assert case.attrib == {"classname": one_line(name), "name": one_line(name)}
